"""Losses of pairs of answers, one formula each. A pair's loss stands at every decision of both its sides, so reduction
`sequence` is the mean over pairs; it needs the term's unit "group".

All rest on one margin between the preferred side w and the other one l, held against weighted anchors:

    h = D - w_reference · D_reference - w_previous · D_previous,    D = log π(w) - log π(l)

D_reference is of the run's start (column `reference_logp`), D_previous of the policy that made the pairs (column
`behaviour_logp`). Which side is preferred is the column `preferred`, which pair a decision belongs to `pair`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.data.piece import UsageError
from pilotage.losses.terms import Diagnostics, Terms
from pilotage.policies.base import Minibatch

LOSER, WINNER = 0, 1


class Pairs:
    """The P pairs of a minibatch: which pair each decision is of, and sums over each side.

    log_prob: "sum" over a side's decisions, or "mean". Raises UsageError where one side of a pair is missing.
    """

    def __init__(self, rows: Minibatch, log_prob: str) -> None:
        if log_prob not in ("sum", "mean"):
            raise UsageError(f"log_prob is sum or mean, not {log_prob!r}")
        if "pair" not in rows or "preferred" not in rows:
            raise UsageError("losses of pairs need the columns pair and preferred: a credit link that labels pairs")
        names, self.of = torch.unique(rows["pair"], return_inverse=True)
        self.side = 2 * self.of + rows["preferred"].long()
        self.lengths = torch.bincount(self.side, minlength=2 * len(names)).view(-1, 2)
        if not bool((self.lengths > 0).all()):
            raise UsageError('a pair was cut in two, or has an empty side: its term needs unit "group"')
        self.log_prob = log_prob

    def summed(self, values: Tensor) -> Tensor:
        """[S] → [P, 2]: the sum over the side that is not preferred, and over the one that is."""
        return values.new_zeros(self.lengths.numel()).index_add(0, self.side, values).view(-1, 2)

    def sides(self, values: Tensor) -> Tensor:
        """As `summed`, or the means where log-probs are to be averaged."""
        found = self.summed(values)
        return found / self.lengths.to(found.dtype) if self.log_prob == "mean" else found

    def margin(self, logp: Tensor, rows: Minibatch, reference: float, previous: float) -> Tensor:
        """[P] h; an anchor of weight 0 is not looked at. Raises UsageError where the record lacks an anchor."""
        held = logp
        for weight, column in ((reference, "reference_logp"), (previous, "behaviour_logp")):
            if weight == 0:
                continue
            if column not in rows:
                raise UsageError(
                    f"these pairs have no {column}, on which the margin is to be held; set its weight to 0"
                )
            held = held - (rows[column] if weight == 1 else weight * rows[column])
        found = self.sides(held)
        return found[:, WINNER] - found[:, LOSER]

    def told(self, logp: Tensor, margin: Tensor) -> Diagnostics:
        """What is worth logging: the margin, how often it is above 0, and log-probs of both sides, summed."""

        def found() -> dict[str, Tensor]:
            sums = self.summed(logp)
            shown = {"margin": margin, "above_0": (margin > 0).float()}
            return shown | {"chosen_logp": sums[:, WINNER], "rejected_logp": sums[:, LOSER]}

        return found

    def terms(self, loss: Tensor, logp: Tensor, margin: Tensor, anchors: float) -> Terms:
        """The loss [P] at every decision; the margin is 0 at the start where the anchors' weights add up to 1."""
        return Terms(loss[self.of], self.told(logp, margin), margin if abs(anchors - 1) < 1e-9 else None)


def logistic(
    logp: Tensor,
    rows: Minibatch,
    *,
    beta: float = 0.1,
    reference: float = 1.0,
    previous: float = 0.0,
    log_prob: str = "sum",
) -> Terms:
    """DPO: -log σ(β h), per decision [S]. Rafailov et al. 2023, eq. 7."""
    pairs = Pairs(rows, log_prob)
    margin = pairs.margin(logp, rows, reference, previous)
    return pairs.terms(-functional.logsigmoid(beta * margin), logp, margin, reference + previous)


def squared(
    logp: Tensor,
    rows: Minibatch,
    *,
    beta: float = 0.1,
    reference: float = 1.0,
    previous: float = 0.0,
    log_prob: str = "sum",
) -> Terms:
    """IPO: (h - 1/(2β))², per decision [S]. Azar et al. 2023, eq. 17, whose τ is β here."""
    if beta <= 0:
        raise UsageError(f"beta is above 0, not {beta:g}")
    pairs = Pairs(rows, log_prob)
    margin = pairs.margin(logp, rows, reference, previous)
    return pairs.terms((margin - 1 / (2 * beta)).square(), logp, margin, reference + previous)


def mirror_regression(
    logp: Tensor, rows: Minibatch, *, eta: float = 0.3, tau: float = 0.1, log_prob: str = "sum"
) -> Terms:
    """INPO: (h - 1/(2η))² with anchors τ/η on the start and 1 - τ/η on the round's policy, per decision [S].

    Its minimiser over i.i.d. pairs of the round's policy, labelled by the oracle, is a step of mirror descent in the
    game regularised by τ. τ = η is IPO with β = η against the start, τ = 0 against the round's policy, both to the bit.
    Zhang et al. 2024, arXiv 2407.00617. Raises UsageError unless 0 <= τ <= η and η > 0.
    """
    if not 0 <= tau <= eta or eta <= 0:
        raise UsageError(f"0 <= tau <= eta and eta > 0, not tau {tau:g} and eta {eta:g}")
    share = tau / eta
    return squared(logp, rows, beta=eta, reference=share, previous=1 - share, log_prob=log_prob)


def regularised_logistic(
    logp: Tensor,
    rows: Minibatch,
    *,
    beta: float = 0.1,
    eta: float = 0.005,
    average: float = 0.0,
    reference: float = 1.0,
    previous: float = 0.0,
) -> Terms:
    """RPO: -log σ(β h) - η β log π(w), per decision [S], log-probs summed over the answer; Liu et al. 2024, eq. 4.8.

    average: weight of the released code's other form, -(1/|w|) log π(w), which is not multiplied by β. Either weight
    at 0 leaves its term out: with both at 0 this is DPO to the bit, gradients included.
    """
    pairs = Pairs(rows, "sum")
    margin = pairs.margin(logp, rows, reference, previous)
    loss = -functional.logsigmoid(beta * margin)
    chosen = pairs.summed(logp)[:, WINNER] if eta or average else None
    if chosen is not None and eta:
        loss = loss - eta * beta * chosen
    if chosen is not None and average:
        # the weights are divided before they meet the sums: equal lengths then give the summed form to the bit
        loss = loss - (average / pairs.lengths[:, WINNER].double()).to(chosen.dtype) * chosen
    return pairs.terms(loss, logp, margin, reference + previous)
