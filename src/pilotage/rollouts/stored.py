"""Episodes that were recorded before: nothing is played."""

from __future__ import annotations

import torch

from pilotage.data.batch import Batch
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World


class Stored(Rollout):
    """`prompts` recorded episodes, drawn with replacement by the step's own stream.

    The record is made by the recipe's `data`: its final policy plays `episodes` episodes, and the share `keep` with the
    highest returns is kept.
    """

    def __init__(self, *, episodes: int = 32, keep: float = 0.5) -> None:
        self.episodes, self.keep = episodes, keep
        self.record: Batch | None = None

    def open(self, record: Batch) -> None:
        """Says what to draw from."""
        self.record = record

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if self.record is None:
            raise ValueError("the stored rollout was given no record")
        chosen = streams.generator("stored", step).integers(len(self.record), size=prompts)
        drawn = self.record.select(torch.from_numpy(chosen))
        return drawn.with_episode(group=torch.arange(prompts))
