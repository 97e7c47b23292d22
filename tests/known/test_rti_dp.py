"""RTI-DP: plans that begin with the one before them, worked by hand (card rti-dp)."""

import pytest
import torch
from gymnasium.spaces import Box

from helpers import differing, logged_recipe, metrics
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.denoise import sampling
from pilotage.policies.plans import LevelPlanner
from pilotage.policies.realtime import RealTimePlanner, shifted, signs
from pilotage.rollouts.episodes import Episodes
from pilotage.run.recipe import difference
from pilotage.worlds.gym import GymWorld

SEEN, UNIT = Box(-9, 9, (3,)), Box(-1, 1, (2,))
SIZES = {"history": 2, "horizon": 3, "execute": 1, "hidden": (16,), "levels": 100}
POINT = torch.tensor([0.4, -0.6])


def planner(kind=RealTimePlanner, **settings):
    """With a network that says something: the last layer of a fresh one says 0."""
    made = kind(SEEN, UNIT, **{**SIZES, **settings})
    with torch.no_grad():
        for name, parameter in sorted(made.actor.named_parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return made


class Knows(RealTimePlanner):
    """Its network is the exact one of data that are one point."""

    def say(self, noisy, time, states, goal):
        level = int((self.process.told == time).nonzero())
        keeps, adds = self.process.coefficients[:, level]
        return (noisy - keeps * POINT) / adds


def act(policy, lanes, seed=0, seen=None):
    seen = torch.zeros(len(lanes), 3) if seen is None else seen
    return policy.act(seen, torch.arange(seed, seed + len(lanes)), lanes=lanes)[0]


def plans(policy, lanes):
    return policy.memory()["plan"][lanes]


@pytest.mark.parametrize("warm", [(0,), (2, 1, 0), (5, 3, 1, 0), (40, 20, 7, 0)])
@pytest.mark.parametrize("guess", ["previous", "noised", "noise"])
def test_a_list_that_ends_with_0_finds_the_point(warm, guess):
    policy = Knows(SEEN, UNIT, **SIZES, warm=warm, guess=guess)
    policy.reset([0, 1])
    for tick in range(3):
        assert act(policy, [0, 1], 10 * tick) == pytest.approx(POINT.expand(2, 2), abs=1e-5)


def test_shifting_drops_what_was_executed_and_repeats_the_last():
    plan = torch.arange(4.0).reshape(1, 4, 1)
    assert shifted(plan, 1).flatten().tolist() == [1, 2, 3, 3]
    assert shifted(plan, 3).flatten().tolist() == [3, 3, 3, 3]
    assert shifted(plan, 1).shape == plan.shape


def test_the_guess_is_the_last_plan_shifted_by_what_is_executed():
    for execute in (1, 2):
        policy = planner(warm=(2, 1, 0), execute=execute)
        policy.reset([0])
        act(policy, [0])
        assert torch.equal(policy.guesses(torch.tensor([0])), shifted(plans(policy, [0]), execute))
    still = planner(warm=(2, 1, 0), shift=False)
    still.reset([0])
    act(still, [0])
    assert torch.equal(still.guesses(torch.tensor([0])), plans(still, [0]))


def test_later_plans_are_the_posterior_steps_from_the_guess():
    policy = planner(warm=(5, 3, 0))
    policy.reset([0])
    act(policy, [0], 1)
    guess = policy.guesses(torch.tensor([0]))
    seen = policy.memory()["seen"][[0]]
    act(policy, [0], 2)
    _, *noise = policy.draws(torch.tensor([2]), 4)
    sample = guess
    for level, drawn in zip((5, 3, 0), noise, strict=True):
        clean = policy.denoiser(seen)(sample, torch.tensor([level])).clamp(-1, 1)
        sample = sampling.posterior(policy.process, sample, clean, level, level - 1).sample(drawn)
    assert torch.equal(plans(policy, [0]), sample)
    assert not torch.equal(guess, sample)


def test_all_levels_from_noise_are_the_ordinary_sampler_to_the_bit():
    ordinary, warm = planner(LevelPlanner), planner(warm=tuple(range(99, -1, -1)), guess="noise")
    for policy in (ordinary, warm):
        policy.reset([0, 1])
    for tick in range(3):
        seen = torch.randn(2, 3, generator=torch.Generator().manual_seed(tick))
        assert torch.equal(act(ordinary, [0, 1], tick, seen), act(warm, [0, 1], tick, seen))
        assert torch.equal(plans(ordinary, [0, 1]), plans(warm, [0, 1]))


def test_level_0_alone_is_the_prediction_clipped():
    policy = planner(warm=(0,))
    policy.reset([0])
    act(policy, [0])
    guess, seen = policy.guesses(torch.tensor([0])), policy.memory()["seen"][[0]]
    act(policy, [0], 7)
    assert torch.equal(plans(policy, [0]), policy.denoiser(seen)(guess, torch.tensor([0])).clamp(-1, 1))


def test_quiet_plans_draw_nothing_and_others_do():
    for quiet in (True, False):
        found = []
        for seed in (5, 6):
            policy = planner(warm=(2, 1, 0), quiet=quiet)
            policy.reset([0])
            act(policy, [0])
            act(policy, [0], seed)
            found.append(plans(policy, [0]))
        assert torch.equal(*found) == quiet


def test_a_noised_guess_has_the_noise_of_its_level():
    policy = planner(warm=(20, 10, 0), guess="noised")
    starts = []
    policy.reset([0])
    act(policy, [0])
    guess = policy.guesses(torch.tensor([0]))
    denoiser = policy.denoiser

    def noting(seen):
        inner = denoiser(seen)
        return lambda noisy, level: (starts.append(noisy), inner(noisy, level))[1]

    policy.denoiser = noting
    act(policy, [0], 3)
    (fresh,) = policy.draws(torch.tensor([3]), 1)
    keeps, adds = policy.process.coefficients[:, 20]
    assert torch.equal(starts[0], keeps * guess + adds * fresh)
    assert float(adds) == pytest.approx(0.3330, abs=1e-4)


def test_lanes_that_begin_at_different_times_keep_their_own_guesses():
    alone, together = planner(warm=(2, 1, 0)), planner(warm=(2, 1, 0))
    seen = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    alone.reset([1])
    together.reset([0, 1])
    for tick in range(6):
        if tick == 3:
            together.reset([0])  # only the other lane begins anew
        wanted = alone.act(seen[tick, 1:], torch.tensor([100 + tick]), lanes=[1])[0]
        found = together.act(seen[tick], torch.tensor([tick, 100 + tick]), lanes=[0, 1])[0]
        assert found[1:] == pytest.approx(wanted, abs=1e-6)


def test_a_new_episode_takes_all_levels():
    calls = []

    class Counts(RealTimePlanner):
        def say(self, noisy, time, states, goal):
            calls.append(len(noisy))
            return super().say(noisy, time, states, goal)

    policy = Counts(SEEN, UNIT, **SIZES, warm=(2, 1, 0))
    policy.reset([0, 1])
    spent = []
    for tick in range(5):
        if tick == 3:
            policy.reset([0])
        calls.clear()
        act(policy, [0, 1], tick)
        spent.append(sorted(calls))
    assert spent == [[2] * 100, [2] * 3, [2] * 3, [1] * 103, [2] * 3]


def test_a_gripper_is_clipped_in_the_guess_and_executed_as_its_sign():
    policy = planner(warm=(0,), discrete=(1,), rule="clip", factor=10.0)
    policy.reset([0, 1])
    act(policy, [0, 1])
    held = policy.memory()
    held["plan"][:, :, 1] = torch.tensor([0.03, -0.2]).reshape(2, 1)
    held["plan"][:, :, 0] = 0.5
    policy.remember(held)
    guess = policy.guesses(torch.tensor([0, 1]))
    assert guess[..., 1].unique(dim=1).flatten().tolist() == pytest.approx([0.1, -0.1])
    assert guess[..., 0].unique().tolist() == [0.5]
    assert policy.executed(torch.tensor([[0.5, 0.03], [1.5, -0.2]])).tolist() == [[0.5, 1.0], [1.0, -1.0]]
    assert signs(torch.tensor([0.0, 1e-9])).tolist() == [-1.0, 1.0]
    assert policy.to_unit(torch.tensor([0.5, 1.0])).tolist() == [0.5, 1.0]  # the data stay as they are


def test_a_scaled_gripper_is_small_in_the_data_and_not_clipped_in_the_guess():
    policy = planner(warm=(0,), discrete=(1,), rule="scale", factor=10.0)
    assert policy.to_unit(torch.tensor([[0.5, 1.0], [0.5, -1.0]])).tolist() == [
        pytest.approx([0.5, 0.1]), pytest.approx([0.5, -0.1]),
    ]  # fmt: skip
    policy.reset([0])
    act(policy, [0])
    assert torch.equal(policy.guesses(torch.tensor([0])), shifted(plans(policy, [0]), 1))
    assert policy.executed(torch.tensor([[0.5, 0.03]])).tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"warm": (2, 1)}, r"falls to 0, such as \[2,1,0\]; not \[2, 1\]"),
        ({"warm": (1, 2, 0)}, "falls to 0"),
        ({"warm": (100, 0)}, "levels below 100"),
        ({"guess": "previus"}, "did you mean 'previous'"),
        ({"rule": "scales"}, "did you mean 'scale'"),
        ({"discrete": (2,)}, "discrete dimensions are 0 to 1"),
        ({"discrete": (1,), "factor": 0.5}, "factor is at least 1"),
    ],
)
def test_mistakes(settings, said):
    with pytest.raises(UsageError, match=said):
        planner(**settings)


OFF = {"policy.warm": (), "policy.execute": 8}


def test_off_is_the_baseline_in_training_and_acting(tmp_path):
    short = {"policy.levels": 5, "evaluation.max_steps": 20}
    made = {
        "off": logged_recipe("rti-dp", settings={**short, **OFF}),
        "base": logged_recipe("diffusion-policy", settings=short),
        "on": logged_recipe("rti-dp", settings=short),
    }
    assert {path for path, *_ in difference(made["on"], made["base"])} >= {"policy.warm", "policy.execute"}
    runs = {name: api.train(recipe, out=tmp_path / name) for name, recipe in made.items()}
    policies = {name: run.load().policy for name, run in runs.items()}
    states = {name: dict(policy.state_dict()) for name, policy in policies.items()}
    assert differing(states["off"], states["base"]) == []
    assert differing(states["on"], states["base"]) == []  # it learns alike, and acts otherwise
    assert metrics(runs["off"].folder) == metrics(runs["base"].folder)
    world = GymWorld(env_id="Pendulum-v1")
    tasks = [world.task(i, "held_out") for i in range(2)]
    played = {
        name: Episodes(max_steps=20).play(policy, world, tasks, 1, Streams(0), "evaluate", 0)["action"]
        for name, policy in policies.items()
    }
    world.close()
    assert torch.equal(played["off"], played["base"])
    assert not torch.equal(played["on"], played["base"])


def test_it_may_start_from_a_diffusion_policy_and_learn_nothing(tmp_path):
    base = logged_recipe("diffusion-policy", settings={"policy.levels": 5})
    recipe = logged_recipe("rti-dp", settings={"policy.levels": 5}).vary("test", {"start": base, "steps": 0})
    run = api.train(recipe, out=tmp_path / "run")
    found = run.load()
    started = api.train(base, out=tmp_path / "base").load()
    assert found.judged is not found.policy
    # a start gives the weights that were judged: the average
    assert differing(dict(found.judged.state_dict()), dict(started.judged.state_dict())) == []
    assert len(metrics(run.folder)) == 1
