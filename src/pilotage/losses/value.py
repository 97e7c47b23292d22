"""Losses of state values, per decision."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def squared_error(value: Tensor, rows: Minibatch, *, clip: float | None = None) -> Terms:
    """(V - G)², per decision [S], G the column `return`; with `clip`, the larger of it and that of V held within `clip`
    of the column `value`. Schulman et al. 2017, section 5; the clipped form is of its released code."""
    return Terms(_larger_error(value, rows, clip, clip))


def bounded_error(value: Tensor, rows: Minibatch, *, down: float | None = 0.5, up: float | None = 0.6) -> Terms:
    """max((V - G)², (V' - G)²), per decision [S], V' held at most `down` below and `up` above the column `value`; None
    for no bound. T-PPO, arXiv 2506.15050: a value may rise further than it may fall."""
    return Terms(_larger_error(value, rows, down, up))


def _larger_error(value: Tensor, rows: Minibatch, down: float | None, up: float | None) -> Tensor:
    error = (value - rows["return"]).square()
    if down is None and up is None:
        return error
    held = rows["value"] + (value - rows["value"]).clamp(None if down is None else -down, up)
    return torch.maximum(error, (held - rows["return"]).square())


def expectile_error(value: Tensor, rows: Minibatch, *, expectile: float = 0.7) -> Terms:
    """|τ - 1(Q < V)| (Q - V)², per decision [S], τ the `expectile` in (0, 1) and Q the column `slow_q`.

    0.5 is half the squared error, so V the mean of Q over actions; near 1, V is near its maximum over the data's
    actions. Raises UsageError for an expectile outside (0, 1). Kostrikov et al. 2022, eq. 5.
    """
    if not 0 < expectile < 1:
        raise UsageError(f"expectile is between 0 and 1, not {expectile:g}")
    gap = rows["slow_q"] - value
    weight = (expectile - (gap < 0).to(gap.dtype)).abs()
    return Terms(weight * gap.square(), lambda: {"value": value})


def pessimistic_error(value: Tensor, following_q: Tensor, rows: Minibatch, *, discount: float = 0.99) -> Terms:
    """(V(s) - min(y, r + γ (1 - terminated) min_i Q_i(s', a')))², per decision [S]; the right side without gradient.

    y is the column `target`, made by slow critics of the same a'; following_q [S, N] is of the critics as they are now.
    A2PR (Liu et al. 2024), released code: V is of the policy's own next action, no expectile.
    """
    now = rows["reward"] + discount * rows["going"] * following_q.detach().min(-1).values
    return Terms((value - torch.minimum(now, rows["target"])).square(), lambda: {"value": value})
