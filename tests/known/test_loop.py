"""LOOP by hand: leave-one-out credit, clipped ratios over denoising steps, and what it shares with its relatives."""

import numpy as np
import pytest
import torch

from helpers import chain_recipe, episodes, rows, text_recipe
from pilotage import api
from pilotage.credit.groups import leave_one_out
from pilotage.losses.policy import clipped_ratio, policy_gradient
from pilotage.policies.base import rows_of
from pilotage.run.assemble import assemble
from pilotage.run.recipe import difference

POLICY = "terms.policy.objectives.policy"
CARD = [1.0, 2.0, 3.0, 6.0]


def credited(rewards, groups=None, lengths=None):
    return leave_one_out(episodes(rewards, groups or [0] * len(rewards), lengths))["advantage"]


def test_advantages_of_the_card():
    found = credited(CARD)
    assert found.tolist() == pytest.approx([-8 / 3, -4 / 3, 0, 4], abs=1e-6)
    assert float(found.sum()) == pytest.approx(0, abs=1e-6)
    assert found.tolist() == pytest.approx([4 / 3 * (r - 3) for r in CARD], abs=1e-6)


def test_two_samples_are_held_against_each_other():
    assert credited([5.0, 2.0]).tolist() == [3.0, -3.0]


def test_a_constant_of_the_prompt_changes_nothing():
    groups = [0, 0, 0, 1, 1, 1]
    plain = credited([1.0, 2.0, 4.0, 0.5, 0.25, 8.0], groups)
    moved = credited([101.0, 102.0, 104.0, -7.5, -7.75, 0.0], groups)
    assert torch.equal(plain, moved)


def test_every_step_of_a_chain_gets_its_advantage():
    assert credited([1.0, 3.0], lengths=[3, 2]).tolist() == [-2, -2, -2, 2, 2]


def test_clipped_terms_of_the_card():
    ratio = torch.tensor([1.3, 0.9, 1.3, 1.3], dtype=torch.float64)
    taken = rows(advantage=[-8 / 3, -4 / 3, 0, 4], behaviour_logp=[0.0] * 4)
    found = -clipped_ratio(ratio.log(), taken).loss
    assert found.tolist() == pytest.approx([-3.466667, -1.2, 0, 4.8], abs=1e-6)


def test_equal_rewards_give_no_gradient():
    assert credited([0.7] * 4).tolist() == [0.0] * 4
    logp = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    clipped_ratio(logp, rows(advantage=[0.0] * 4, behaviour_logp=[0.0] * 4)).loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == [0.0] * 4


@pytest.fixture
def played():
    """The parts of a tiny LOOP, and a batch that its policy drew and that was credited."""
    parts = assemble(chain_recipe("loop"))
    torch.nn.init.normal_(parts.policy.network.layers[-1].weight, std=0.1)
    parts.policy.double()
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
    return parts, parts.credited(batch, 0.0)


def gradient(parts, batch, loss, **settings):
    parts.policy.zero_grad()
    taken = rows_of(batch, needs_past=False)
    logp = parts.policy.quantities(taken, frozenset(["logp"]))["logp"]
    loss(logp, taken, **settings).loss.mean().backward()
    return {name: p.grad.clone() for name, p in parts.policy.named_parameters() if p.grad is not None}


def test_at_the_old_policy_its_gradient_is_that_of_rloo(played):
    mine, theirs = (gradient(*played, loss) for loss in (clipped_ratio, policy_gradient))
    assert mine.keys() == theirs.keys()
    assert max(float(g.abs().max()) for g in mine.values()) > 1e-3
    for name, found in mine.items():
        torch.testing.assert_close(found, theirs[name], rtol=1e-9, atol=1e-12)


def test_loss_and_credit_are_those_of_language():
    images, texts = chain_recipe("loop"), {name: text_recipe(name) for name in ("rloo", "ppo")}
    assert images.get("credit.advantage") == texts["rloo"].get("credit.advantage")
    assert images.get(f"{POLICY}.loss") == texts["ppo"].get(f"{POLICY}.loss")


def test_it_differs_from_rloo_in_its_loss_and_its_optimiser_steps():
    paths = {path for path, *_ in difference(chain_recipe("loop"), chain_recipe("rloo"))}
    assert {p for p in paths if not p.startswith(f"{POLICY}.loss.")} == {"terms.policy.minibatches"}
    assert api.recipe("loop", "images:digits").samples_per_prompt == 4


def test_leave_one_out_is_unbiased_on_one_gaussian_step():
    # π = N(θ, 1), R = -(x - 2)²: E R = -(θ - 2)² - 1, with gradient -2 (θ - 2)
    theta, groups, samples = 0.5, 20_000, 4
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((groups, samples)))
    reward = -(theta + drawn - 2).square().flatten()
    batch = episodes(reward.tolist(), torch.arange(groups).repeat_interleave(samples).tolist(), dtype=torch.float64)
    estimates = (leave_one_out(batch)["advantage"].double().view(groups, samples) * drawn).mean(1)
    error = float(estimates.std()) / groups**0.5
    assert error < 0.03
    assert float(estimates.mean()) == pytest.approx(-2 * (theta - 2), abs=4 * error)
