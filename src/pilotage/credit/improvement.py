"""Credit for answers made of earlier ones: what they gained on them, and how far they went from the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pilotage.credit.novelty import embeddings
from pilotage.credit.shaping import shaping, with_returns
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.policies.base import Policy


@shaping
def gain(batch: Batch, world: Any, *, relative: bool = True) -> Batch:
    """The return of an answer that was asked to improve on one worth W (variant "improve W") becomes the share of what
    was left to gain, max(0, (G - W) / (1 - W)), G its quality in [0, 1]; 0 where nothing was left. All others keep
    theirs, and so do these with `relative` off. Writes `reward` and `verdict`, both [D].

    Jiang et al. 2025, arXiv 2509.04575, section on self-iteration rewards. For verdicts of 0 or 1 it pays nothing for
    keeping a right answer, and the paper's experiments then keep the verdict.
    """
    if not relative:
        return batch
    asked = [variant.partition(" ") for variant in batch.notes["variant"]]
    earlier = torch.tensor([float(w) if kind == "improve" and w else torch.nan for kind, _, w in asked]).double()
    gained = relative_gain(world.quality(batch.returns.double()), earlier)
    return with_returns(batch, torch.where(earlier.isnan(), batch.returns.double(), gained))


def relative_gain(new: Tensor, earlier: Tensor) -> Tensor:
    """max(0, (new - earlier) / (1 - earlier)) of qualities in [0, 1]; 0 where the earlier one is 1."""
    left = 1 - earlier
    return torch.where(left > 0, (new - earlier) / torch.where(left > 0, left, 1.0), 0.0).clamp(min=0)


class Novelty:
    """Multiplies `advantage` [D] by an answer's distance from its group's centre over the range of its group's.

        A_i ← A_i d_i,   d_i = |e_i - ē| / (max_j |e_j - ē| - min_j |e_j - ē|)

    e: the mean of the answer's hidden states under the policy as it is. d is 1 where all distances are equal, and at
    most `most` (None: not held): the range is small where answers are nearly the same. Signs are kept; the group's mean
    advantage is 0 no more. Jiang et al. 2025, arXiv 2509.04575, who embed answers with another model and have no bound.
    """

    def __init__(self, *, most: float | None = 5.0) -> None:
        if most is not None and not most > 0:
            raise UsageError(f"most is above 0, or none, not {most}")
        self.most = most
        self.told: dict[str, float] = {}

    def __call__(self, batch: Batch, policy: Policy) -> Batch:
        factor = torch.ones(len(batch), dtype=torch.float64)
        heard = batch.total((batch["advantage"] != 0).long() * batch.sampled.long()) > 0
        wanted = (torch.isin(batch["group"], batch["group"][heard]) & batch.valid).nonzero().squeeze(-1)
        if len(wanted):
            embedded, group = embeddings(batch.select(wanted), policy), batch["group"][wanted]
            for one in torch.unique(group):
                distance = (embedded[group == one] - embedded[group == one].mean(0)).norm(dim=1)
                factor[wanted[group == one]] = distance_factor(distance)
        if self.most is not None:
            factor = factor.clamp(max=self.most)
        self.told = {"novelty/factor": float(factor.mean()), "novelty/most": float(factor.max())} if len(batch) else {}
        return batch.with_columns(advantage=batch["advantage"] * batch.spread(factor.to(batch["advantage"].dtype)))

    def metrics(self) -> dict[str, float]:
        """Mean and largest factor of the step's answers, `novelty/factor` and `novelty/most`."""
        return self.told


def distance_factor(distance: Tensor) -> Tensor:
    """[k] distances over the range of them; 1 where they are equal but for rounding."""
    reach = distance.max() - distance.min()
    return distance / reach if float(reach) > 1e-6 * float(distance.max()) else torch.ones_like(distance)
