"""Episodes that were recorded before: nothing is played."""

from __future__ import annotations

from dataclasses import replace

import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World


class Stored(Rollout):
    """`prompts` recorded episodes, drawn with replacement by the step's own stream.

    The record is made by the recipe's `data`: its final policy plays `episodes` episodes, and the share `keep` with the
    highest returns is kept. Raises UsageError for fewer than one episode, or a share outside (0, 1].
    """

    def __init__(self, *, episodes: int = 32, keep: float = 0.5) -> None:
        if episodes < 1 or not 0 < keep <= 1:
            raise UsageError(f"at least one episode, and a share above 0 and up to 1; not {episodes} and {keep}")
        self.episodes, self.keep = episodes, keep
        self.record: Batch | None = None

    def open(self, record: Batch) -> None:
        """Says what to draw from. Log-probs of the policy that played it are left out: they are not this policy's."""
        own = {name: column for name, column in record.columns.items() if name != "behaviour_logp"}
        self.record = replace(record, columns=own)

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        return f"reads {prompts} recorded episodes; nothing is sampled", 0

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if self.record is None:
            raise ValueError("the stored rollout was given no record")
        chosen = streams.generator("stored", step).integers(len(self.record), size=prompts)
        drawn = self.record.select(torch.from_numpy(chosen))
        return drawn.with_episode(group=torch.arange(prompts))
