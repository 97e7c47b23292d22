"""The exponential moving average: written once, with state that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotage.data.piece import UsageError


class MovingAverage:
    """A vector that follows what it is shown: value ← keep · value + (1 - keep) · new.

    With a step size α it is TD(0) on rewards that nothing follows: keep = 1 - α. start: the value before anything was
    shown; where it is empty, the first that is shown is taken as it is. keep 0 holds the newest only, keep 1 never
    moves. Raises UsageError for a keep outside [0, 1].
    """

    def __init__(self, keep: float, start: ArrayLike = ()) -> None:
        if not 0 <= keep <= 1:
            raise UsageError(f"a moving average keeps a share from 0 to 1 of what it was, not {keep:g}")
        self.keep = keep
        self.value: NDArray[np.float64] = np.array(start, np.float64)

    def update(self, new: ArrayLike, where: ArrayLike | None = None) -> NDArray[np.float64]:
        """The value after `new` was shown; with `where`, a bool for each entry, the others stay as they are."""
        shown = np.asarray(new, np.float64)
        if not self.value.size:
            self.value = shown.copy()
            return self.value
        moved = self.keep * self.value + (1 - self.keep) * shown
        self.value = moved if where is None else np.where(np.asarray(where, np.bool_), moved, self.value)
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """The value."""
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes a value up again."""
        self.value = np.array(state["value"], np.float64)
