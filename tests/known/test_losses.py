"""Every loss against numbers worked by hand and against finite differences; distributions against torch's own."""

import math

import pytest
import torch
from torch import distributions as reference

from helpers import rows
from pilotage.losses.imitation import labelled_likelihood, likelihood
from pilotage.losses.policy import clipped_ratio, mirror_descent, negative_aware_likelihood, policy_gradient
from pilotage.losses.regularise import negative_entropy, reference_divergence
from pilotage.losses.value import squared_error
from pilotage.policies.distributions import Categorical, Gaussian


def tensor(*values, **options):
    return torch.tensor(values, dtype=torch.float64, **options)


def ratios(*values):
    return tensor(*values).log()


# ---- policy objectives


def test_policy_gradient():
    logp = tensor(-1.0, -2.0, requires_grad=True)
    loss = policy_gradient(logp, rows(advantage=[3.0, -0.5])).loss
    assert loss.tolist() == [3.0, -1.0]
    loss.sum().backward()
    assert logp.grad.tolist() == [-3.0, 0.5]


CASES = [
    # ratio, advantage, loss, is the gradient cut
    (1.0, 2.0, -2.0, False),
    (1.1, 2.0, -2.2, False),
    (1.5, 2.0, -2.4, True),  # gains end at 1 + 0.2
    (0.5, 2.0, -1.0, False),  # but a loss of probability is paid in full
    (1.5, -2.0, 3.0, False),
    (0.5, -2.0, 1.6, True),
    (0.9, -2.0, 1.8, False),
]


@pytest.mark.parametrize(("ratio", "advantage", "expected", "cut"), CASES)
def test_clipped_ratio_by_hand(ratio, advantage, expected, cut):
    logp = ratios(ratio).requires_grad_()
    terms = clipped_ratio(logp, rows(behaviour_logp=[0.0], advantage=[advantage]))
    assert float(terms.loss.detach()) == pytest.approx(expected)
    terms.loss.sum().backward()
    assert float(logp.grad) == pytest.approx(0.0 if cut else -ratio * advantage)
    assert bool(terms.diagnostics()["clipped"]) == cut


def test_clip_higher():
    given = rows(behaviour_logp=[0.0] * 3, advantage=[1.0, 1.0, -1.0])
    found = clipped_ratio(ratios(1.25, 1.4, 0.7), given, low=0.2, high=0.28).loss
    assert found.tolist() == pytest.approx([-1.25, -1.28, 0.8])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(None, None, [-5.0, 0.1]), (None, 0.2, [-1.2, 0.1]), (0.2, None, [-5.0, 0.8])],
)
def test_each_bound_may_be_left_out(low, high, expected):
    given = rows(behaviour_logp=[0.0, 0.0], advantage=[1.0, -1.0])
    assert clipped_ratio(ratios(5.0, 0.1), given, low=low, high=high).loss.tolist() == pytest.approx(expected)


def test_the_ratio_is_to_the_behaviour_policy():
    given = rows(behaviour_logp=[-1.0], advantage=[1.0])
    assert float(clipped_ratio(tensor(-0.9), given).loss) == pytest.approx(-math.exp(0.1))


# ---- likelihoods


def test_likelihoods():
    logp = tensor(-1.0, -2.0)
    assert likelihood(logp).loss.tolist() == [1.0, 2.0]
    assert labelled_likelihood(logp, rows(label=[1.0, 0.25], weight=[0.5, 3.0])).loss.tolist() == [0.5, 1.5]


# ---- values


def test_squared_error():
    assert squared_error(tensor(3.0, -1.0), rows(**{"return": [1.0, -1.5]})).loss.tolist() == [4.0, 0.25]


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (1.1, 2.0, 0.81),  # within reach of the old value: plain
        (1.5, 2.0, 0.64),  # held at 1.2, which is further off
        (1.5, 1.1, 0.16),  # held at 1.2, which is nearer: the larger error counts
        (0.5, 0.0, 0.64),
    ],
)
def test_clipped_value_loss(value, target, expected):
    given = rows(value=[1.0], **{"return": [target]})
    assert float(squared_error(tensor(value), given, clip=0.2).loss) == pytest.approx(expected)


def test_a_held_value_has_no_gradient():
    value = tensor(1.5, requires_grad=True)
    squared_error(value, rows(value=[1.0], **{"return": [2.0]}), clip=0.2).loss.sum().backward()
    assert float(value.grad) == 0.0


# ---- penalties


def test_negative_entropy():
    terms = negative_entropy(tensor(0.5, 2.0))
    assert terms.loss.tolist() == [-0.5, -2.0]
    assert terms.diagnostics()["entropy"].tolist() == [0.5, 2.0]


def test_reference_divergence_by_hand():
    found = reference_divergence(ratios(0.5, 0.25, 0.2), rows(reference_logp=ratios(0.5, 0.5, 0.1))).loss
    assert found.tolist() == pytest.approx([0.0, 2 - math.log(2) - 1, 0.5 + math.log(2) - 1])


def test_reference_divergence_is_unbiased():
    policy, other = tensor(0.2, 0.5, 0.3), tensor(0.4, 0.4, 0.2)
    found = reference_divergence(policy.log(), rows(reference_logp=other.log())).loss
    assert bool((found >= 0).all())
    exact = (policy * (policy / other).log()).sum()
    assert float((policy * found).sum()) == pytest.approx(float(exact))


# ---- gradients against finite differences

COLUMNS = {
    "behaviour_logp": [-1.0, -0.4, -2.0, -1.3],
    "advantage": [1.5, -0.7, 0.3, -2.0],
    "label": [1.0, 0.0, 0.4, 0.0],
    "success_rate": [0.3, 0.3, 0.6, 0.6],
    "weight": [0.7, 0.7, 0.4, 0.4],
    "reference_logp": [-1.1, -0.9, -1.0, -3.0],
    "return": [1.0, 2.0, -1.0, 0.3],
    "value": [0.5, 1.0, -0.5, 0.3],
}
LOGP = tensor(-0.9, -0.6, -1.7, -1.5, requires_grad=True)
LOSSES = {
    "policy_gradient": lambda x: policy_gradient(x, rows(**COLUMNS)),
    "clipped_ratio": lambda x: clipped_ratio(x, rows(**COLUMNS), low=0.2, high=0.28),
    "unclipped": lambda x: clipped_ratio(x, rows(**COLUMNS), low=None, high=None),
    "likelihood": likelihood,
    "labelled_likelihood": lambda x: labelled_likelihood(x, rows(**COLUMNS)),
    # floors so low that the straight-through maximum is the identity
    "negative_aware": lambda x: negative_aware_likelihood(x, rows(**COLUMNS), negative_floor=1e-3),
    "negative_aware_floored": lambda x: negative_aware_likelihood(
        x, rows(**COLUMNS), negative_floor=1e-3, positive_floor=1e-3
    ),
    "negative_aware_sequence": lambda x: negative_aware_likelihood(
        x, rows(owner=[0, 0, 1, 1], whole=True, **COLUMNS), negative_floor=1e-3, ratio="sequence"
    ),
    "reference_divergence": lambda x: reference_divergence(x, rows(**COLUMNS)),
    "squared_error": lambda x: squared_error(x, rows(**COLUMNS)),
    "clipped_error": lambda x: squared_error(x, rows(**COLUMNS), clip=0.2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x).loss, (LOGP,))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_gradients_of_mirror_descent(kind):
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    old = torch.randn(4, 6, dtype=torch.float64, generator=generator)

    def loss(given):
        new = Categorical(given) if kind == "categorical" else Gaussian(*given.chunk(2, dim=-1))
        action = torch.tensor([0, 5, 2, 3]) if kind == "categorical" else old[:, :3]
        columns = {**COLUMNS, "old_distribution": old}
        return mirror_descent(new.logp(action), new, rows(**columns), 0.3).loss

    assert torch.autograd.gradcheck(loss, (parameters,))


# ---- distributions


def pair(kind):
    generator = torch.Generator().manual_seed(3)
    one, other = (torch.randn(5, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    if kind == "categorical":
        mine = [Categorical(one), Categorical(other)]
        theirs = [reference.Categorical(logits=one), reference.Categorical(logits=other)]
        return mine, theirs, torch.tensor([0, 5, 2, 3, 3])
    split = [p.chunk(2, dim=-1) for p in (one, other)]
    mine = [Gaussian(mean, log_std) for mean, log_std in split]
    theirs = [reference.Independent(reference.Normal(mean, log_std.exp()), 1) for mean, log_std in split]
    return mine, theirs, torch.randn(5, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_distributions_agree_with_torch(kind):
    (one, other), (expected, expected_other), action = pair(kind)
    torch.testing.assert_close(one.logp(action), expected.log_prob(action))
    torch.testing.assert_close(one.entropy(), expected.entropy())
    torch.testing.assert_close(one.kl(other), reference.kl_divergence(expected, expected_other))
    torch.testing.assert_close(other.kl(one), reference.kl_divergence(expected_other, expected))
    torch.testing.assert_close(one.kl(one), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_distributions_read_back_from_their_parameters(kind):
    (one, other), _, action = pair(kind)
    again = other.like(one.parameters)
    assert torch.equal(again.logp(action), one.logp(action))
    assert torch.equal(again.kl(other), one.kl(other))


def test_one_deviation_for_all_rows_is_spread():
    gaussian = Gaussian(torch.zeros(4, 2), torch.tensor([0.1, 0.2]))
    assert gaussian.parameters.shape == (4, 4)
    assert gaussian.entropy().shape == (4,)
    assert gaussian.kl(gaussian).tolist() == [0.0] * 4


def test_logits_far_from_normal_stay_finite():
    extreme = Categorical(torch.tensor([[1e4, 0.0, -1e4]]))
    assert float(extreme.entropy()) == 0.0
    assert float(extreme.logp(torch.tensor([1]))) == -1e4
    assert math.isfinite(float(extreme.kl(Categorical(torch.zeros(1, 3)))))
