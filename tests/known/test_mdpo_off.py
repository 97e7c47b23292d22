"""The card's invariants of off-policy MDPO, and what it shares with SAC and TD3."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from helpers import control_recipe, rows, trained
from pilotage.credit.bootstrap import importance, least, smoothed_target, soft_target, state_target
from pilotage.data.batch import Batch
from pilotage.losses.actor import (
    bellman_error,
    deterministic_actor,
    mirror_actor,
    q_logarithm,
    soft_actor,
    soft_value_error,
    temperature,
)
from pilotage.policies.squashed import DeterministicActor, Ensemble, SquashedActor
from pilotage.run.assemble import assemble
from pilotage.run.recipe import difference

VALUES, BEFORE = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64), torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
BOX = spaces.Box(-2, 2, (2,), np.float32)
SEEN = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Previous:
    """A target whose density of action number a is BEFORE[a]."""

    def features(self, observation):
        return observation

    def log_density(self, features, action):
        return BEFORE.log()[action]


def mirror_loss(logp, mirror_weight, entropy_weight):
    """Per action, on three actions that are all taken."""
    flat = torch.zeros(3, 1, dtype=torch.float64)
    return mirror_actor(
        VALUES, torch.arange(3), logp, flat, flat, rows(observation=[0.0] * 3), {"previous": Previous()},
        mirror_weight=mirror_weight, entropy_weight=entropy_weight, shrink=0.0,
    ).loss  # fmt: skip


@pytest.mark.parametrize(
    ("mirror_weight", "entropy_weight", "best"),
    [(1.0, 0.2, [0.512062, 0.392085, 0.095853]), (0.2, 0.2, [0.993262, 0.006693, 0.000045])],
)
def test_many_steps_reach_the_closed_form(mirror_weight, entropy_weight, best):
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def expected():
        optimiser.zero_grad()
        logp = logits.log_softmax(-1)
        loss = (logp.exp() * mirror_loss(logp, mirror_weight, entropy_weight)).sum()
        loss.backward()
        return loss

    optimiser.step(expected)
    assert logits.softmax(-1).tolist() == pytest.approx(best, abs=2e-6)


def test_without_entropy_the_log_terms_cancel_at_the_previous_policy():
    loss = mirror_loss(BEFORE.log(), 1.0, 0.0)
    assert (BEFORE * loss).sum().item() == pytest.approx(-(BEFORE * VALUES).sum().item(), abs=1e-12)


def test_equal_weights_are_the_loss_of_sac_with_one_critic():
    logp = torch.tensor([-0.3, -1.2, -2.0], dtype=torch.float64)
    sac = soft_actor(VALUES.unsqueeze(-1), logp, torch.tensor(math.log(0.2), dtype=torch.float64)).loss
    assert torch.allclose(mirror_loss(logp, 0.2, 0.2), sac)


def test_the_tsallis_logarithm_is_the_logarithm_at_one():
    logp = torch.linspace(-5, 1, 20, dtype=torch.float64)
    assert torch.equal(q_logarithm(logp, 1.0), logp)
    assert torch.allclose(q_logarithm(logp, 1 + 1e-7), logp, atol=1e-5)
    assert torch.allclose(q_logarithm(logp, 2.0), logp.exp() - 1)


def test_the_value_loss_is_per_sample():
    value, q = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0], [0.0, 9.0]])
    loss = soft_value_error(value, q, torch.tensor([1.0, -1.0]), entropy_weight=0.5).loss
    assert loss.tolist() == pytest.approx([0.5 * (1 - 2.5) ** 2, 0.5 * (2 - 0.5) ** 2])


def test_critics_and_temperature_by_hand():
    q = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    assert bellman_error(q, rows(target=[2.0])).loss.tolist() == [1.0]
    assert deterministic_actor(q[:, 0]).loss.tolist() == [-1.0]
    log_alpha = torch.tensor(0.5, dtype=torch.float64)
    loss = temperature(log_alpha, torch.tensor([-3.0], dtype=torch.float64), rows(action=[[0.0, 0.0]])).loss
    assert loss.tolist() == [2.5]  # -0.5 · (-3 - 2)


def actor(**settings):
    return SquashedActor(SEEN, BOX, hidden=(8,), seed=3, **settings)


def test_squashed_densities_are_those_of_torch():
    policy = actor()
    observation, noise = torch.randn(16, 3), torch.randn(16, 2)
    action, logp = policy.drawn(policy.features(observation), noise)
    mean, log_std = policy.moments(policy.features(observation))
    plain = Independent(Normal(mean, log_std.exp()), 1)
    there = TransformedDistribution(plain, [TanhTransform(), AffineTransform(0.0, 2.0, event_dim=1)])
    assert torch.allclose(logp, there.log_prob(action), atol=1e-3)
    assert torch.allclose(policy.log_density(policy.features(observation), action), logp, atol=1e-3)
    assert bool((action.abs() < 2).all())


def test_an_ensemble_is_its_members():
    net = Ensemble(3, [4, 5, 1])
    inputs = torch.randn(7, 4)
    together = net(inputs)
    for i in range(3):
        hidden = torch.relu(inputs @ net.weights[0][i] + net.biases[0][i])
        assert torch.allclose(together[:, i : i + 1], hidden @ net.weights[1][i] + net.biases[1][i], atol=1e-6)


def drawn(terminated):
    observation = torch.randn(4, 3)
    columns = {"observation": observation, "action": torch.randn(4, 2), "reward": torch.arange(4.0)}
    ended = torch.tensor([terminated] * 4)
    return Batch(torch.arange(5), columns, {"terminated": ended, "final_observation": torch.randn(4, 3)})


@pytest.mark.parametrize("terminated", [True, False])
def test_targets_bootstrap_only_where_it_goes_on(terminated):
    policy, slow = actor(state_value=True), actor(state_value=True, temperature=0.5)
    batch = drawn(terminated)
    following = policy.features(batch["final_observation"])
    generator = np.random.default_rng
    soft = soft_target(batch, policy, {"critic": slow}, generator(0), discount=0.9)["target"]
    action, logp = policy.drawn(following, policy.noise(generator(0), 4, 1)[0])
    worth = slow.action_values(following, action).min(-1).values - logp  # its own temperature, 1, not the copy's
    assert torch.allclose(soft, batch["reward"] + 0.9 * (not terminated) * worth)
    state = state_target(batch, {"critic": slow}, discount=0.9)["target"]
    assert torch.allclose(state, batch["reward"] + 0.9 * (not terminated) * slow.state_values(following))
    twin = DeterministicActor(SEEN, BOX, hidden=(8,), seed=1)
    sharp = smoothed_target(batch, {"slow": twin}, generator(0), discount=0.9, smoothing=0.0)["target"]
    worth = twin.action_values(following, twin.chosen(following)).min(-1).values
    assert torch.allclose(sharp, batch["reward"] + 0.9 * (not terminated) * worth)


def test_the_actors_term_leaves_critics_alone():
    policy = actor()
    action, logp = policy.drawn(policy.features(torch.randn(4, 3)), torch.randn(4, 2))
    policy.action_values(torch.randn(4, 3), action, frozen=True).sum().backward()
    assert all(p.grad is None for p in policy.critic.parameters())
    assert any(p.grad is not None for p in policy.actor.parameters())
    assert logp.shape == (4,)


def test_its_difference_from_sac_is_what_the_card_says():
    changed = {path for path, _, _ in difference(*(control_recipe(n, "gym:Pendulum-v1") for n in ("mdpo-off", "sac")))}
    roots = (
        "policy.state_value",
        "drawn.target",
        "terms.critic",
        "terms.actor",
        "terms.temperature",
        "targets.previous",
    )
    assert changed
    assert all(path.startswith(roots) for path in changed)


def test_what_links_wrote_before_stands_in_the_target():
    policy, slow = actor(), actor(temperature=0.5)
    batch = drawn(False)
    following = policy.features(batch["final_observation"])
    chosen = {"following_action": torch.rand(4, 2), "discount": torch.tensor([0.0, 0.5, 0.9, 1.0])}
    written = batch.with_columns(reward=batch["reward"] + 10, **chosen)
    worth = slow.action_values(following, chosen["following_action"]).amin(-1)
    expected = written["reward"] + chosen["discount"] * worth
    generator = np.random.default_rng
    for target in (soft_target(written, policy, {"critic": slow}, generator(0)),
                   smoothed_target(written, {"slow": slow}, generator(0))):  # fmt: skip
        assert torch.allclose(target["target"], expected)
    informed = written.with_columns(following_logp=torch.full((4,), -2.0))
    found = soft_target(informed, policy, {"critic": slow}, generator(0))["target"]
    assert torch.allclose(found, expected + 2 * chosen["discount"])  # temperature 1


def test_importance_undoes_draws_by_weight():
    batch = drawn(False).with_columns(draw_weight=torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert importance(batch)["weight"].tolist() == [1.0, 0.5, 0.25, 0.125]
    assert importance(batch, share=0.0)["weight"].tolist() == [1.0] * 4
    q = torch.ones(4, 2, dtype=torch.float64)
    loss = bellman_error(q, rows(target=[3.0] * 4, weight=[1.0, 0.5, 0.25, 0.0])).loss
    assert loss.tolist() == [4.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("subset", [1, 2, 5, 9])
def test_the_least_is_taken_of_a_random_subset(subset):
    values = torch.arange(5.0).expand(3, 5)
    found = {float(least(values, np.random.default_rng(seed), subset)[0]) for seed in range(200)}
    assert found == set(range(5 - min(subset, 5) + 1))  # of five members, so many can be the least of the subset


def test_a_large_ensemble_with_layer_norm_trains(tmp_path):
    settings = {"policy.critics": 5, "policy.layer_norm": True, "drawn.target.subset": 2, "policy.hidden": [8]}
    run = trained(control_recipe("sac", "gym:Pendulum-v1", settings=settings), tmp_path / "run")
    assert run["critic.weights.0"].shape == (5, 4, 8)


@pytest.mark.parametrize("greedy", [True, False])
def test_released_code_acts_with_the_mean_which_is_an_option(greedy):
    settings = {"rollout.greedy": greedy, "rollout.random_decisions": 8, "rollout.lanes": 1, "rollout.steps": 8}
    parts = assemble(control_recipe("mdpo-off", "gym:Pendulum-v1", settings=settings))
    try:
        blind, batch = (
            parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 1, 1) for step in (0, 1)
        )
        means = [parts.policy.drawn(b["observation"], torch.zeros(8, 1))[0] for b in (blind, batch)]
    finally:
        parts.world.close()
    assert not torch.allclose(blind["action"], means[0])  # the first ones are at random all the same
    assert torch.allclose(batch["action"], means[1], atol=1e-6) == greedy
