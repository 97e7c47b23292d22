"""What depends on how hard a problem was, by the step's own answers to it (column `difficulty` of the rollout)."""

from __future__ import annotations

import torch

from pilotage.credit.groups import without_signal
from pilotage.data.batch import Batch, Difficulty


def keep_learnable(batch: Batch) -> Batch:
    """Leaves out groups whose returns are all equal (and invalid episodes), as `drop_without_signal` does; where none
    is left, all problems as they stand, without their rewrites: then only penalties act.

    Reads `rewritten` [E] where it is there. CLPO (arXiv 2509.25004), released code.
    """
    kept = ~without_signal(batch)
    if not bool(kept.any()):
        kept = batch.valid & ~batch["rewritten"] if "rewritten" in batch else batch.valid
    return batch.select(kept)


def kl_scale(batch: Batch, *, hard: float = 0.5, other: float = 1.0) -> Batch:
    """Writes `kl_scale` [D]: `hard` in episodes of hard problems and their rewrites, else `other`.

    The label, `difficulty` [E], is that of the problem's first answers, whatever else is in the batch by now. CLPO
    (arXiv 2509.25004).
    """
    scale = torch.where(batch["difficulty"] == Difficulty.HARD, hard, other)
    return batch.with_columns(kl_scale=batch.spread(scale.float()))
