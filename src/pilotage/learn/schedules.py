"""Schedules: factors on the learning rate from a run's progress in [0, 1)."""

from __future__ import annotations

import math


def constant(progress: float, *, warmup: float = 0.0) -> float:
    """A factor of 1, after rising to it on a line over the share `warmup` of the run."""
    return min(1.0, progress / warmup) if warmup else 1.0


def linear(progress: float, *, final: float = 0.0) -> float:
    """A factor that falls on a line from 1 to `final` as progress goes from 0 to 1."""
    return 1.0 + (final - 1.0) * progress


def step(progress: float, *, at: float = 0.5, final: float = 0.1) -> float:
    """A factor of 1 over the share `at` of the run, then of `final`."""
    return 1.0 if progress < at else final


def cosine(progress: float, *, final: float = 0.0, warmup: float = 0.0) -> float:
    """A factor that rises from 0 over the share `warmup` of the run, then falls along half a cosine to `final`."""
    if progress < warmup:
        return progress / warmup
    phase = (progress - warmup) / max(1.0 - warmup, 1e-12)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * phase))
