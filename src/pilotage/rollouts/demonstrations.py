"""Worked solutions of a world that can give them, as if the policy had made them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pilotage.data.batch import Batch, Stop, from_episodes
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World
from pilotage.worlds.text import Answer, Demonstrates, turns_of


class Demonstrations(Rollout):
    """One worked solution for each of `prompts` tasks, from `world.demonstrate(task, rng)`; no rewards, no log-probs.

    Raises UsageError if the world cannot demonstrate.
    """

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, Demonstrates):
            raise UsageError(f"{type(world).__name__} has no worked solutions (a method demonstrate(task, rng))")

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(policy, SpeakingPolicy) or not isinstance(world, Demonstrates):
            raise TypeError("demonstrations need a policy that speaks and a world that shows how")
        tasks = [next_task() for _ in range(prompts)]
        answers = [world.demonstrate(task, streams.generator("demonstrate", step, i)) for i, task in enumerate(tasks)]
        return written(policy, tasks, answers)


def written(policy: SpeakingPolicy, tasks: Sequence[Task], answers: Sequence[Answer]) -> Batch:
    """One episode for each task and its answer, as if the policy had said it, each a group of its own; no rewards and
    no log-probs. What the world replies in a conversation is not `sampled`."""
    count, talks = len(tasks), [turns_of(answer) for answer in answers]
    parts = [
        [policy.encode(task.prompt, prompt=True)]
        + [
            policy.encode(text, prompt=True) if i % 2 else [*policy.encode(text, prompt=False), policy.end_token]
            for i, text in enumerate(talk)
        ]
        for task, talk in zip(tasks, talks, strict=True)
    ]
    return from_episodes(
        {
            "action": [torch.tensor([token for part in made for token in part]) for made in parts],
            "sampled": [torch.tensor([i % 2 == 1 for i, part in enumerate(made) for _ in part]) for made in parts],
        },
        {
            "group": torch.arange(count),
            "task": torch.tensor([task.key for task in tasks]),
            "terminated": torch.ones(count, dtype=torch.bool),
            "truncated": torch.zeros(count, dtype=torch.bool),
            "valid": torch.ones(count, dtype=torch.bool),
            "stop": torch.full((count,), int(Stop.TERMINATED)),
        },
        {
            "prompt": [task.prompt for task in tasks],
            "answer": [" / ".join(talk[::2]) for talk in talks],
            "reason": [""] * count,
        },
    )
