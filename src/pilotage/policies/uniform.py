"""A policy that draws every action uniformly: the random end of a score, and of a mixture of data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch


class UniformActor(ActingPolicy):
    """Uniform over a Box with finite bounds, or over a Discrete. It has no parameters and cannot be trained.

    Raises UsageError for other spaces.
    """

    gives = frozenset({"logp"})

    def __init__(self, observation: Any, action: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.choices = int(getattr(action, "n", 0))
        if self.choices:
            return
        self.low, self.high = (torch.as_tensor(np.asarray(bound)).float() for bound in (action.low, action.high))
        if not bool(torch.isfinite(self.low).all() and torch.isfinite(self.high).all()):
            raise UsageError("uniform actions need finite bounds")

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        return {"logp": torch.full((len(minibatch),), self._logp())}

    def _logp(self) -> float:
        return -float(np.log(self.choices)) if self.choices else -float((self.high - self.low).log().sum())

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        shape = () if self.choices else tuple(self.low.shape)
        return torch.from_numpy(generator.random((steps, rows, *shape), dtype=np.float32))

    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        if self.choices:
            action = (noise * self.choices).long().clamp(max=self.choices - 1)
        else:
            action = self.low + noise * (self.high - self.low)
        return action, torch.full((len(noise),), self._logp())
