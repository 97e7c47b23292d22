"""The card's invariants of A2PR, with its numbers."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from helpers import rows
from pilotage.credit.bootstrap import following, latents, smoothed_target
from pilotage.data.batch import Batch
from pilotage.losses.actor import normalised_actor
from pilotage.losses.imitation import squared_error
from pilotage.losses.projection import kept_reconstruction, latent_divergence, selected_cloning
from pilotage.losses.value import pessimistic_error
from pilotage.policies.base import rows_of
from pilotage.policies.projected import ProjectedActor
from pilotage.policies.squashed import DeterministicActor

DOUBLE = torch.float64
BOX = spaces.Box(-2, 2, (2,), np.float32)
SEEN = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def double(*values, grad=False):
    return torch.tensor(values, dtype=DOUBLE, requires_grad=grad)


def cloned(logged, modelled, value, **settings):
    """On one decision: π(s) = 0, the logged action 1, the model's 2; the chosen one's square is the loss."""
    terms = selected_cloning(
        torch.zeros(1, 1, dtype=DOUBLE), torch.full((1, 1), 2.0, dtype=DOUBLE), double(modelled),
        torch.tensor([[logged, -99.0]], dtype=DOUBLE), double(value), rows(action=[[1.0]]), **settings,
    )  # fmt: skip
    return terms.loss.item(), {name: found.item() for name, found in terms.diagnostics().items()}


@pytest.mark.parametrize(
    ("logged", "modelled", "value", "loss", "projected", "gated_off"),
    [
        (1.0, 2.0, 1.5, 4.0, 1.0, 0.0),  # the model's action, cloned
        (1.0, 0.5, 1.5, 0.0, 0.0, 1.0),  # the logged one is better, and neither is good
        (1.0, 1.0, 1.0, 4.0, 1.0, 0.0),  # a tie goes to the model, and passes by its ≥
        (2.0, 1.0, 1.5, 1.0, 0.0, 0.0),  # the logged action, cloned
        (1.5, 1.0, 1.5, 0.0, 0.0, 1.0),  # the logged action's side is strict
        (3.0, 2.0, 1.0, 1.0, 0.0, 0.0),  # both good: the weight is 1, not 2
    ],
)
def test_which_action_and_whether(logged, modelled, value, loss, projected, gated_off):
    found, shares = cloned(logged, modelled, value)
    assert found == loss
    assert shares == {"projected": projected, "gated_off": gated_off}


def test_a_threshold_asks_for_more_advantage():
    assert cloned(1.0, 2.0, 1.5, threshold=0.5)[0] == 4.0
    assert cloned(1.0, 2.0, 1.5, threshold=0.6)[0] == 0.0


def test_ablations():
    assert cloned(1.0, 0.5, 1.5, gate=False)[0] == 1.0
    assert cloned(1.0, 2.0, 1.5, project=False)[0] == 1.0
    assert cloned(1.0, 1.0, 1.5, project=False)[0] == 0.0


def test_always_the_logged_action_and_always_on_is_cloning():
    action, q = torch.randn(7, 2, dtype=DOUBLE, requires_grad=True), torch.randn(7, 2, dtype=DOUBLE)
    data = rows(action=torch.randn(7, 2))
    ours = selected_cloning(action, action * 3, q[:, 0], q, q[:, 1], data, project=False, gate=False)
    gradients = [torch.autograd.grad(terms.loss.mean(), action)[0] for terms in (ours, squared_error(action, data))]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("detach", [False, True])
def test_whether_the_target_is_a_constant(detach):
    action = torch.tensor([[1.0]], dtype=DOUBLE, requires_grad=True)
    loss = selected_cloning(
        action, 0.5 * action, double(1.0), torch.zeros(1, 2, dtype=DOUBLE), double(0.0), rows(action=[[9.0]]),
        detach_target=detach,
    ).loss  # fmt: skip
    assert loss.item() == 0.25
    loss.sum().backward()
    assert action.grad.item() == (1.0 if detach else 0.5)  # 2 · 0.5 · (1 or 1 - 0.5)


@pytest.mark.parametrize(("going", "goal"), [(1.0, 8.92), (0.0, 1.0)])
def test_the_values_target_is_the_smaller_of_two(going, goal):
    slow = 1.0 + 0.99 * going * 8.0
    data = rows(reward=[1.0], going=[going], target=[slow])
    value = double(0.0, grad=True)
    loss = pessimistic_error(value, torch.tensor([[10.0, 12.0]], dtype=DOUBLE), data).loss
    assert loss.item() == pytest.approx(goal**2)
    data = rows(reward=[1.0], going=[going], target=[100.0])
    now = pessimistic_error(value, torch.tensor([[12.0, 10.0]], dtype=DOUBLE), data).loss
    assert now.item() == pytest.approx((1 + 0.99 * going * 10) ** 2)


def test_divergences_by_hand():
    mean, log_std = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE), torch.zeros(2, 2, dtype=DOUBLE)
    assert latent_divergence(mean, log_std).loss.tolist() == [0.5, 0.0]  # times 0.5 in the model's loss


def test_the_mean_counts_what_is_left_out():
    made = torch.tensor([[1.0, 1.0], [2.0, 0.0], [1.0, 1.0]], dtype=DOUBLE)
    q = torch.tensor([[1.0, 9.0], [2.0, 9.0], [0.5, 9.0]], dtype=DOUBLE)
    terms = kept_reconstruction(made, q, double(1.0, 1.0, 1.0), rows(action=[[0.0, 0.0]] * 3))
    assert terms.loss.tolist() == [0.0, 2.0, 0.0]  # 1 > 1 is not
    assert terms.loss.mean().item() == pytest.approx(4 / 6)  # all B · A entries


def batch(count=9):
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.arange(count + 1),
        {
            "observation": torch.randn(count, 3, generator=generator),
            "action": torch.rand(count, 2, generator=generator) * 4 - 2,
            "reward": torch.randn(count, generator=generator),
        },
        {
            "terminated": torch.arange(count) % 2 == 0,
            "final_observation": torch.randn(count, 3, generator=generator),
        },
    )


def actor(**settings):
    return ProjectedActor(SEEN, BOX, hidden=(8,), model_hidden=(8,), seed=1, **settings)


def asked(policy, *names):
    made = smoothed_target(following(batch()), {"slow": policy}, np.random.default_rng(0))
    return policy.quantities(rows_of(latents(made, policy, np.random.default_rng(1)), False), frozenset(names))


def test_nothing_kept_leaves_the_decoder_without_gradient():
    policy = actor()
    found = asked(policy, "reconstruction", "latent_mean", "latent_log_std", "q")
    data = rows(action=torch.zeros(9, 2))
    kept = kept_reconstruction(found["reconstruction"], found["q"], torch.full((9,), 1e9), data)
    divergence = latent_divergence(found["latent_mean"], found["latent_log_std"])
    (kept.loss.mean() + 0.5 * divergence.loss.mean()).backward()
    decoder = [p.grad for p in policy.model.decoder.parameters()]
    assert all(not bool(gradient.any()) for gradient in decoder)
    encoder = [p.grad.clone() for p in policy.model.encoder.parameters()]
    policy.zero_grad()
    again = asked(policy, "latent_mean", "latent_log_std")
    (0.5 * latent_divergence(again["latent_mean"], again["latent_log_std"]).loss.mean()).backward()
    assert all(torch.equal(one, p.grad) for one, p in zip(encoder, policy.model.encoder.parameters(), strict=True))
    assert any(bool(gradient.any()) for gradient in encoder)


def test_the_model_is_fed_the_policys_action():
    policy = actor()
    found = asked(policy, "projected", "projected_q", "actor_action")
    features, noise = batch()["observation"], latents(batch(), policy, np.random.default_rng(1))["projection_noise"]
    mean, log_std = policy.model.encode(features, found["actor_action"] / 2)
    assert torch.allclose(found["projected"], 2 * policy.model.decode(features, mean + log_std.exp() * noise))
    q = policy.action_values(features, found["projected"])
    assert torch.allclose(found["projected_q"], q[:, 0])
    assert not found["projected_q"].requires_grad
    (slope,) = torch.autograd.grad(found["projected"].sum(), found["actor_action"])
    assert bool(slope.any())
    prior = actor(from_prior=True)
    made = asked(prior, "projected")["projected"]
    assert torch.allclose(made, 2 * prior.model.decode(features, noise.clamp(-0.5, 0.5)))


def test_what_follows_is_valued_by_the_critics_of_now_without_gradient():
    policy = actor()
    found = asked(policy, "following_q", "value", "q")
    made = smoothed_target(following(batch()), {"slow": policy}, np.random.default_rng(0))
    assert torch.equal(found["following_q"], policy.action_values(made["final_observation"], made["following_action"]))
    assert not found["following_q"].requires_grad
    assert found["value"].requires_grad


def test_scaling_all_values_changes_neither_choice_nor_gate_nor_actor():
    policy = actor()
    found = asked(policy, "actor_action", "actor_first_q", "projected", "projected_q", "q", "value")
    data = rows_of(batch(), False)
    actions = {name: found[name] for name in ("actor_action", "projected")}
    losses = []
    for factor in (1.0, 1000.0):
        scaled = {name: found[name] * factor for name in ("projected_q", "q", "value")}
        cloning = selected_cloning(**actions, **scaled, rows=data)
        losses.append((normalised_actor(found["actor_first_q"] * factor).loss, cloning.loss, cloning.diagnostics()))
    (one, clone, shares), (other, clone_scaled, shares_scaled) = losses
    assert torch.allclose(one, other, rtol=1e-4)
    assert torch.equal(clone, clone_scaled)
    assert all(torch.equal(shares[name], shares_scaled[name]) for name in shares)


def test_actor_and_critics_start_as_those_of_td3():
    ours, plain = actor().state_dict(), DeterministicActor(SEEN, BOX, hidden=(8,), seed=1).state_dict()
    assert plain
    assert all(torch.equal(ours[name], value) for name, value in plain.items())
    assert {name for name in ours if name not in plain} == {
        name for name in ours if name.startswith(("critic.value.", "critic.model."))
    }
