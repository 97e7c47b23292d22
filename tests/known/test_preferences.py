"""Losses of pairs: the numbers of their cards, worked by hand, and the cases in which one is another, to the bit."""

import math

import pytest
import torch

from helpers import rows
from pilotage.data.piece import UsageError
from pilotage.losses.preference import logistic, mirror_regression, regularised_logistic, squared

# one pair of one decision a side, and a batch of three pairs of ragged sides
ONE = {"pair": [0.0, 0.0], "preferred": [1.0, 0.0], "reference_logp": [-2.5, -2.5], "behaviour_logp": [-2.5, -2.5]}


def ragged(dtype=torch.float32, lengths=(3, 1, 2, 4, 1, 5), seed=0):
    """logp [S] that wants a gradient, and rows: episodes 0 to 5, pairs (0, 1), (2, 3), (4, 5)."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(6), torch.tensor(lengths))
    columns = {
        "pair": owner // 2,
        "preferred": torch.tensor([1, 0, 0, 1, 1, 0])[owner],
        **{name: -torch.rand(len(owner), generator=generator) * 3 for name in ("reference_logp", "behaviour_logp")},
    }
    found = rows(owner.tolist(), whole=True, **columns)
    for name in ("reference_logp", "behaviour_logp"):
        found.columns[name] = columns[name].to(dtype)
    found.columns["pair"], found.columns["preferred"] = columns["pair"], columns["preferred"].bool()
    return (-torch.rand(len(owner), generator=generator) * 3).to(dtype).requires_grad_(), found


def both(loss, **settings):
    """A loss per decision and the gradient of its sum, on the ragged pairs."""
    logp, found = ragged()
    terms = loss(logp, found, **settings)
    (gradient,) = torch.autograd.grad(terms.loss.sum(), logp)
    return terms.loss.detach(), gradient


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def at(formula, logp=(-2.0, -3.0), **settings):
    """The pair's loss, and its derivatives for the preferred side and the other."""
    value = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    terms = formula(value, rows([0, 1], whole=True, **ONE), **settings)
    (gradient,) = torch.autograd.grad(terms.loss[0], value)
    loss = terms.loss.tolist()
    assert loss[0] == loss[1]  # both sides carry the pair's loss
    return loss[0], *gradient.tolist()


def test_rpo_by_hand():
    loss, winner, loser = at(regularised_logistic, beta=0.1, eta=0.005)
    assert loss == pytest.approx(0.645397, abs=5e-7)
    assert winner == pytest.approx(-0.0480021, abs=5e-8)
    assert loser == pytest.approx(0.0475021, abs=5e-8)
    assert at(logistic, beta=0.1)[0] == pytest.approx(0.644397, abs=5e-7)
    assert loss - at(logistic, beta=0.1)[0] == pytest.approx(0.001, abs=1e-12)


def test_rpo_where_it_starts():
    loss, winner, loser = at(regularised_logistic, (-2.5, -2.5), beta=0.1, eta=0.005)
    assert loss == pytest.approx(math.log(2) + 0.005 * 0.1 * 2.5, abs=1e-12)
    assert winner == pytest.approx(-0.05 - 0.0005, abs=1e-12)
    assert loser == pytest.approx(0.05, abs=1e-12)
    assert at(logistic, (-2.5, -2.5))[0] == pytest.approx(math.log(2), abs=1e-12)


def test_rpo_without_its_term_is_dpo_to_the_bit():
    assert same(both(regularised_logistic, eta=0.0, average=0.0), both(logistic))
    assert not same(both(regularised_logistic, eta=0.005), both(logistic))
    assert not same(both(regularised_logistic, eta=0.0, average=0.2), both(logistic))


@pytest.mark.parametrize("length", [1, 3, 4])
def test_rpo_summed_is_rpo_averaged_where_lengths_agree(length):
    beta, eta = 0.1, 0.05
    found = []
    for settings in ({"eta": eta}, {"eta": 0.0, "average": eta * beta * length}):
        logp, batch = ragged(lengths=(length,) * 6)
        terms = regularised_logistic(logp, batch, beta=beta, **settings)
        found.append((terms.loss.detach(), *torch.autograd.grad(terms.loss.sum(), logp)))
    assert same(*found)


def test_a_batch_twice_is_the_batch():
    logp, batch = ragged(torch.float64)
    once = regularised_logistic(logp, batch).loss
    again = {name: torch.cat([c, c + 3 if name == "pair" else c]) for name, c in batch.columns.items()}
    twice = rows(torch.cat([batch.owner, batch.owner + 6]).tolist(), whole=True, **again)
    assert torch.equal(regularised_logistic(torch.cat([logp, logp]), twice).loss, torch.cat([once, once]))


def test_inpo_where_it_starts():
    eta, tau = 0.5, 0.1
    loss, winner, loser = at(mirror_regression, (-2.5, -2.5), eta=eta, tau=tau)
    assert loss == pytest.approx(1 / (4 * eta**2), abs=1e-12)
    assert (winner, loser) == pytest.approx((-1 / eta, 1 / eta), abs=1e-12)


def test_inpo_by_hand():
    # D = 1, D_ref = 0.5, D_t = -1: h = 1 - 0.25 · 0.5 - 0.75 · (-1) = 1.625, against 1/(2 · 0.4) = 1.25
    found = rows([0, 1], whole=True, **ONE | {"reference_logp": [-2.0, -2.5], "behaviour_logp": [-3.0, -2.0]})
    loss = mirror_regression(torch.tensor([-2.0, -3.0], dtype=torch.float64), found, eta=0.4, tau=0.1).loss
    assert loss.tolist() == pytest.approx([0.375**2] * 2, abs=1e-12)


def test_inpo_of_turned_labels():
    logp = torch.tensor([-2.0, -3.3], dtype=torch.float64)
    c = 1 / (2 * 0.5)
    right = mirror_regression(logp, rows([0, 1], whole=True, **ONE), eta=0.5, tau=0.5).loss[0]
    wrong = mirror_regression(logp, rows([0, 1], whole=True, **ONE | {"preferred": [0.0, 1.0]}), eta=0.5, tau=0.5).loss[
        0
    ]
    assert float(right) == pytest.approx((1.3 - c) ** 2)
    assert float(wrong) == pytest.approx((1.3 + c) ** 2)
    moved = mirror_regression(logp + 7.0, rows([0, 1], whole=True, **ONE), eta=0.5, tau=0.5).loss[0]
    assert float(moved) == pytest.approx(float(right))


def test_inpo_at_its_ends_is_ipo_to_the_bit():
    assert same(both(mirror_regression, eta=0.3, tau=0.3), both(squared, beta=0.3))
    assert same(both(mirror_regression, eta=0.3, tau=0.0), both(squared, beta=0.3, reference=0.0, previous=1.0))
    assert not same(both(mirror_regression, eta=0.3, tau=0.1), both(squared, beta=0.3))


def test_ipo_by_hand():
    # h = 1, target 1/(2 · 0.25) = 2
    assert at(squared, beta=0.25) == pytest.approx((1.0, -2.0, 2.0), abs=1e-12)


def test_sums_are_over_each_side_and_means_if_asked():
    logp, batch = ragged(torch.float64)
    held = (logp - batch["reference_logp"]).detach()
    for how in ("sum", "mean"):
        expected = []
        for winner, loser in ((0, 1), (3, 2), (4, 5)):
            parts = [getattr(held[batch.owner == side], how)() for side in (winner, loser)]
            expected.append(float((parts[0] - parts[1] - 1 / 0.2) ** 2))
        found = squared(logp, batch, beta=0.1, log_prob=how).loss
        assert [float(found[batch.owner == 2 * i][0].detach()) for i in range(3)] == pytest.approx(expected)


def test_the_margin_is_promised_to_start_at_0_where_anchors_add_up_to_1():
    logp, batch = ragged()
    batch.columns["reference_logp"] = batch.columns["behaviour_logp"] = logp.detach()
    for terms in (
        logistic(logp, batch),
        squared(logp, batch, reference=0.0, previous=1.0),
        mirror_regression(logp, batch),
    ):
        assert terms.zero_at_start is not None
        assert terms.zero_at_start.tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    assert logistic(logp, batch).loss.tolist() == pytest.approx([math.log(2)] * len(logp), abs=1e-6)
    assert logistic(logp, batch, reference=0.5).zero_at_start is None


def test_what_is_told_of_pairs():
    logp, batch = ragged(torch.float64)
    told, logp = logistic(logp, batch).diagnostics(), logp.detach()
    assert told["chosen_logp"].tolist() == pytest.approx([float(logp[batch.owner == e].sum()) for e in (0, 3, 4)])
    assert told["rejected_logp"].tolist() == pytest.approx([float(logp[batch.owner == e].sum()) for e in (1, 2, 5)])
    assert told["above_0"].tolist() == [float(m > 0) for m in told["margin"]]


@pytest.mark.parametrize(
    ("loss", "settings", "said"),
    [
        (mirror_regression, {"eta": 0.1, "tau": 0.2}, "0 <= tau <= eta"),
        (mirror_regression, {"eta": 0.0, "tau": 0.0}, "eta > 0"),
        (squared, {"beta": 0.0}, "beta is above 0"),
        (logistic, {"log_prob": "median"}, "log_prob is sum or mean"),
    ],
)
def test_settings_that_cannot_be(loss, settings, said):
    logp, batch = ragged()
    with pytest.raises(UsageError, match=said):
        loss(logp, batch, **settings)


def test_a_pair_cut_in_two_is_refused():
    logp, batch = ragged()
    part = rows(batch.owner[:3].tolist(), whole=True, **{n: c[:3] for n, c in batch.columns.items()})
    with pytest.raises(UsageError, match='unit "group"'):
        logistic(logp[:3], part)


def test_an_anchor_that_is_not_there_is_named():
    logp, batch = ragged()
    del batch.columns["behaviour_logp"]
    with pytest.raises(UsageError, match="no behaviour_logp"):
        mirror_regression(logp, batch)
    assert mirror_regression(logp, batch, eta=0.3, tau=0.3).loss.shape == logp.shape
