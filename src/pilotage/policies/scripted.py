"""A hand-written policy as any other, so that demonstrations are played like everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch


class FollowsScript(ActingPolicy):
    """Does what `script` says of the observations, with Gaussian noise of standard deviation `noise` times half the
    width of each bound, clipped to the bounds.

    script: [n, …] observations → [n, …] actions, such as a world's `scripted`. Log-probs are zeros: a script with no
    noise has none, and none are learnt from. Raises UsageError for negative noise and for actions that are no box.
    """

    def __init__(
        self, script: Callable[[NDArray[Any]], NDArray[Any]], action_space: Any, *, noise: float = 0.0
    ) -> None:
        super().__init__()
        if type(action_space).__name__ != "Box":
            raise UsageError(f"scripts are for actions of a Box, not {action_space}")
        if not noise >= 0:
            raise UsageError(f"noise is 0 or more, not {noise}")
        self.script = script
        self.low, self.high = torch.as_tensor(action_space.low), torch.as_tensor(action_space.high)
        self.scale = noise * (self.high - self.low) / 2 if noise else torch.zeros_like(self.low)

    def noise(self, generator: Any, rows: int, steps: int) -> Tensor:
        """[steps, rows, …] standard normal."""
        return torch.from_numpy(generator.standard_normal((steps, rows, *self.low.shape), dtype=np.float32))

    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        asked = torch.from_numpy(np.asarray(self.script(np.asarray(observation)), np.float32))
        moved = asked if greedy else asked + self.scale * noise
        return torch.minimum(torch.maximum(moved, self.low), self.high), torch.zeros(len(asked))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        """Nothing to learn. Raises UsageError."""
        raise UsageError("a script has nothing that could be learnt")
