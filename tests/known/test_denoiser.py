"""The denoiser that draws: its steps are DDIM's, its densities are recomputed exactly, its last step has none."""

import math

import pytest
import torch

from helpers import chain_recipe
from pilotage.data.chain import Chain
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import rows_of
from pilotage.policies.denoise.sampling import implicit
from pilotage.policies.denoiser import Denoiser
from pilotage.rollouts.episodes import Episodes
from pilotage.run.assemble import assemble
from pilotage.run.evaluate import transcripts
from pilotage.worlds.images import Digits, spaces_of


def drawer(steps=4, **settings):
    world = Digits(steps=steps)
    made = Denoiser(world.observation, world.action, hidden=(32,), embedding=8, **settings)
    torch.nn.init.normal_(made.network.layers[-1].weight, std=0.3)
    torch.nn.init.normal_(made.labels.weight)
    return world, made


def drawn(world, policy, tasks=10, samples=3):
    return Episodes().play(policy, world, [world.task(i, "train") for i in range(tasks)], samples, Streams(0), "x", 0)


def scored(policy, batch):
    return policy.quantities(rows_of(batch, needs_past=False), frozenset(["logp"]))["logp"]


@pytest.mark.parametrize("asks", ["epsilon", "clean"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_its_steps_are_those_of_ddim(asks, clip):
    world, policy = drawer(asks=asks, clip=clip, eta=0.7)
    policy.double()
    batch = drawn(world, policy)
    levels = [*policy.process.spaced(4), -1]
    assert levels == [99, 66, 33, 0, -1]
    for t in range(4):
        seen = batch["observation"][t::4].double()
        latent, label, level = seen[:, :64], seen[:, 65].long(), torch.tensor(levels[t]).expand(len(seen))
        said = policy.says(latent, level, label)
        clean = policy.process.clean(latent, level, said)
        clean = clean if clip is None else clean.clamp(-clip, clip)
        move = implicit(policy.process, latent, clean, levels[t], levels[t + 1], 0.7)
        mean, std = policy._move(seen)
        torch.testing.assert_close(mean, move.mean, rtol=1e-5, atol=1e-5)
        assert std.squeeze(-1).tolist() == pytest.approx([move.std] * len(seen))
        if t < 3:
            action, stored = batch["action"][t::4], batch["behaviour_logp"][t::4]
            torch.testing.assert_close(stored, move.logp(action), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("logp", ["sum", "mean"])
def test_log_probs_are_recomputed_to_1e_6(guidance, logp):
    world, policy = drawer(guidance=guidance, logp=logp)
    policy.double()
    batch = drawn(world, policy)
    again = scored(policy, batch)
    assert float((again.detach() - batch["behaviour_logp"]).abs().max()) < 1e-6
    assert again.requires_grad


def test_the_sum_of_log_ratios_is_64_times_their_mean():
    world, policy = drawer(logp="sum")
    policy.double()
    batch = drawn(world, policy)
    before = scored(policy, batch)
    with torch.no_grad():
        policy.network.layers[-1].weight.mul_(1.01)
    total = scored(policy, batch) - before
    policy.logp = "mean"
    mean = scored(policy, batch) - before / 64
    assert float(total.detach().abs().max()) > 1e-3
    torch.testing.assert_close(total, 64 * mean, rtol=1e-9, atol=1e-9)


def test_guidance_mixes_the_answers_with_and_without_the_label():
    world, policy = drawer(asks="epsilon")
    batch = drawn(world, policy)
    seen, none = batch["observation"], torch.full((batch.decisions,), 10)
    level = policy._level[seen[:, 64].long()]
    with_label, without = (policy.says(seen[:, :64], level, c) for c in (seen[:, 65].long(), none))
    assert not torch.equal(with_label, without)
    policy.guidance, policy.clip = 3.0, None
    mean, _ = policy._move(seen)
    said = without + 3 * (with_label - without)
    picture = policy.process.clean(seen[:, :64], level, said)
    of_picture, of_noise, _ = policy._moves[seen[:, 64].long()].float().unbind(1)
    torch.testing.assert_close(mean, of_picture[:, None] * picture + of_noise[:, None] * said, rtol=1e-3, atol=1e-3)


def test_the_last_step_is_left_out():
    world, policy = drawer(clip=None)
    batch = drawn(world, policy)
    last = batch["observation"][:, 64] == 1
    assert bool((batch["behaviour_logp"][last] == 0).all())
    with torch.no_grad():
        policy.network.layers[-1].weight.mul_(1.5)
    logp = scored(policy, batch)
    assert bool((logp[last] == 0).all())
    assert bool((logp[~last] != batch["behaviour_logp"][~last]).all())
    logp[last].sum().backward()
    assert all(bool((p.grad == 0).all()) for p in policy.parameters() if p.grad is not None)


def test_or_no_deviation_is_below_the_least():
    world, policy = drawer(least_std=0.1)
    batch = drawn(world, policy)
    last = batch["observation"][:, 64] == 1
    mean, std = policy._move(batch["observation"])
    assert float(std.detach().min()) == pytest.approx(0.1)
    scaled = (batch["action"][last] - mean[last]) / 0.1
    by_hand = (-0.5 * scaled.square() - math.log(0.1) - 0.5 * math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(batch["behaviour_logp"][last], by_hand, rtol=1e-4, atol=1e-2)
    assert 0.9 < float(scaled.detach().std()) < 1.1


def test_pictures_of_a_prompt_start_apart_and_those_of_paired_runs_alike():
    first = {}
    for name, samples in (("ddpo", 4), ("loop", 4), ("loop", 2)):
        parts = assemble(chain_recipe(name, settings={"prompts_per_step": 3, "samples_per_prompt": samples}))
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, samples)
        first[name, samples] = batch["observation"][:: parts.world.chain.steps, :64].view(3, samples, 64)
    assert torch.equal(first["ddpo", 4], first["loop", 4])
    assert torch.equal(first["loop", 4][:, :2], first["loop", 2])
    assert len(torch.unique(first["loop", 4].flatten(0, 1), dim=0)) == 12


def test_a_chain_says_what_it_is_by_its_spaces():
    chain = Chain(9, 7, 3)
    assert Chain.of(*spaces_of(chain)) == chain


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"eta": 0.0}, "no denoising step has a density"),
        ({"logp": "max"}, "sum or mean"),
        ({"least_std": 0.0}, "least_std above 0"),
        ({"label_dropout": 1.0}, "label_dropout"),
        ({"asks": "score"}, "no 'score'"),
        ({"levels": 3}, "between 1 and 3 denoising steps"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        drawer(**wrong)


def test_other_worlds_are_refused():
    from gymnasium import spaces

    with pytest.raises(UsageError, match="images:digits"):
        Denoiser(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
    with pytest.raises(UsageError, match="no bound"):
        Denoiser(spaces.Box(-math.inf, math.inf, (66,)), spaces.Box(-1, 1, (64,)))


def test_a_transcript_shows_no_more_than_one_latent():
    world, policy = drawer()
    (first, *_) = transcripts(drawn(world, policy, tasks=2))
    assert first["answer"].startswith("4 actions: [[")
    assert first["answer"].endswith("]] …")
    assert first["answer"].count(",") == 63
    assert first["category"] == "0"
