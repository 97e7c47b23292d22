"""An actor that tracks an optimistic critic by multiplicative weights; the critic changes rarely, and resets it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.learn import finite
from pilotage.learn.finite import Array, Whole
from pilotage.learn.optimism import Optimistic, mean_at

SLACK = 1e-9  # a determinant that has just doubled counts, whatever its logarithm rounds to


class Tracking(Optimistic):
    """π_h ∝ exp(base + n η f_h): f is kept until the determinant of some Λ_h has grown by the factor `growth`, then
    planned anew, and the policy reset to uniform (unless `reset` is off: then base holds the logits so far).

    step_size: η; infinite is greedy, 0 stays uniform. growth 1: a new critic each step. offline: episodes each replica
    has at first, of an expert with a share `offline_noise` of random actions (0: online only). bonus 0: no optimism.
    The actor is stored as (f, n, base), never as a product of many steps. Source: Tan et al. 2025, algorithm of the
    main text, with bonuses in place of the search over a confidence set.
    """

    def __init__(
        self, policy: Any, world: Any, streams: Streams, *, model: str = "linear", bonus: float = 0.1,
        delta: float = 0.1, ridge: float = 0.1, step_size: float = 3.0, growth: float = 2.0, reset: bool = True,
        offline: int = 0, offline_noise: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__(policy, world, model=model, bonus=bonus, delta=delta, ridge=ridge)
        if step_size < 0 or growth < 1 or offline < 0 or not 0 <= offline_noise <= 1:
            raise UsageError("step_size and offline are at least 0, growth at least 1, offline_noise a share")
        self.step_size, self.threshold, self.reset = step_size, math.log(growth), reset
        copies, horizon = self.sizes[:2]
        self.critic = np.broadcast_to(self.caps[:, None, None], self.sizes).copy()  # as high as can be
        self.base, self.count = np.zeros(self.sizes), np.zeros(copies)
        self.switches = np.zeros(copies)
        self.before = np.zeros((copies, horizon))  # log determinants at the last switch, from those without data
        if offline:
            behaviour = np.broadcast_to(world.expert(offline_noise), self.sizes)
            self.seen.add(*world.demonstrate(behaviour, offline, streams.generator("offline")))

    def plan(self, start: Whole) -> dict[str, float]:
        growth = self.seen.growth()
        due = (growth - self.before >= self.threshold - SLACK).any(-1)
        if due.any():
            which = np.flatnonzero(due)
            self.base[which] = 0.0 if self.reset else self._logits()[which]
            self.critic[which], self.before[which] = self.upper(which), growth[which]
            self.count[which] = 0.0
            self.switches[which] += 1
        self.count += 1
        greedy = math.isinf(self.step_size)
        moved = self.play(finite.greedy(self.critic) if greedy else finite.softmax(self._logits()))
        return {
            "optimiser_steps": moved, "plan/value": mean_at(self.critic[:, 0].max(-1), start),
            "plan/switched": float(due.mean()), "plan/switches": float(self.switches.mean()),
        }  # fmt: skip

    def _logits(self) -> Array:
        """[N, H, S, A] base + n η f."""
        pushed = self.count * self.step_size if math.isfinite(self.step_size) else self.count
        found: Array = self.base + pushed[:, None, None, None] * self.critic
        return found

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("critic", "base", "count", "switches", "before")}
        return {**super().state_dict(), **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name in ("critic", "base", "count", "switches", "before"):
            setattr(self, name, np.array(state[name]))
