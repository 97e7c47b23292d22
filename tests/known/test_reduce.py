"""Reductions by hand: what each decision weighs in an optimiser step."""

import pytest
import torch

from pilotage.data.piece import UsageError
from pilotage.losses.reduce import check_reduction, decision_weights

OWNER = torch.tensor([0, 1, 1, 1])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("token", [0.25] * 4),
        ("sequence", [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
        ("constant(10)", [1 / 20] * 4),
        ("constant(0.5)", [1.0] * 4),
    ],
)
def test_by_hand(how, expected):
    assert decision_weights(how, OWNER).tolist() == pytest.approx(expected)


def test_numbers_of_the_card():
    losses = torch.tensor([2.0, 1.0, 1.0, 1.0])
    totals = {how: float((decision_weights(how, OWNER) * losses).sum()) for how in ("token", "sequence", "constant(4)")}
    assert totals == pytest.approx({"token": 1.25, "sequence": 1.5, "constant(4)": 5 / 8})


def test_order_of_decisions_and_numbers_of_episodes_are_no_matter():
    shuffled = torch.tensor([9, 3, 9, 9])
    assert decision_weights("sequence", shuffled).tolist() == pytest.approx([1 / 6, 1 / 2, 1 / 6, 1 / 6])
    assert decision_weights("constant(10)", shuffled).tolist() == pytest.approx([1 / 20] * 4)


@pytest.mark.parametrize("how", ["token", "sequence", "constant(7)"])
def test_shares_of_two_processes_make_the_weights_of_one(how):
    whole = decision_weights(how, torch.tensor([0, 1, 1, 1, 2, 2]))
    counts = {"token": 6.0, "sequence": 3.0, "constant(7)": 3.0}
    parts = [torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0])]
    found = torch.cat([decision_weights(how, p, lambda _: torch.tensor(counts[how]).double()) for p in parts])
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("how", ["token", "sequence", "constant(7)"])
def test_no_decision_weighs_nothing(how):
    assert decision_weights(how, torch.zeros(0, dtype=torch.long)).tolist() == []


@pytest.mark.parametrize(
    "how",
    ["mean", "tokens", "", "constant", "constant()", "constant(0)", "constant(-3)", "constant(x)", "constant(1)x"],
)
def test_bad_names_are_refused(how):
    with pytest.raises(UsageError, match=r"token, sequence, constant\(L\)"):
        check_reduction(how)
    with pytest.raises(UsageError):
        decision_weights(how, OWNER)


@pytest.mark.parametrize("how", ["constant(1.2.3)", "constant(.)"])
def test_numbers_that_are_none_are_refused(how):
    with pytest.raises(UsageError):
        check_reduction(how)
