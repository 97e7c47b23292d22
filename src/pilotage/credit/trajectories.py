"""How often each decision of a logged data set is drawn, by how well its whole episode went."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError

SCORES = ("advantage", "return")
SLACK = 1e-9  # of the returns' size: scores closer together than this are equal


def softmax_weight(batch: Batch, *, score: str = "advantage", temperature: float = 0.1) -> Batch:
    """`draw_weight` [D]: p = exp(Ā_i / α) / Σ_j T_j exp(Ā_j / α) for every decision of episode i, float64, sum 1.

    Ā is the score brought to [0, 1] over the record: the undiscounted return (RW), or that less what a linear fit
    expects from the first observation (AW, `expected_return`). An episode of T decisions is drawn T times as often as
    one decision of it. Where all scores are equal, or the temperature is infinite, all decisions weigh the same.
    Returns are sums of the rewards that the method learns from; episodes cut by a limit count as they are. Raises
    UsageError. Hong et al. 2023, arXiv 2306.13085, eq. 6 and 7.
    """
    if score not in SCORES:
        raise UsageError(f"score {score!r} is not one of {', '.join(SCORES)}")
    if not temperature > 0:
        raise UsageError(f"the temperature of the weights is above 0, not {temperature}")
    returns = total_reward(batch)
    found = returns - expected_return(batch) if score == "advantage" else returns
    spread = found.max() - found.min()
    if math.isinf(temperature) or not spread > SLACK * returns.abs().max():
        return uniform(batch, torch.ones(len(batch), dtype=torch.bool))
    # measured from the best, so that a low temperature takes the others to 0 and nothing to infinity
    weight = ((found - found.max()) / spread / temperature).exp()
    spread_out = batch.spread(weight)
    return batch.with_columns(draw_weight=spread_out / spread_out.sum())


def top_share(batch: Batch, *, share: float = 0.1) -> Batch:
    """`draw_weight` [D]: the same for all decisions of the ⌊share · n⌋ episodes (at least one) with the highest
    returns, 0 for the others; of equal returns the first. Raises UsageError."""
    if not 0 < share <= 1:
        raise UsageError(f"the share of episodes to keep is above 0 and at most 1, not {share}")
    order = total_reward(batch).argsort(descending=True, stable=True)
    kept = torch.zeros(len(batch), dtype=torch.bool)
    kept[order[: max(1, math.floor(share * len(batch)))]] = True
    return uniform(batch, kept)


def uniform(batch: Batch, kept: Tensor) -> Batch:
    """The same weight for every decision of the episodes kept [E], 0 elsewhere."""
    chosen = batch.spread(kept).double()
    return batch.with_columns(draw_weight=chosen / chosen.sum())


def total_reward(batch: Batch) -> Tensor:
    """[E] undiscounted returns, in float64."""
    return batch.total(batch["reward"].double())


def expected_return(batch: Batch) -> Tensor:
    """[E] what a linear fit of returns, with intercept and one sample an episode, expects from the first observation.

    Entries that are the same in all episodes play no part; with none left the expectation is 0, since a constant
    changes no weight. With several, k, and fewer than 5 k episodes, least squares would explain noise: the squares of
    the (standardised) coefficients are then penalised by 5 k - n, as if the episodes lacking had said nothing.
    """
    returns = total_reward(batch)
    first = batch["observation"][batch.offsets[:-1]].flatten(1).double()
    varying = first.amax(0) > first.amin(0)
    inputs = first[:, varying]
    count, entries = inputs.shape
    if entries == 0:
        return torch.zeros_like(returns)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0, correction=0)
    centred = returns - returns.mean()
    penalty = float(max(0, 5 * entries - count)) if entries > 1 else 0.0
    extended = torch.cat([inputs, math.sqrt(penalty) * torch.eye(entries, dtype=torch.float64)])
    goal = torch.cat([centred, centred.new_zeros(entries)])
    # gelsd: entries may be linear functions of others
    coefficients = torch.linalg.lstsq(extended, goal.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    found: Tensor = returns.mean() + inputs @ coefficients
    return found
