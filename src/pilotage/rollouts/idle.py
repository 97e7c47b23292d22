"""No play at all: what offline methods do between their updates."""

from __future__ import annotations

import torch

from pilotage.data.batch import Batch
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World


class Idle(Rollout):
    """An empty batch at every step: the store is full."""

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        return "plays nothing", 0

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        return Batch(torch.zeros(1, dtype=torch.int64), {})
