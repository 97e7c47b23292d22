"""What a sampler is: it says what to try next, and sees what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from pilotage.data.batch import Batch, Stop
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.worlds.base import World


class Play(Protocol):
    """Plays tasks with the policy as it is now, outside of what is learnt from; what it generates is counted."""

    def __call__(self, tasks: Sequence[Task], samples: int, stream: str) -> Batch:
        """`samples` episodes of each task as groups, in order; draws come from the named stream and this step.

        Raises UsageError where the recipe's rollout cannot play tasks that it is given.
        """


class Sampler:
    """An endless iterator of tasks. `open` comes first, then for each step `prepare`, calls of `next`, `observe`."""

    def open(self, world: World, streams: Streams) -> None:
        """Says what to draw from; called once, before the first task."""
        self.world, self.streams = world, streams

    def prepare(self, play: Play, step: int) -> None:
        """What has to be found out of the policy before this step's tasks are drawn."""

    def next(self) -> Task:
        """The next task."""
        raise TypeError(f"{type(self).__name__} is no sampler: it has no next()")

    def observe(self, batch: Batch) -> None:
        """Sees a step's record as it was played, before any credit or filter; `ended` says what came of it."""

    def metrics(self) -> dict[str, float]:
        """What there is to say of the step that ends."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on exactly."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` gave; the sampler is open by then."""


def ended(batch: Batch) -> Batch:
    """The episodes that ended in a step, each as one decision whose reward is the return of all of it; in their groups,
    with all that is known per episode.

    Those that go on in the next step (stop WINDOW) have no return yet, and are left out. A return is `episode_return`
    where the record has that, which may hold no more than an episode's last piece, else the sum of its rewards.
    """
    returns = batch.episode.get("episode_return", batch.returns)
    short = Batch(torch.arange(len(batch) + 1), {"reward": returns}, batch.episode, batch.notes)
    return short.select(batch["stop"] != Stop.WINDOW) if "stop" in batch else short
