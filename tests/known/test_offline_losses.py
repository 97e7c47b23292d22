"""Losses, drawn columns and actors of TD3+BC, IQL and CQL, by hand, by limits and by finite differences."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Independent, Normal

from helpers import episodes, rows
from pilotage.credit.bootstrap import contrast, following, sampled_target, slow_worth, smoothed_target
from pilotage.credit.returns import scaled_by_range
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.actor import bellman_error, bootstrapped_error, deterministic_actor, normalised_actor
from pilotage.losses.conservative import conservative_gap
from pilotage.losses.imitation import advantage_weighted, likelihood
from pilotage.losses.value import expectile_error
from pilotage.policies.base import Minibatch, rows_of
from pilotage.policies.conservative import ConservativeActor
from pilotage.policies.gaussian import GaussianActor
from pilotage.policies.squashed import DeterministicActor

BOX = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
SEEN = spaces.Box(-np.inf, np.inf, (3,), np.float32)
DOUBLE = torch.float64


def double(*values, grad=False):
    return torch.tensor(values, dtype=DOUBLE, requires_grad=grad)


def drawn(count=6, terminated=False, seed=0):
    """A batch as stores draw them."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 2, generator=generator) * 2 - 1
    return Batch(
        torch.arange(count + 1),
        {
            "observation": torch.randn(count, 3, generator=generator),
            "action": torch.tensor([0.0, 0.5]) + torch.tensor([2.0, 0.5]) * unit,
            "reward": torch.randn(count, generator=generator),
        },
        {
            "terminated": torch.full((count,), terminated),
            "final_observation": torch.randn(count, 3, generator=generator),
        },
    )


# TD3+BC


def test_the_actors_scale_is_alpha_over_the_mean_of_absolute_values():
    q = torch.tensor([1.0, -3.0], dtype=DOUBLE, requires_grad=True)
    loss = normalised_actor(q, alpha=2.5).loss
    assert loss.tolist() == [-1.25, 3.75]  # mean |Q_1| is 2
    loss.mean().backward()
    assert q.grad.tolist() == [-0.625, -0.625]  # the scale is a constant


def test_scaling_the_critics_leaves_the_actors_loss_as_it_is():
    q = torch.randn(20, dtype=DOUBLE)
    assert torch.allclose(normalised_actor(q).loss, normalised_actor(1000 * q).loss)


def test_the_ends_of_alpha_are_cloning_and_td3():
    q = torch.randn(20, dtype=DOUBLE, requires_grad=True)
    (none,) = torch.autograd.grad(normalised_actor(q, alpha=0.0).loss.sum(), q)
    assert not bool(none.any())
    one, other = (torch.autograd.grad(f(q).loss.sum(), q)[0] for f in (lambda q: normalised_actor(q, alpha=None),
                                                                       deterministic_actor))  # fmt: skip
    assert torch.equal(one, other)


def test_values_of_nothing_do_not_divide_by_it():
    assert normalised_actor(torch.zeros(3)).loss.tolist() == [0.0] * 3


# IQL


def test_expectiles_by_hand():
    loss = expectile_error(double(0.0, 0.0), rows(slow_q=[2.0, -2.0]), expectile=0.7).loss
    assert loss.tolist() == pytest.approx([0.7 * 4, 0.3 * 4])


def test_the_middle_expectile_is_half_the_squared_error():
    value, slow = torch.randn(30, dtype=DOUBLE), torch.randn(30, dtype=DOUBLE)
    loss = expectile_error(value, rows(slow_q=slow), expectile=0.5).loss
    assert torch.allclose(loss, 0.5 * (value - slow).square())


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.7, 0.9])
def test_its_minimum_is_the_expectile(expectile):
    seen = double(0.0, 0.0, 0.0, 1.0)
    expected = expectile / (expectile + 3 * (1 - expectile))
    value = torch.tensor(expected, dtype=DOUBLE, requires_grad=True)
    loss = expectile_error(value.expand(4), rows(slow_q=seen), expectile=expectile).loss.sum()
    (slope,) = torch.autograd.grad(loss, value)
    assert abs(slope.item()) < 1e-12


@pytest.mark.parametrize("expectile", [0.0, 1.0, -1.0, math.nan])
def test_an_expectile_outside_is_refused(expectile):
    with pytest.raises(UsageError, match="expectile is between 0 and 1"):
        expectile_error(double(0.0), rows(slow_q=[1.0]), expectile=expectile)


def test_cloning_is_weighted_by_the_advantage_up_to_the_cap():
    value = double(1.0, 1.0, 1.0, grad=True)
    logp = double(-1.0, -2.0, -3.0, grad=True)
    terms = advantage_weighted(logp, value, rows(slow_q=[1.0, 2.0, 5.0]))
    assert terms.loss.tolist() == pytest.approx([1.0, 2 * math.exp(3), 300.0])
    assert terms.diagnostics()["capped"].tolist() == [0.0, 0.0, 1.0]
    terms.loss.sum().backward()
    assert value.grad is None
    assert logp.grad.tolist() == pytest.approx([-1.0, -math.exp(3), -100.0])


def test_without_temperature_it_is_likelihood():
    logp = torch.randn(9, dtype=DOUBLE)
    loss = advantage_weighted(logp, torch.randn(9, dtype=DOUBLE), rows(slow_q=torch.randn(9)), inverse_temperature=0.0)
    assert torch.equal(loss.loss, likelihood(logp).loss)


def test_critics_bootstrap_from_the_value_and_only_where_it_goes_on():
    q = torch.tensor([[1.0, 3.0], [1.0, 3.0]], dtype=DOUBLE)
    value = double(10.0, 10.0, grad=True)
    loss = bootstrapped_error(q, value, rows(reward=[1.0, 1.0], going=[1.0, 0.0]), discount=0.9).loss
    assert loss.tolist() == pytest.approx([0.5 * (9.0**2 + 7.0**2), 0.5 * (0.0 + 2.0**2)])
    assert not loss.requires_grad


def test_rewards_are_scaled_by_the_range_of_returns():
    batch = episodes(rewards=[[1.0, 2.0], [5.0, 6.0], [1.0]])
    scaled = scaled_by_range(batch)
    assert scaled["reward"].tolist() == pytest.approx([100.0, 200.0, 500.0, 600.0, 100.0])
    assert scaled.returns.max() - scaled.returns.min() == pytest.approx(1000.0)
    left_out = scaled_by_range(episodes(rewards=[[1.0], [3.0], [99.0]], valid=[True, True, False]), multiplier=2.0)
    assert left_out["reward"].tolist() == [1.0, 3.0, 99.0]
    with pytest.raises(UsageError, match="the same return"):
        scaled_by_range(episodes(rewards=[[1.0], [1.0]]))


def gaussian(**settings):
    return GaussianActor(SEEN, BOX, hidden=(8,), seed=3, **settings)


def test_the_gaussian_actors_densities_are_those_of_torch():
    policy, batch = gaussian(log_std=-0.3), drawn()
    found = policy.quantities(rows_of(following(batch), False), frozenset({"logp", "q", "value", "following_value"}))
    mean = policy.actor(batch["observation"])
    assert bool((mean.abs() < 1).all())
    around = Independent(Normal(policy.to_world(mean), policy.scale * math.exp(-0.3)), 1)
    assert torch.allclose(found["logp"], around.log_prob(batch["action"]), atol=1e-5)
    assert torch.allclose(found["value"], policy.critic.value(batch["observation"]).squeeze(-1))
    assert torch.allclose(found["following_value"], policy.critic.value(batch["final_observation"]).squeeze(-1))
    assert found["q"].shape == (6, 2)
    assert not found["following_value"].requires_grad


def test_the_gaussian_actor_clips_draws_and_not_their_densities():
    policy = gaussian(log_std=9.0)  # held at 2
    observation, noise = torch.randn(40, 3), torch.randn(40, 2)
    action, logp = policy.act(observation, noise)
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    assert bool(((action >= low) & (action <= high)).all())
    assert bool((action == low).any() | (action == high).any())
    mean = policy.actor(observation)
    free = policy.to_world(mean + math.exp(2) * noise)
    around = Independent(Normal(policy.to_world(mean), policy.scale * math.exp(2)), 1)
    assert torch.allclose(logp, around.log_prob(free), atol=1e-4)
    greedy, _ = policy.act(observation, noise, greedy=True)
    assert torch.allclose(greedy, policy.to_world(mean))


def test_a_stored_action_is_worth_what_the_least_slow_critic_says():
    slow, batch = gaussian(), drawn()
    q = slow.action_values(batch["observation"], batch["action"])
    assert torch.equal(slow_worth(batch, {"critic": slow})["slow_q"], q.min(-1).values)


# CQL


def test_the_gap_by_hand():
    q = torch.tensor([[1.0]], dtype=DOUBLE)
    contrasted = torch.tensor([[[0.0], [1.0]]], dtype=DOUBLE)
    logp = [[math.log(0.5), math.log(0.25)]]
    gap = conservative_gap(q, contrasted, double(0.0)[0], rows(contrast_logp=logp), weight=2.0).loss
    assert gap.tolist() == pytest.approx([2 * (math.log(2 + 4 * math.e) - 1)])
    cold = conservative_gap(
        q, contrasted, double(0.0)[0], rows(contrast_logp=[[0.0, 0.0]]), weight=1.0, temperature=0.01
    )
    assert cold.loss.tolist() == pytest.approx([0.0])  # the largest value, less the stored one


def test_a_critic_that_values_all_actions_the_same_has_the_log_volume_as_gap():
    # importance weights are exact here: the mean of 1/p over uniform draws is the volume
    batch = contrast(drawn(), ConservativeActor(SEEN, BOX, hidden=(8,)), np.random.default_rng(0), samples=4)
    density = batch["contrast_logp"][:, :4]
    assert torch.allclose(density, torch.full((6, 4), -math.log(4.0 * 1.0)))
    q, flat = torch.full((6, 2), 3.0), torch.full((6, 4, 2), 3.0)
    data = Minibatch({"contrast_logp": density}, torch.arange(6), torch.arange(6))
    gap = conservative_gap(q, flat, torch.zeros(()), data, weight=1.0).loss
    assert torch.allclose(gap, torch.full((6,), 2 * (math.log(4) + math.log(4))))  # log-volume, and log K


def test_its_gradient_is_softmax_minus_the_stored_action():
    contrasted = torch.randn(3, 5, 2, dtype=DOUBLE, requires_grad=True)
    q = torch.randn(3, 2, dtype=DOUBLE, requires_grad=True)
    logp = torch.randn(3, 5, dtype=DOUBLE)
    loss = conservative_gap(q, contrasted, double(0.0)[0], rows(contrast_logp=logp), weight=1.5, temperature=2.0).loss
    loss.sum().backward()
    expected = 1.5 * ((contrasted.detach() - logp.unsqueeze(-1)) / 2).softmax(1)
    assert torch.allclose(contrasted.grad, expected)
    assert torch.allclose(q.grad, torch.full_like(q, -1.5))
    assert torch.autograd.gradcheck(
        lambda values: conservative_gap(q.detach(), values, double(0.0)[0], rows(contrast_logp=logp)).loss, contrasted
    )


@pytest.mark.parametrize(("threshold", "rises"), [(0.0, True), (100.0, False)])
def test_the_multiplier_grows_while_gaps_are_above_the_threshold(threshold, rises):
    log_multiplier = torch.tensor(0.5, dtype=DOUBLE, requires_grad=True)
    q = torch.zeros(4, 2, dtype=DOUBLE, requires_grad=True)
    contrasted = torch.ones(4, 3, 2, dtype=DOUBLE)
    terms = conservative_gap(q, contrasted, log_multiplier, rows(contrast_logp=torch.zeros(4, 3)), threshold=threshold)
    terms.loss.mean().backward()
    assert (log_multiplier.grad.item() < 0) == rises  # a step against the gradient
    gap = 5 * (1 + math.log(3))
    assert log_multiplier.grad.item() == pytest.approx(-math.exp(0.5) * (gap - threshold))
    assert torch.allclose(q.grad, torch.full_like(q, -5 * math.exp(0.5) / 4))  # the multiplier is a constant to critics


def test_contrasts_are_uniform_then_of_the_policy_here_and_next():
    policy, batch = ConservativeActor(SEEN, BOX, hidden=(8,)), drawn(terminated=True)
    made = contrast(batch, policy, np.random.default_rng(0), samples=50)
    actions, logp = made["contrast_action"], made["contrast_logp"]
    assert actions.shape == (6, 150, 2)
    assert bool(((actions >= torch.tensor(BOX.low)) & (actions <= torch.tensor(BOX.high))).all())
    for part, name in ((1, "observation"), (2, "final_observation")):
        here = slice(50 * part, 50 * part + 50)
        features = policy.features(batch[name]).repeat_interleave(50, 0)
        density = policy.log_density(features, actions[:, here].flatten(0, 1)).view(6, 50)
        assert torch.allclose(logp[:, here], density, atol=1e-2)
    found = policy.quantities(rows_of(made, False), frozenset({"contrast_q", "log_multiplier"}))
    assert found["contrast_q"].shape == (6, 150, 2)
    one = policy.action_values(batch["observation"][2:3], actions[2:3, 7])
    assert torch.allclose(found["contrast_q"][2, 7], one[0], atol=1e-6)
    assert found["log_multiplier"].item() == 0.0


@pytest.mark.parametrize("terminated", [True, False])
def test_the_target_leaves_entropy_out(terminated):
    policy, slow = ConservativeActor(SEEN, BOX, hidden=(8,), seed=1), ConservativeActor(SEEN, BOX, hidden=(8,), seed=2)
    batch = drawn(terminated=terminated)
    found = sampled_target(batch, policy, {"critic": slow}, np.random.default_rng(4), discount=0.9)["target"]
    action, _ = policy.drawn(batch["final_observation"], policy.noise(np.random.default_rng(4), 6, 1)[0])
    worth = slow.action_values(batch["final_observation"], action).min(-1).values
    assert torch.allclose(found, batch["reward"] + 0.9 * (not terminated) * worth)


def test_no_weight_leaves_the_critics_error():
    q = torch.randn(5, 2, dtype=DOUBLE, requires_grad=True)
    contrasted, data = torch.randn(5, 3, 2, dtype=DOUBLE), rows(target=torch.randn(5), contrast_logp=torch.randn(5, 3))
    plain = bellman_error(q, data).loss
    both = plain + conservative_gap(q, contrasted, double(0.0)[0], data, weight=0.0).loss
    one, other = (torch.autograd.grad(loss.sum(), q)[0] for loss in (both, bellman_error(q, data).loss))
    assert torch.equal(one, other)


# what targets leave behind


def test_the_smoothed_target_says_which_action_it_took():
    slow, batch = DeterministicActor(SEEN, BOX, hidden=(8,)), drawn()
    made = smoothed_target(batch, {"slow": slow}, np.random.default_rng(0), discount=1.0)
    worth = slow.action_values(batch["final_observation"], made["following_action"]).min(-1).values
    assert torch.allclose(made["target"], batch["reward"] + worth)
    around = slow.to_unit(made["following_action"]) - slow.to_unit(slow.chosen(batch["final_observation"]))
    assert bool((around.abs() <= 0.5 + 1e-6).all() & around.any())


def test_what_follows_becomes_columns():
    made = following(drawn(terminated=True))
    assert torch.equal(made["following_observation"], made["final_observation"])
    assert made["going"].tolist() == [0.0] * 6
    assert following(drawn())["going"].tolist() == [1.0] * 6
