"""The mean of each policy-gradient estimator is the exact gradient: every trajectory of a tiny problem is played, and
its probability weighs what the library's own credit, loss and reduction make of it."""

import itertools
import math

import numpy as np
import pytest
import torch

from helpers import control_recipe
from pilotage.credit.groups import Relative, leave_one_out
from pilotage.credit.returns import gae, reward_to_go, values
from pilotage.data.batch import Batch
from pilotage.losses.policy import clipped_ratio, mirror_descent, policy_gradient
from pilotage.losses.reduce import decision_weights
from pilotage.policies.base import Policy, rows_of
from pilotage.policies.distributions import Categorical
from pilotage.run.assemble import assemble
from pilotage.worlds.tabular import TabularWorld, exact_policy_gradient, exact_values, softmax

HORIZON = 3
# rewards in quarters, so that float32 holds every return exactly
REWARD = np.array([[1.0, -0.5], [0.25, 2.0], [-1.0, 0.75]])
WORLD = TabularWorld(states=3, actions=2, horizon=HORIZON, reward=REWARD, start=[0.5, 0.25, 0.25], seed=3)
MODEL = WORLD.exact()
LOGITS = np.array([[0.3, -0.4], [1.0, 0.2], [-0.7, 0.5]])


class Table(Policy):
    """Logits for each state; its critic knows the exact value of (state, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.from_numpy(LOGITS.copy()))
        self.known = torch.from_numpy(exact_values(MODEL, softmax(LOGITS))[0])

    def quantities(self, minibatch, names):
        state, time = minibatch["observation"].unbind(-1)
        distribution = Categorical(self.logits[state])
        found = {"distribution": distribution, "logp": distribution.logp(minibatch["action"])}
        return {**found, "value": self.known[time, state].float()}

    def final_values(self, batch):
        raise AssertionError("every episode terminated")


def trajectories() -> list[tuple[float, list[tuple[int, int]]]]:
    """(probability, (state, action) by time) of every trajectory."""
    policy = softmax(LOGITS)
    found = []
    for states in itertools.product(range(3), repeat=HORIZON):
        for actions in itertools.product(range(2), repeat=HORIZON):
            steps = list(zip(states, actions, strict=True))
            chance = MODEL.start[states[0]] * math.prod(policy[s, a] for s, a in steps)
            chance *= math.prod(MODEL.transition[s, a, n] for (s, a), n in zip(steps, states[1:], strict=False))
            found.append((chance, steps))
    return found


def enumerated(group_size: int) -> tuple[Batch, torch.Tensor]:
    """Every group of this many trajectories as one batch, and the probability of each episode's group [E]."""
    groups = list(itertools.product(trajectories(), repeat=group_size))
    episodes = [(number, steps) for number, group in enumerate(groups) for _, steps in group]
    chance = torch.tensor([math.prod(p for p, _ in group) for group in groups], dtype=torch.float64)
    assert float(chance.sum()) == pytest.approx(1.0)
    pairs = torch.tensor([steps for _, steps in episodes]).reshape(-1, 2)
    state, action = pairs.unbind(-1)
    time = torch.arange(HORIZON).repeat(len(episodes))
    batch = Batch(
        torch.arange(0, len(pairs) + 1, HORIZON),
        {
            "observation": torch.stack([state, time], dim=-1),
            "action": action,
            "reward": torch.from_numpy(REWARD)[state, action].float(),
            "behaviour_logp": torch.from_numpy(LOGITS).log_softmax(-1)[state, action],
        },
        {
            "group": torch.tensor([number for number, _ in episodes]),
            "terminated": torch.ones(len(episodes), dtype=torch.bool),
        },
    )
    return batch, chance[batch["group"]]


ALONE, PAIRS = enumerated(1), enumerated(2)
EXACT = exact_policy_gradient(MODEL, LOGITS)


def expected_gradient(credit, loss, given=ALONE) -> np.ndarray:
    """The mean, over all groups, of the gradient that the library takes from one group."""
    batch, chance = given
    size = int((batch["group"] == 0).sum())
    policy = Table()
    batch = credit(batch)
    minibatch = rows_of(batch, needs_past=False)
    quantities = policy.quantities(minibatch, frozenset())
    terms = loss(rows=minibatch, **quantities)
    # of one group alone each decision weighs 1 / size; over the batch, which holds them all, that is scaled back
    weights = decision_weights("constant(1)", minibatch.owner).double() * len(batch) / size
    total = (terms.loss * weights * chance[minibatch.owner]).sum()
    total.backward()
    return -policy.logits.grad.numpy()


def by_logp(loss, **settings):
    return lambda rows, logp, **_: loss(logp, rows, **settings)


def with_critic(trace):
    policy = Table()
    return lambda batch: gae(values(batch, policy), discount=1.0, trace=trace)


def test_the_oracle_is_the_derivative_of_the_expected_return():
    def expected_return(logits):
        policy = torch.log_softmax(logits, -1)
        total = torch.zeros((), dtype=torch.float64)
        for chance, steps in trajectories():
            fixed = chance / math.prod(softmax(LOGITS)[s, a] for s, a in steps)
            total = total + fixed * sum(REWARD[s, a] for s, a in steps) * sum(policy[s, a] for s, a in steps).exp()
        return total

    logits = torch.from_numpy(LOGITS.copy()).requires_grad_()
    (gradient,) = torch.autograd.grad(expected_return(logits), logits)
    np.testing.assert_allclose(gradient.numpy(), EXACT, atol=1e-12)
    assert np.abs(EXACT).max() > 0.1


def test_reinforce():
    np.testing.assert_allclose(expected_gradient(reward_to_go, by_logp(policy_gradient)), EXACT, atol=1e-8)


def test_a_discount_gives_another_gradient():
    found = expected_gradient(lambda batch: reward_to_go(batch, discount=0.5), by_logp(policy_gradient))
    assert np.abs(found - EXACT).max() > 0.01


def test_rloo():
    found = expected_gradient(leave_one_out, by_logp(policy_gradient), PAIRS)
    np.testing.assert_allclose(found, EXACT, atol=1e-8)


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_ppo_at_ratio_one_with_an_exact_critic(trace):
    found = expected_gradient(with_critic(trace), by_logp(clipped_ratio))
    np.testing.assert_allclose(found, EXACT, atol=1e-6)


def test_mdpo_at_the_old_policy():
    def loss(rows, logp, distribution, **_):
        old = distribution.parameters.detach()
        given = type(rows)({**rows.columns, "old_distribution": old}, rows.owner, rows.index)
        return mirror_descent(logp, distribution, given, 0.4)

    np.testing.assert_allclose(expected_gradient(with_critic(1.0), loss), EXACT, atol=1e-6)


@pytest.mark.parametrize("loss", [policy_gradient, clipped_ratio])
def test_grpo_without_deviation_is_short_by_its_own_share_of_the_mean(loss):
    # the mean of the group holds the episode itself: of K = 2 only 1 - 1/K is left
    found = expected_gradient(Relative(mean="group", std="none"), by_logp(loss), PAIRS)
    np.testing.assert_allclose(found, (1 - 1 / 2) * EXACT, atol=1e-8)


def test_a_group_deviation_gives_another_direction():
    found = expected_gradient(Relative(mean="group", std="group"), by_logp(policy_gradient), PAIRS)
    best = (found * EXACT).sum() / (EXACT * EXACT).sum()
    assert np.linalg.norm(found - best * EXACT) > 0.01 * np.linalg.norm(found)


@pytest.mark.parametrize(("name", "share"), [("reinforce", 1.0), ("rloo", 1.0), ("dr-grpo", 0.75)])
def test_the_loops_own_parts_sample_the_exact_gradient(name, share):
    recipe = control_recipe(
        name,
        "tabular",
        settings={
            "world.states": 3,
            "world.horizon": HORIZON,
            "policy.hidden": [],
            "prompts_per_step": 16,
            "samples_per_prompt": 4,
            "steps": 10**6,
            "terms.policy.optimiser": "pilotage.learn.optimisers:sgd",
            "terms.policy.optimiser.learning_rate": 1.0,
            "terms.policy.max_grad_norm": None,
            "terms.policy.objectives.policy.reduction": "constant(1)",
        },
    )
    if recipe.terms["policy"].minibatches != 1:
        recipe = recipe.vary("test", {"terms.policy.minibatches": 1})
    parts = assemble(recipe)
    layer = parts.policy.actor[0]
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape))
    before = {key: value.clone() for key, value in parts.policy.state_dict().items()}
    logits = (layer.weight.detach().T + layer.bias.detach()).double().numpy()
    exact = share * exact_policy_gradient(parts.world.exact(), logits)
    found = []
    for step in range(150):
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 16, 4)
        parts.learner.update(parts.credited(batch, 0.0), step, 0.0)
        found.append((layer.weight.detach() - before["actor.0.weight"]).T.double().numpy())
        parts.policy.load_state_dict(before)
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    # six coordinates; five standard errors are passed by chance once in a million
    assert np.all(np.abs(mean - exact) < 5 * error), (mean, exact, error)
    # and the interval is narrow enough to tell the estimators from half or twice the gradient
    assert float(np.abs(exact).max() / error.max()) > 10
