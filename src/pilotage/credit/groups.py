"""Credit from groups: an episode's return against that of its group, its batch, or the past. Pure but for "running"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.reduce import Sum, alone, moments

SCOPES = ("none", "group", "batch", "running")


def group_sums(batch: Batch, values: Tensor) -> tuple[Tensor, Tensor]:
    """[E], [E]: for each episode the sum of values over its group and the count, invalid members left out."""
    _, group = torch.unique(batch["group"], return_inverse=True)
    counted = torch.where(batch.valid, values.double(), 0.0)  # what an invalid member holds may be NaN
    totals = torch.zeros(int(group.max()) + 1 if len(group) else 0, dtype=torch.float64)
    counts = totals.clone()
    totals.index_add_(0, group, counted)
    counts.index_add_(0, group, batch.valid.double())
    return totals[group], counts[group]


def merged(one: Tensor, other: Tensor) -> Tensor:
    """[3] the moments of two sets of values together. Chan et al. 1979."""
    count = (one[0] + other[0]).clamp(min=1)
    gap = other[1] - one[1]
    mean = one[1] + gap * other[0] / count
    squares = one[2] + other[2] + gap.square() * one[0] * other[0] / count
    return torch.stack([one[0] + other[0], mean, squares])


class Relative:
    """Advantage of each decision: the episode's return less a mean, over a standard deviation, each at its own scope.

    Scopes are "none", "group", "batch" or "running" (all returns seen so far); the deviation is that of the raw
    returns, not of the centred ones. `ddof` 1 is the sample deviation, 0 the population's. Where the deviation's scope
    has no spread (a group of one, equal returns) the advantage is 0; invalid members enter no statistic and get 0.
    Writes the column `advantage` [D]. `over_ranks` sums over processes.

    Sources: (group, group) Shao et al. 2024; (group, none) Liu et al. 2025, Dr.GRPO; (group, batch) Lite PPO, Liu et
    al. 2025; (batch, batch) Hu 2025, REINFORCE++.
    """

    def __init__(self, *, mean: str = "group", std: str = "group", ddof: int = 1, eps: float = 1e-6) -> None:
        for scope in (mean, std):
            if scope not in SCOPES:
                raise UsageError(f"scope {scope!r} is not one of {', '.join(SCOPES)}")
        if ddof not in (0, 1):
            raise UsageError(f"ddof is 0 (population) or 1 (sample), not {ddof}")
        self.mean, self.std, self.ddof, self.eps = mean, std, ddof, eps
        self.seen = torch.zeros(3, dtype=torch.float64)  # moments of all valid returns so far

    def __call__(self, batch: Batch, over_ranks: Sum = alone) -> Batch:
        return batch.with_columns(advantage=batch.spread(self.per_episode(batch, over_ranks).float()))

    def per_episode(self, batch: Batch, over_ranks: Sum = alone) -> Tensor:
        """[E] float64 the advantage of each episode; "running" scopes take its returns in."""
        returns = batch.returns.double()
        of_batch = moments(returns[batch.valid], over_ranks)
        self.seen = merged(self.seen, of_batch)
        advantage = returns - self._mean_of(batch, returns, of_batch)
        deviation = self._deviation_of(batch, returns, of_batch)
        if deviation is not None:
            advantage = torch.where(deviation > 0, advantage / (deviation + self.eps), 0.0)
        return torch.where(batch.valid, advantage, 0.0)

    def _mean_of(self, batch: Batch, returns: Tensor, of_batch: Tensor) -> Tensor:
        if self.mean == "group":
            total, count = group_sums(batch, returns)
            return total / count.clamp(min=1)
        if self.mean == "none":
            return torch.zeros_like(returns)
        mean: Tensor = (of_batch if self.mean == "batch" else self.seen)[1]
        return mean.expand_as(returns)

    def _deviation_of(self, batch: Batch, returns: Tensor, of_batch: Tensor) -> Tensor | None:
        if self.std == "none":
            return None
        if self.std == "group":
            total, count = group_sums(batch, returns)
            squares, _ = group_sums(batch, (returns - total / count.clamp(min=1)).square())
            return (squares / (count - self.ddof).clamp(min=1)).sqrt()
        count, _, squares = of_batch if self.std == "batch" else self.seen
        deviation: Tensor = (squares / (count - self.ddof).clamp(min=1)).sqrt()
        return deviation.expand_as(returns)

    def state_dict(self) -> dict[str, Any]:
        """What "running" scopes have seen."""
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


def leave_one_out(batch: Batch) -> Batch:
    """RLOO: the return less the mean of the *other* valid members' returns; 0 where only one is valid. Writes
    `advantage` [D]. A recipe that plays groups of one is refused.

    Kool et al. 2019; Ahmadian et al. 2024, eq. 8.
    """
    returns = batch.returns.double()
    total, count = group_sums(batch, returns)
    others = (total - returns) / (count - 1).clamp(min=1)
    advantage = torch.where(batch.valid & (count > 1), returns - others, torch.zeros_like(returns))
    return batch.with_columns(advantage=batch.spread(advantage.float()))


leave_one_out.least_samples = 2  # type: ignore[attr-defined]


def without_signal(batch: Batch) -> Tensor:
    """[E] bool: episodes of groups whose valid returns are all equal, and invalid episodes."""
    returns = batch.returns.double()
    total, count = group_sums(batch, returns)
    mean = total / count.clamp(min=1)
    spread, _ = group_sums(batch, (returns - mean).abs())
    return (spread <= 1e-9 * count * (1 + mean.abs())) | ~batch.valid


def drop_without_signal(batch: Batch) -> Batch:
    """Leaves out groups whose returns are all equal (and invalid episodes). DAPO's dynamic sampling, Yu et al. 2025."""
    return batch.select(~without_signal(batch))


def labels(batch: Batch, *, scale: str = "unit", weight: str = "one", rate_floor: float = 0.02) -> Batch:
    """Labels in [0, 1] and the prompt's success rate. Writes `label`, `success_rate` and `weight`, each [D].

    scale: "unit" takes returns as labels (they must lie in [0, 1]); "rank" the share of the group's other members that
    an episode beats, ties half, for worlds whose returns have no scale of their own. The rate is the mean label of the
    group's valid members, held within [rate_floor, 1 - rate_floor]. weight: "one", "failure" (1 - rate) or "balance"
    (sqrt((1 - rate) / rate)). Chen et al. 2025 (NFT), section 3; the rank is ours. Raises UsageError for a return
    outside [0, 1] at scale "unit".
    """
    returns = batch.returns.double()
    if scale == "unit":
        outside = batch.valid & ((returns < 0) | (returns > 1))
        if bool(outside.any()):
            worst = float(returns[outside][0])
            raise UsageError(f"labels need returns in [0, 1], this world gave {worst:g}; set credit.labels.scale=rank")
        label = returns
    elif scale == "rank":
        label = _rank(batch, returns)
    else:
        raise UsageError(f"scale {scale!r} is not unit or rank")
    total, count = group_sums(batch, label)
    rate = (total / count.clamp(min=1)).clamp(rate_floor, 1 - rate_floor)
    weights = {"one": torch.ones_like(rate), "failure": 1 - rate, "balance": ((1 - rate) / rate).sqrt()}
    if weight not in weights:
        raise UsageError(f"weight {weight!r} is not one of {', '.join(weights)}")
    streams = {"label": label, "success_rate": rate, "weight": weights[weight]}
    return batch.with_columns(**{name: batch.spread(value.float()) for name, value in streams.items()})


def _rank(batch: Batch, returns: Tensor) -> Tensor:
    same = (batch["group"][:, None] == batch["group"][None, :]) & batch.valid[None, :]
    same.fill_diagonal_(False)
    beaten = (returns[:, None] > returns[None, :]).double() + 0.5 * (returns[:, None] == returns[None, :]).double()
    return (beaten * same).sum(1) / same.sum(1).clamp(min=1)
