"""Pairs that a world has: two answers to each task, of which it says which is preferred."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.rollouts.demonstrations import written
from pilotage.worlds.base import World


@runtime_checkable
class HasPairs(Protocol):
    """A world that has two answers to each of its tasks."""

    def pair(self, task: Task) -> tuple[str, str]:
        """The preferred answer and the other one."""


class Given(Rollout):
    """The pairs of `prompts` tasks as groups of two: reward 1 for the preferred answer, 0 for the other.

    Raises UsageError if the world has no pairs.
    """

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, HasPairs):
            raise UsageError(
                f"{type(world).__name__} has no pairs of answers (a method pair(task)); world=pairs:FILE has"
            )

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        return f"reads {prompts} pairs of answers; nothing is sampled", 0

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        return given(policy, world, [next_task() for _ in range(prompts)])


def given(policy: Policy, world: World, tasks: list[Task]) -> Batch:
    """The pairs of these tasks, the preferred answer first. Raises UsageError where the policy cannot write one."""
    if not isinstance(policy, SpeakingPolicy) or not isinstance(world, HasPairs):
        raise TypeError("pairs need a policy that speaks and a world that has them")
    twice = [task for task in tasks for _ in range(2)]
    batch = written(policy, twice, [answer for task in tasks for answer in world.pair(task)])
    reward = torch.zeros(batch.decisions)
    reward[batch.offsets[1::2] - 1] = 1.0
    return batch.with_columns(reward=reward).with_episode(group=torch.arange(len(tasks)).repeat_interleave(2))
