"""Switches: on or off by the step, or by a signal. They say what they are at, and their state goes on with a run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.data.piece import UsageError


class Step:
    """Off before step `at` (counted from 0), on from there; 0 is always on."""

    def __init__(self, at: int = 0) -> None:
        if at < 0:
            raise UsageError(f"a switch goes on at step 0 or later, not {at}")
        self.at = at

    def __call__(self, step: int) -> bool:
        """Whether it is on at this step."""
        return step >= self.at


class Hysteresis:
    """Goes on when a signal reaches `on`, off when it falls to `off`, and stays as it is in between; off at first.

    Raises UsageError unless off < on.
    """

    def __init__(self, on: float, off: float) -> None:
        if not off < on:
            raise UsageError(f"a switch goes off below where it goes on; not off at {off:g} and on at {on:g}")
        self.on, self.off = on, off
        self.is_on = False

    def __call__(self, signal: float) -> bool:
        """Whether it is on, now that the signal is this; one that is NaN changes nothing."""
        if signal >= self.on:
            self.is_on = True
        elif signal <= self.off:
            self.is_on = False
        return self.is_on

    def state_dict(self) -> dict[str, Any]:
        return {"is_on": self.is_on}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.is_on = bool(state["is_on"])
