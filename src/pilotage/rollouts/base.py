"""What a rollout is, and what the plans share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy
from pilotage.worlds.base import World

NextTask = Callable[[], Task]


class Rollout:
    """A plan: policy × world × tasks → groups. Holds state only for unfinished work."""

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        """One step's groups: `prompts` tasks, `samples` episodes each, where the plan works by tasks."""
        raise TypeError(f"{type(self).__name__} is not a plan")

    def state_dict(self) -> dict[str, Any]:
        """What is unfinished."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Takes the unfinished work up again, on a fresh world."""


def to_world(action: Tensor) -> np.ndarray[Any, Any]:
    """Actions as the world takes them: an array [n, …]."""
    found: np.ndarray[Any, Any] = action.numpy()
    return found
