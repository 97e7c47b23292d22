"""A control step of plans that begin with the one before them, over one of plans that take all levels: one network, one
lane, an action of each plan. Both sides are ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from benchmarks import arithmetic
from benchmarks.measure import Measured
from benchmarks.timing import clock, since

OBSERVATION, ACTION, HISTORY, HORIZON = 39, 4, 2, 15  # of Meta-World; windows of 16


def control_ours(*, hidden: tuple[int, ...], warm: tuple[int, ...], levels: int, steps: int) -> Callable[[], Measured]:
    """`steps` control steps of an episode that has begun."""
    from pilotage.policies.realtime import RealTimePlanner

    return _control(RealTimePlanner, hidden, levels, steps, len(warm), warm=warm)


def control_peer(*, hidden: tuple[int, ...], warm: tuple[int, ...], levels: int, steps: int) -> Callable[[], Measured]:
    """The same with all levels for each plan, and a tenth of the steps, for it takes long."""
    from pilotage.policies.plans import LevelPlanner

    return _control(LevelPlanner, hidden, levels, max(1, steps // 10), levels)


def _control(
    kind: Callable[..., Any], hidden: tuple[int, ...], levels: int, steps: int, calls: int, **settings: Any
) -> Callable[[], Measured]:
    from pilotage.policies.denoise.networks import TimeFeatures

    seen = Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
    policy = kind(
        seen, Box(-1, 1, (ACTION,), np.float32), levels=levels, history=HISTORY, horizon=HORIZON, execute=1,
        hidden=hidden, **settings,
    )  # fmt: skip
    plan = (HISTORY + HORIZON - 1) * ACTION
    sizes = [plan + HISTORY * OBSERVATION + TimeFeatures.width, *hidden, plan]
    observations = np.random.default_rng(0).standard_normal((steps + 1, 1, OBSERVATION)).astype(np.float32)
    needed = steps * calls * arithmetic.network(sizes)

    def repeat() -> Measured:
        policy.reset([0])
        policy.act(observations[0], torch.tensor([0]), lanes=[0])  # the first plan takes all levels on both sides
        began = clock()
        for step in range(1, steps + 1):
            policy.act(observations[step], torch.tensor([step]), lanes=[0])
        seconds, processor = since(began)
        return Measured(steps, seconds, processor, needed, {"milliseconds": 1000 * seconds / steps})

    return repeat
