"""What a denoiser learns from: each drawn example gets its own noise."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from pilotage.data.batch import Batch


class Noising(Protocol):
    """A policy that says what its training adds to examples."""

    def noised(self, count: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Columns [n, …] for n examples, such as `level` and `noise`."""


def noised(batch: Batch, policy: Any, generator: np.random.Generator) -> Batch:
    """Adds the columns of `policy.noised`, one row a decision."""
    found: Noising = policy
    return batch.with_columns(**found.noised(batch.decisions, generator))
