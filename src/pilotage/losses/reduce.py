"""Reduction: from per-decision losses to one number, with denominators counted over the whole optimiser step.

A reduction is a weight for each decision, fixed before the step is split into micro-batches or over ranks, so that
splits, order, padding and rank count never change a gradient: `loss = sum over decisions of weight * loss`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilotage.data.piece import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Sum = Callable[["Tensor"], "Tensor"]


def alone(total: Tensor) -> Tensor:
    """The sum over ranks where there is one rank."""
    return total


def check_reduction(how: str) -> None:
    """Raises UsageError unless `how` is token, sequence or constant(L) with L > 0."""
    if how not in ("token", "sequence") and not _constant(how):
        raise UsageError(f"reduction {how!r} is not one of token, sequence, constant(L) with L > 0")


def _constant(how: str) -> float:
    match = re.fullmatch(r"constant\((\d+(?:\.\d+)?)\)", how)
    return float(match.group(1)) if match else 0.0


def decision_weights(how: str, owner: Tensor, over_ranks: Sum = alone) -> Tensor:
    """[S] weights of the decisions of one optimiser step; owner [S] is each decision's episode.

    token: every decision the same, 1 / (number of decisions). sequence: every episode the same, and within it every
    decision: 1 / (E · length). constant(L): 1 / (E · L), so long episodes weigh more but lengths cannot change the
    scale. E counts episodes with a sampled decision. `over_ranks` sums a count over processes.

    Sources: token: DAPO (Yu et al. 2025, eq. 8); sequence: GRPO (Shao et al. 2024, eq. 3); constant: Dr.GRPO (Liu et
    al. 2025).
    """
    import torch  # here, since recipes check the names of reductions and need no torch for it

    if how == "token":
        count = float(len(owner))
        if over_ranks is not alone:
            count = float(over_ranks(torch.tensor(count, dtype=torch.float64)))
        return torch.full((len(owner),), 1.0 / max(count, 1.0))
    lengths = torch.bincount(owner) if len(owner) else torch.zeros(0)
    episodes = float(over_ranks((lengths > 0).sum().double()))
    if how == "sequence":
        return 1.0 / (max(episodes, 1.0) * lengths[owner].float())
    check_reduction(how)
    return torch.full((len(owner),), 1.0 / (max(episodes, 1.0) * _constant(how)))


def moments(values: Tensor, over_ranks: Sum = alone) -> Tensor:
    """[3] count, mean and summed squares about the mean, over all processes; squares of equal values are exactly 0."""
    import torch  # as above

    count, total = over_ranks(torch.stack([values.new_tensor(float(len(values))), values.sum()]))
    mean = total / count.clamp(min=1)
    return torch.stack([count, mean, over_ranks((values - mean).square().sum())])
