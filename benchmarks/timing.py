"""The clocks of a repeat."""

from __future__ import annotations

import os
import time


def clock() -> tuple[float, float]:
    """Wall seconds, and processor seconds of this process with its ended children."""
    times = os.times()
    return time.perf_counter(), times.user + times.system + times.children_user + times.children_system


def since(began: tuple[float, float]) -> tuple[float, float]:
    """Both, since an earlier look at the clock."""
    now = clock()
    return now[0] - began[0], now[1] - began[1]
