"""Answers that the policy of the run's start gave once, learnt from ever after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask, number
from pilotage.rollouts.messages import Messages
from pilotage.worlds.base import World


class Once(Messages):
    """`samples` answers to each of `tasks` tasks, made at the first step; a step gets `prompts` of these groups, in
    passes over all of them, each pass in an order of its own.

    `origin` [E] is a group's place in the record, `replayed` [E] whether it was given before. The sampler's log-probs
    are left out: after the first update they are not the policy's. Raises UsageError for fewer than one task.
    """

    def __init__(self, *, tasks: int = 512, temperature: float = 1.0, max_turns: int = 8) -> None:
        super().__init__(temperature=temperature, max_turns=max_turns)
        if tasks < 1:
            raise UsageError(f"tasks is at least 1, not {tasks}")
        self.tasks = tasks
        self.record: Batch | None = None

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if self.record is None:
            made = super().__call__(policy, world, next_task, streams, step, self.tasks, samples)
            columns = {name: column for name, column in made.columns.items() if name != "behaviour_logp"}
            self.record = replace(made, columns=columns)
        return self._drawn(self.record, streams, np.arange(step * prompts, (step + 1) * prompts), samples)

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        return (
            f"reads {prompts} groups of {samples} answers, of {number(self.tasks)} groups that the first step samples",
            0,
        )

    def _drawn(self, record: Batch, streams: Streams, places: Any, samples: int) -> Batch:
        """The groups at places of the endless walk through passes."""
        passes = places // self.tasks
        order = {int(p): streams.generator("pass", int(p)).permutation(self.tasks) for p in np.unique(passes)}
        chosen = torch.tensor([int(order[int(p)][place % self.tasks]) for p, place in zip(passes, places, strict=True)])
        episodes = (chosen[:, None] * samples + torch.arange(samples)).flatten()
        return record.select(episodes).with_episode(
            group=torch.arange(len(chosen)).repeat_interleave(samples),
            origin=chosen.repeat_interleave(samples),
            replayed=torch.from_numpy(passes > 0).repeat_interleave(samples),
        )

    def state_dict(self) -> dict[str, Any]:
        """The answers."""
        return {} if self.record is None else {"record": self.record.tree()}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        self.record = Batch(**state["record"]) if "record" in state else None
