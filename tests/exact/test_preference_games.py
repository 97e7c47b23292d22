"""Preference games and pairs solved exactly: mirror steps, duality gaps, and minimisers of expected losses."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from helpers import rows
from pilotage.losses.preference import logistic, mirror_regression, regularised_logistic
from pilotage.run.measures import duality_gap, mirror_step

ROCK = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])  # rock, scissors, paper: whether the row wins
START = np.array([0.6, 0.3, 0.1])
WINS = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
NOW, UNIFORM = np.array([0.5, 0.3, 0.2]), np.full(3, 1 / 3)


def expected(loss, logits, weights, reference, now, **settings):
    """A loss of pairs in expectation: `weights` [A, A] is how often the row is preferred to the column in the data.

    Each pair of answers is a pair of single decisions; log-probs are those of a softmax over `logits`.
    """
    logp = torch.log_softmax(logits, 0)
    winner, loser = np.nonzero(weights)
    count = len(winner)
    answers = np.stack([winner, loser], 1).flatten()
    pairs = rows(
        list(range(2 * count)),
        whole=True,
        pair=np.repeat(np.arange(count), 2).astype(float),
        preferred=np.tile([1.0, 0.0], count),
        reference_logp=np.log(reference)[answers],
        behaviour_logp=np.log(now)[answers],
    )
    found = loss(logp[torch.from_numpy(answers)], pairs, **settings).loss[::2]
    return (torch.from_numpy(weights[winner, loser]) * found).sum()


def minimised(objective, size):
    """The policy at the minimum over free logits, and the value there."""

    def both(x):
        logits = torch.tensor(x, requires_grad=True)
        value = objective(logits)
        (slope,) = torch.autograd.grad(value, logits)
        return float(value.detach()), slope.numpy()

    found = minimize(both, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-10})
    return torch.softmax(torch.from_numpy(found.x), 0).numpy(), found.fun


def test_a_mirror_step_by_hand():
    assert pytest.approx([0.56, 0.34, 0.59]) == WINS @ NOW
    assert mirror_step(NOW, UNIFORM, WINS, 1.0, 0.25) == pytest.approx([0.484169, 0.264890, 0.250941], abs=5e-7)


def test_the_minimiser_of_the_expected_loss_is_the_mirror_step():
    settings = {"eta": 1.0, "tau": 0.25}
    both = 2 * np.outer(NOW, NOW) * WINS  # both answers from the policy, in either order, the label from the oracle

    def loss(logits):
        return expected(mirror_regression, logits, both, UNIFORM, NOW, **settings)

    found, value = minimised(loss, 3)
    assert found == pytest.approx([0.484169, 0.264890, 0.250941], abs=5e-7)
    assert found == pytest.approx(mirror_step(NOW, UNIFORM, WINS, 1.0, 0.25), abs=1e-7)
    # pairs of an answer with itself pull nowhere, and add 1/(4 η²) for the share of them
    assert value == pytest.approx(0.227800, abs=5e-7)
    assert float(loss(torch.from_numpy(np.log(NOW)))) == pytest.approx(0.258594, abs=5e-7)


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.7])
def test_so_it_is_in_a_larger_game(tau):
    generator = np.random.default_rng(5)
    wins = generator.random((6, 6))
    wins = wins / (wins + wins.T)
    now, start = generator.dirichlet(np.ones(6)), generator.dirichlet(np.ones(6))

    def loss(logits):
        return expected(mirror_regression, logits, 2 * np.outer(now, now) * wins, start, now, eta=0.7, tau=tau)

    assert minimised(loss, 6)[0] == pytest.approx(mirror_step(now, start, wins, 0.7, tau), abs=1e-6)


def test_rock_paper_scissors_settles_at_its_nash_policy():
    policy = START
    for _ in range(2000):
        policy = mirror_step(policy, START, ROCK, 2.0, 0.2)
    assert policy == pytest.approx([0.538123, 0.181232, 0.280645], abs=5e-7)
    reply = START * np.exp(ROCK @ policy / 0.2)
    assert reply / reply.sum() == pytest.approx(policy, abs=1e-9)
    assert duality_gap(policy, START, ROCK, 0.2) == pytest.approx(0.0, abs=1e-9)
    even = START
    for _ in range(2000):
        even = mirror_step(even, UNIFORM, ROCK, 2.0, 0.2)
    assert even == pytest.approx(UNIFORM, abs=1e-9)


def test_without_its_regulariser_it_circles_outwards():
    policy, distances, total = START, [], np.zeros(3)
    for _ in range(400):
        policy = mirror_step(policy, START, ROCK, 2.0, 0.0)
        distances.append(float((UNIFORM * np.log(UNIFORM / policy)).sum()))
        total += policy
    assert distances[-1] > 4 * distances[0]
    assert max(distances[:50]) < max(distances[150:200]) < max(distances[350:])
    assert total / 400 == pytest.approx(UNIFORM, abs=0.1)
    assert np.abs(policy - UNIFORM).max() > 0.3


@pytest.mark.parametrize("seed", range(3))
def test_the_duality_gap_against_best_replies_found_by_search(seed):
    generator = np.random.default_rng(seed)
    policy, tau = generator.dirichlet(np.ones(3)), 0.3

    def payoff(one, other):
        divergences = (one * np.log(one / START)).sum() - (other * np.log(other / START)).sum()
        return one @ ROCK @ other - tau * divergences

    def best(value):
        return max(-minimize(lambda x: -value(np.exp(x) / np.exp(x).sum()), start).fun
                   for start in generator.normal(size=(3, 3)))  # fmt: skip

    gap = best(lambda reply: payoff(reply, policy)) - -best(lambda reply: -payoff(policy, reply))
    assert duality_gap(policy, START, ROCK, tau) == pytest.approx(gap, abs=1e-6)
    assert gap > 0


def test_rpo_is_the_best_policy_against_the_worst_reward():
    # one prompt, four answers: how often the row was preferred to the column in the data, the last one barely seen
    data = np.array([[0, 6, 5, 1.0], [3, 0, 5, 0], [1, 2, 0, 0], [0, 0, 1, 0]]) / 24
    start, beta, eta = np.array([0.4, 0.3, 0.2, 0.1]), 0.5, 0.3
    trusted = data.sum(1) / data.sum()  # the distribution of the preferred answers

    def likelihood(reward):
        return -sum(data[i, j] * np.log(1 / (1 + np.exp(reward[j] - reward[i]))) for i, j in np.argwhere(data))

    def worst(reward):
        # max over policies of E[r] - β KL in closed form, less what the trusted policy earns
        return eta * (beta * np.log((start * np.exp(reward / beta)).sum()) - trusted @ reward) + likelihood(reward)

    reward = minimize(worst, np.zeros(4), options={"gtol": 1e-10}).x
    pessimist = start * np.exp(reward / beta)
    found, _ = minimised(
        lambda logits: expected(regularised_logistic, logits, data, start, start, beta=beta, eta=eta), 4
    )
    assert found == pytest.approx(pessimist / pessimist.sum(), abs=1e-5)


def test_dpo_moves_towards_what_pairs_barely_cover_and_rpo_does_not():
    # answer 2 was compared once, and won; nothing holds it down
    data = np.array([[0, 5, 0], [4, 0, 0], [1, 0, 0.0]]) / 10
    start = np.array([0.49, 0.49, 0.02])
    dpo, _ = minimised(lambda x: expected(logistic, x, data, start, start, beta=0.1) + 1e-6 * x.square().sum(), 3)
    rpo, _ = minimised(
        lambda x: expected(regularised_logistic, x, data, start, start, beta=0.1, eta=5.0) + 1e-6 * x.square().sum(), 3
    )
    assert dpo[2] > 0.9
    assert rpo[2] < 0.2
