"""Policies that act by plans: horizons that recede, lanes kept apart, noise by address, goals, guidance; and the
methods that learn them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from helpers import differing, goals_recipe, logged_recipe, metrics, policy_state, tiny_maze
from pilotage import api
from pilotage.data.piece import Piece, UsageError, piece
from pilotage.data.rng import Streams
from pilotage.learn.learner import Learner
from pilotage.learn.terms import Target
from pilotage.losses.denoise import denoising_error
from pilotage.policies.base import rows_of
from pilotage.policies.plans import LevelPlanner, RegressedPlanner, SigmaPlanner
from pilotage.policies.waypoints import Wanderer
from pilotage.rollouts.window import Window
from pilotage.run.assemble import assemble
from pilotage.worlds.gym import GymWorld

SEEN, ACTS = Box(-9, 9, (5,)), Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 4.0], np.float32))
SMALL = {"hidden": (16,), "width": 8, "layers": 1, "heads": 2}
KINDS = {"mean": RegressedPlanner, "levels": LevelPlanner, "sigmas": SigmaPlanner}
BRIEF = {"mean": {}, "levels": {"levels": 4, "execute": 1}, "sigmas": {}}


def planner(kind: str = "sigmas", **settings):
    made = KINDS[kind](SEEN, ACTS, **{"history": 2, "horizon": 3, **SMALL, **BRIEF[kind], **settings})
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(
                0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return made


def act(policy, seen, lanes, seed: int = 0):
    noise = torch.arange(seed, seed + len(lanes))
    return policy.act(torch.as_tensor(seen), noise, lanes=lanes)[0]


class Numbered(RegressedPlanner):
    """Its n-th plan says 10 n + place, in hundredths."""

    made = 0

    def plan(self, seen, seeds, lanes):
        self.made += 1
        self.saw = seen
        places = torch.arange(self.span.length) / 100 + self.made / 10
        return places.reshape(1, -1, 1).expand(len(seen), -1, self.width)


@pytest.mark.parametrize("execute", [1, 2, 3])
def test_the_horizon_recedes(execute):
    unit = Box(-1, 1, (2,))
    policy = Numbered(SEEN, unit, history=2, horizon=3, execute=execute, **SMALL)
    policy.reset([0])
    said = [round(float(act(policy, torch.full((1, 5), float(t)), [0])[0, 0]), 2) for t in range(6)]
    # now is index 1 of a window of 4
    wanted = [round((t // execute + 1) / 10 + (1 + t % execute) / 100, 2) for t in range(6)]
    assert said == wanted
    last = 5 - 5 % execute  # when the last plan was made
    assert policy.saw[0, :, 0].tolist() == [max(last - 1, 0), last]


def test_the_first_observation_stands_for_those_before_it():
    policy = Numbered(SEEN, Box(-1, 1, (2,)), history=3, horizon=1, **SMALL)
    policy.reset([0])
    act(policy, torch.full((1, 5), 7.0), [0])
    assert policy.saw[0, :, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_do_not_meet(kind):
    policy = planner(kind, execute=2)
    seen = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(0))
    policy.reset([0, 1])
    together = []
    for t in range(6):
        if t == 3:  # the second lane begins anew
            policy.reset([1])
        together.append(policy.act(seen[t], torch.tensor([t, 50 + t]), lanes=[0, 1])[0])
    policy.remember({})
    policy.reset([0])
    alone = [policy.act(seen[t, :1], torch.tensor([t]), lanes=[0])[0] for t in range(6)]
    assert torch.allclose(torch.stack(together)[:, 0], torch.stack(alone)[:, 0], atol=1e-6)
    policy.remember({})
    policy.reset([4])
    later = [policy.act(seen[t, 1:], torch.tensor([50 + t]), lanes=[4])[0] for t in range(3, 6)]
    assert torch.allclose(torch.stack(together)[3:, 1], torch.stack(later)[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfinished_plan_is_taken_up_again(kind):
    policy, again = planner(kind, execute=3), planner(kind, execute=3)
    seen = torch.randn(5, 2, 5, generator=torch.Generator().manual_seed(0))
    policy.reset([0, 1])
    for t in range(2):
        act(policy, seen[t], [0, 1], seed=10 * t)
    again.remember(policy.memory())
    for t in range(2, 5):
        assert torch.equal(act(policy, seen[t], [0, 1], seed=10 * t), act(again, seen[t], [0, 1], seed=10 * t))


def test_windows_of_play_go_on_in_the_middle_of_a_plan():
    world = GymWorld(env_id="Pendulum-v1")
    made = [SigmaPlanner(world.observation, world.action, horizon=4, execute=4, **SMALL) for _ in range(2)]
    numbers = [iter(range(99)), iter(range(99))]
    plans = [Window(lanes=2, steps=3), Window(lanes=2, steps=3)]

    def play(i: int, step: int):
        return plans[i](made[i], world, lambda: world.task(next(numbers[i]), "train"), Streams(0), step, 1, 1)

    play(0, 0)
    held, memory, where = plans[0].state_dict(), made[0].memory(), world.state_dict()
    whole = play(0, 1)
    world.load_state_dict(where)
    plans[1].load_state_dict(held, world)
    made[1].remember(memory)
    parted = play(1, 1)
    assert torch.equal(whole["action"], parted["action"])
    assert torch.equal(whole["observation"], parted["observation"])
    world.close()


@pytest.mark.parametrize("past", ["denoised", "clean", "renoised"])
def test_what_stands_before_now_while_a_plan_is_made(past):
    shown = []

    class Watches(SigmaPlanner):
        def say(self, noisy, time, states, goal):
            shown.append((noisy / self.process.preconditioning((4 * time).exp())[2], (4 * time).exp()))
            return super().say(noisy, time, states, goal)

    policy = Watches(SEEN, ACTS, history=3, horizon=1, past=past, steps=2, **SMALL)
    policy.reset([0])
    moved = [policy.to_unit(act(policy, torch.full((1, 5), float(t)), [0], seed=t)) for t in range(4)]
    for t in (1, 3):
        first = policy.draws(torch.tensor([t]), 1)[0, :, :2]
        for noisy, level in shown[2 * t : 2 * t + 2]:
            known = torch.stack(moved[max(t - 2, 0) : t], dim=1)  # what had been executed, as far as the window reaches
            before = noisy[:, 2 - known.shape[1] : 2]
            wanted = known + level * first[:, 2 - known.shape[1] :] if past == "renoised" else known
            assert torch.allclose(before, wanted, atol=1e-4) == (past != "denoised")


def test_draws_are_of_the_plan_not_of_its_company():
    policy = planner()
    alone, both = policy.draws(torch.tensor([7]), 2), policy.draws(torch.tensor([3, 7]), 2)
    assert torch.equal(alone[:, 0], both[:, 1])
    assert alone.shape == (2, 1, 4, 2)


@pytest.mark.parametrize("network", ["mlp", "transformer"])
@pytest.mark.parametrize("kind", ["levels", "sigmas"])
def test_guidance_of_one_is_the_conditional_call_and_of_zero_sees_no_goal(kind, network):
    plain, none = (planner(kind, achieved=(0, 1), network=network, guidance=g) for g in (1.0, 0.0))
    seen = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    moved = seen.clone()
    moved[..., 3:] += 1  # another goal
    seeds, lanes = torch.arange(3), torch.arange(3)
    assert not torch.equal(plain.plan(seen, seeds, lanes), plain.plan(moved, seeds, lanes))
    assert torch.equal(none.plan(seen, seeds, lanes), none.plan(moved, seeds, lanes))
    twice = planner(kind, achieved=(0, 1), network=network, guidance=2.0)
    noisy, level = torch.ones(3, 4, 2), torch.tensor([1])
    one, free, two = (p.denoiser(seen)(noisy, level) for p in (plain, none, twice))
    assert torch.allclose(two, 2 * one - free, atol=1e-5)


def test_the_goal_is_no_part_of_the_state():
    policy = planner(achieved=(0, 1))
    seen = torch.randn(3, 2, 5)
    other = seen.clone()
    other[..., 3:] += 1
    assert torch.equal(policy.states(seen), policy.states(other))
    policy.observe(100 + 10 * torch.randn(500, 5))
    goal = torch.tensor([[[100.0, 110.0]]])
    assert torch.allclose(policy.goals(goal), torch.tensor([[[0.0, 1.0]]]), atol=0.2)


def test_actions_are_in_the_worlds_units():
    policy = planner("mean")
    assert torch.allclose(policy.to_world(torch.tensor([[-1.0, 1.0]])), torch.tensor([[-2.0, 4.0]]))
    assert torch.allclose(policy.to_unit(torch.tensor([[0.0, 2.0]])), torch.zeros(1, 2))


def test_all_levels_of_ddpm_are_taken_in_order():
    levels = []

    class Watches(LevelPlanner):
        def say(self, noisy, time, states, goal):
            levels.append(float(time))
            return super().say(noisy, time, states, goal)

    policy = Watches(SEEN, ACTS, levels=6, **SMALL)
    policy.plan(torch.zeros(1, 2, 5), torch.zeros(1, dtype=torch.int64), torch.zeros(1))
    assert len(levels) == 6
    assert all(a > b for a, b in pairwise(levels))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"execute": 4}, "1 to 3 are executed, not 4"),
        ({"network": "unet"}, "mlp, transformer"),
        ({"heads": 3}, "3 does not divide 8"),
        ({"achieved": (0, 9)}, "cannot end with 2 of a goal"),
        ({"history": 0}, "at least 1"),
        ({"past": "cleen"}, "did you mean 'clean'"),
        ({"sampler": "eular"}, "did you mean 'euler'"),
        ({"schedule": "expnential"}, "did you mean 'exponential'"),
    ],
)
def test_mistakes_are_named(settings, said):
    with pytest.raises(UsageError, match=said):
        planner(**settings)


def test_settings_of_the_base_are_listed_with_a_planners_own():
    defaults = piece(SigmaPlanner).defaults()
    assert {"steps", "schedule", "history", "horizon", "execute", "achieved", "hidden"} <= set(defaults)
    assert "seed" in defaults
    with pytest.raises(UsageError, match="did you mean 'horizon'"):
        piece(SigmaPlanner, horizn=2)


# the methods


def losses_of(recipe, folder):
    api.train(recipe, out=folder)
    return [{k: v for k, v in r.items() if "/" in k} for r in metrics(folder) if r["kind"] == "train"]


def test_without_dropping_goals_the_classifier_free_form_is_c_beso(tmp_path):
    made = goals_recipe("beso")
    none, zero = made.vary("test", {"drawn.drop_goals": None}), made.vary("test", {"drawn.drop_goals.share": 0.0})
    one, other = losses_of(none, tmp_path / "none"), losses_of(zero, tmp_path / "zero")
    assert one == other
    assert differing(policy_state(tmp_path / "none"), policy_state(tmp_path / "zero")) == []
    assert losses_of(made.vary("test", {"drawn.drop_goals.share": 0.5}), tmp_path / "half") != one


def test_beso_without_its_noise_is_gcbc(tmp_path):
    base, made = goals_recipe("gcbc"), goals_recipe("beso")
    off = made.vary(
        "test",
        {
            "policy": base.policy,
            "drawn.noised": None,
            "drawn.drop_goals": None,
            "terms.actor.objectives.imitation": base.get("terms.actor.objectives.imitation"),
            "terms.actor.schedule": base.get("terms.actor.schedule"),
            "targets": {},
            "evaluation.policy": "",
        },
    )
    assert losses_of(off, tmp_path / "off") == losses_of(base, tmp_path / "base")
    assert differing(policy_state(tmp_path / "off"), policy_state(tmp_path / "base")) == []
    assert differing(policy_state(tmp_path / "off"), losses_of(made, tmp_path / "on") and policy_state(tmp_path / "on"))


TRANSFORMER = {"policy.network": "transformer", "policy.width": 8, "policy.layers": 1, "policy.heads": 2}
MADE = {
    "beso": lambda: goals_recipe("beso"),
    "beso-transformer": lambda: goals_recipe("beso", settings={**TRANSFORMER, "policy.horizon": 2}),
    "diffusion-policy": lambda: logged_recipe("diffusion-policy"),
    "diffusion-policy-transformer": lambda: logged_recipe("diffusion-policy", settings=TRANSFORMER),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_denoising_loss_is_the_one_worked_out_by_hand(make):
    parts = assemble(make())
    batch = parts.draw(next(parts.store.batches(parts.streams, 0)), 0.0, 0, 0)
    policy, rows = parts.policy, rows_of(batch, needs_past=True)
    terms = denoising_error(**policy.quantities(rows, frozenset({"said", "asked", "level_weight"})))
    assert terms.loss.shape == (int(batch.sampled.sum()),)
    width, span = policy.width, policy.span
    clean = policy.to_unit(batch["action"]).reshape(len(batch), span.length, width)
    levels, noise = batch["level"].reshape(len(batch), -1), batch["noise"].reshape(clean.shape)
    level = levels[:, 0]
    assert torch.equal(levels, level.unsqueeze(1).expand_as(levels))  # one for all actions of a window
    assert len(level.unique()) > 1
    states, goal = policy.conditions(batch)
    noisy = policy.process.noised(clean, level, noise)
    said = policy.say(policy.process.scaled(noisy, level), policy.process.time(level), states, goal)
    if hasattr(policy.process, "preconditioning"):  # in terms of the clean sample, weighted by 1 / c_out²
        out = policy.process.preconditioning(level)[1].reshape(-1, 1, 1)
        each = ((policy.process.clean(noisy, level, said) - clean) / out).square()
    else:
        each = (said - noise).square()
    by_hand = each.mean(-1).flatten()[batch.sampled]
    assert torch.allclose(terms.loss, by_hand, rtol=1e-3, atol=1e-5)
    parts.world.close()


@pytest.mark.parametrize(("name", "make"), [("diffusion-policy", logged_recipe), ("beso", goals_recipe)])
def test_trajectory_weighting_stacks(name, make):
    parts = assemble(make(f"trajectory-weighting+{name}"))
    batch = next(parts.store.batches(parts.streams, 0))
    now = batch["place"].reshape(len(batch), -1)[:, batch["now"][0]]
    record = parts.store.record
    assert bool((record["draw_weight"][now] > 0).all())
    parts.world.close()


def test_padding_is_not_learnt_from():
    parts = assemble(logged_recipe("diffusion-policy", settings={"policy.horizon": 8}))
    batch = parts.draw(next(parts.store.batches(parts.streams, 0)), 0.0, 0, 0)
    assert not bool(batch.sampled.all())
    wanted = parts.policy.quantities(rows_of(batch, True), frozenset({"said", "asked", "level_weight"}))
    assert len(wanted["asked"]) == int(batch.sampled.sum()) < batch.decisions
    parts.world.close()


def test_the_average_of_the_weights_is_what_is_judged():
    parts = assemble(goals_recipe("beso"))
    assert parts.judged is parts.learner.targets["average"]
    assert assemble(goals_recipe("gcbc")).judged.__class__ is RegressedPlanner
    with pytest.raises(UsageError, match=r"evaluation\.policy names a target.*did you mean 'average'"):
        assemble(goals_recipe("beso", settings={"evaluation.policy": "avrage"}))


def test_an_average_warms_up():
    policy = planner("mean")
    learner = Learner(policy, {}, Streams(0), targets={"average": Target("actor", rate=1e-3, warm=True)})
    follower = learner.followers["average"]
    first = next(follower.policy.parameters()).clone()
    with torch.no_grad():
        next(policy.parameters()).add_(1.0)
    follower.follow(1)  # decay min(0.999, 2 / 11)
    assert torch.allclose(next(follower.policy.parameters()), first + 9 / 11, atol=1e-5)
    follower.follow(100_000)
    assert torch.allclose(next(follower.policy.parameters()), first + 9 / 11 + 1e-3 * 2 / 11, atol=1e-5)


def test_a_world_without_goals_is_refused():
    with pytest.raises(UsageError, match="gcbc is for worlds of kind goals"):
        api.recipe("gcbc", "gym:Pendulum-v1")


def test_other_methods_of_boxes_take_worlds_of_goals():
    assert api.recipe("bc", settings={"store.data": tiny_maze()}).world.use.endswith(":PointMazeWorld")


# the maze and its play


class TestMaze:
    def world(self, **settings):
        return Piece("pilotage.worlds.pointmaze:PointMazeWorld", {"maze": "Medium", **settings}).build()

    def test_held_out_goals_are_never_asked_for_in_training(self):
        world = self.world()
        asked = [{tuple(world.task(i, split).payload["goal"]) for i in range(200)} for split in ("train", "held_out")]
        assert not asked[0] & asked[1]
        assert len(asked[0] | asked[1]) == len(world.cells) == 26
        world.close()

    def test_an_observation_ends_with_its_goal(self):
        world = self.world()
        task = world.task(0, "train")
        seen = world.reset([task], [0])
        assert world.cell(*seen[0, :2]) == tuple(task.payload["start"])
        assert world.cell(*seen[0, -2:]) == tuple(task.payload["goal"])
        assert world.cell(*world.place((3, 4))) == (3, 4)
        world.close()

    def test_an_episode_goes_on_exactly(self):
        one, other = self.world(), self.world()
        one.reset([one.task(3, "train")], [0])
        for _ in range(20):
            one.step(np.array([[0.3, -0.8]]), [0])
        other.load_state_dict(one.state_dict())
        a, b = (w.step(np.array([[0.1, 0.2]]), [0]) for w in (one, other))
        assert np.array_equal(a.observation, b.observation)
        one.close(), other.close()

    @pytest.mark.parametrize(
        ("goal", "said"), [((9, 9), "outside the free cells"), ((float("nan"), 0), "outside"), ((1,), "a place")]
    )
    def test_a_goal_outside_is_refused(self, goal, said):
        with pytest.raises(UsageError, match=said):
            self.world(goal=goal)

    def test_a_goal_of_ones_own(self):
        world = self.world(goal=(-2.5, 2.5))
        assert world.reset([world.task(0, "held_out")], [0])[0, -2:].tolist() == [-2.5, 2.5]
        world.close()

    def test_ways_differ_and_are_no_longer_than_allowed(self):
        world = self.world()
        short, long = (world.routes((3, 3), (5, 4), slack) for slack in (0, 8))
        assert len(long) > len(short) >= 1
        assert {len(way) for way in short} == {4}
        for way in long:
            assert len(set(way)) == len(way)
            assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(way))
        world.close()

    def test_a_wanderer_gets_about(self):
        world = self.world(ends_at_goal=False, limit=150)
        policy = Wanderer(world)
        seen = world.reset([world.task(i, "train") for i in range(3)], [0, 1, 2])
        policy.reset([0, 1, 2])
        cells = [set() for _ in range(3)]
        for drawn in policy.noise(np.random.default_rng(0), 3, 150):
            action, _ = policy.act(seen, drawn, lanes=[0, 1, 2])
            seen = world.step(action.numpy(), [0, 1, 2]).observation
            for lane in range(3):
                cells[lane].add(world.cell(*seen[lane, :2]))
        assert all(len(met) >= 8 for met in cells)
        world.close()


def test_draws_are_those_of_a_fresh_generator_for_each_seed():
    policy = planner("levels")
    seeds = torch.tensor([3, 0, 2**63 - 1])
    found = policy.draws(seeds, 5)
    for i, seed in enumerate(seeds.tolist()):
        fresh = np.random.Generator(np.random.Philox(key=seed)).standard_normal((5, 4, 2), np.float32)
        assert np.array_equal(found[:, i].numpy(), fresh)
    assert torch.equal(policy.draws(seeds[1:2], 5), found[:, 1:2])
