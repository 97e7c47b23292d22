"""Rows drawn in proportion to weights that may change between draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from pilotage.data.piece import UsageError

BLOCK = 64  # of fewer there are more sums to add up, of more each draw reads more rows: this is about the quickest
Rows = np.ndarray[Any, np.dtype[np.int64]]
Weights = np.ndarray[Any, np.dtype[Any]]


class Weighted:
    """Draws of N rows by their weights, a float array that the owner keeps; `changed` says which of them it wrote.

    Sums of 64 weights each are kept, so that a draw reads the sums and the blocks it falls into, not all rows. A sum
    depends on its block's weights only, not on how they came to be: a resumed run draws what the unbroken one would.
    Raises UsageError for a weight that is not finite or below 0.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.sums = np.array([self._sum(block) for block in range(-(-len(weights) // BLOCK))])

    def _sum(self, block: int) -> float:
        weights = self.weights[block * BLOCK : (block + 1) * BLOCK]
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise UsageError("draw weights are finite and at least 0")
        return float(weights.sum(dtype=np.float64))

    def changed(self, rows: Rows) -> None:
        """Takes note of new weights in these rows."""
        for block in np.unique(rows // BLOCK).tolist():
            self.sums[block] = self._sum(block)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self.sums.sum())

    def draw(self, generator: np.random.Generator, count: int) -> Rows:
        """[count] numbers of rows, with replacement; never one of weight 0. Raises UsageError where all are 0."""
        above = self.sums.cumsum()
        if not above[-1] > 0:
            raise UsageError("all draw weights are 0: there is no decision to draw")
        level = generator.random(count) * above[-1]
        block = np.minimum(np.searchsorted(above, level, side="right"), np.flatnonzero(self.sums)[-1])
        level -= above[block] - self.sums[block]
        rows = block[:, np.newaxis] * BLOCK + np.arange(BLOCK)
        weights = np.where(rows < len(self.weights), self.weights.take(rows, mode="clip"), 0)
        inside = weights.cumsum(1, dtype=np.float64)
        last = (inside < inside[:, -1:]).sum(1)  # above it, rounding would lead
        found: Rows = block * BLOCK + np.minimum((inside <= level[:, np.newaxis]).sum(1), last)
        return found
