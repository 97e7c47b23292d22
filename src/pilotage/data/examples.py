"""A store that is full from the start, of what the world itself shows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray

from pilotage.data.batch import Batch
from pilotage.data.offline import Offline
from pilotage.data.piece import UsageError


@runtime_checkable
class Shows(Protocol):
    """A world with examples of what it wants."""

    def examples(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Observations [n, …] that ask for something, and actions [n, …] that are it."""


class Examples(Offline):
    """`batches_per_step` batches a step of `decisions_per_batch` of the world's examples, drawn with replacement: each
    an episode of one decision, its reward 0. Raises UsageError for a world that has none."""

    def __init__(self, *, decisions_per_batch: int = 256, batches_per_step: int = 100) -> None:
        super().__init__(decisions_per_batch=decisions_per_batch, batches_per_step=batches_per_step)

    def open(self, world: Any) -> Batch:
        if not isinstance(world, Shows):
            raise UsageError(f"{type(world).__name__} has no examples to learn from (a method examples())")
        asked, shown = (torch.from_numpy(part) for part in world.examples())
        count = len(asked)
        ended = torch.ones(count, dtype=torch.bool)
        return Batch(
            torch.arange(count + 1),
            {"observation": asked, "action": shown, "reward": torch.zeros(count)},
            {"group": torch.arange(count), "terminated": ended, "truncated": ~ended, "final_observation": asked},
        )

    def facts(self) -> dict[str, float]:
        """Nothing: examples have no returns."""
        return {}
