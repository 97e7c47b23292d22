"""Worked solutions of a world that can give them, as if the policy had made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch

from pilotage.data.batch import Batch, Stop, from_episodes
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.rollouts.messages import before
from pilotage.rollouts.variants import form
from pilotage.worlds.base import World
from pilotage.worlds.text import Answer, Demonstrates, turns_of


class Demonstrations(Rollout):
    """One worked solution for each of `prompts` tasks, from `world.demonstrate(task, rng)`; no rewards, no log-probs.

    variants: shares of the demonstrations in which the problem is asked in another form, by the form's name in
    `pilotage.rollouts.variants` or an import path, so that what is trained here knows it. Raises UsageError if the
    world cannot demonstrate, for an unknown form, and for shares that are none.
    """

    def __init__(self, *, variants: Mapping[str, float] | None = None) -> None:
        self.shares = dict(variants or {})
        if any(not 0 <= share <= 1 for share in self.shares.values()) or sum(self.shares.values()) > 1 + 1e-9:
            raise UsageError(f"variants are shares from 0 to 1 that add up to at most 1; not {self.shares}")
        self.forms = [form(name) for name in self.shares]

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, Demonstrates):
            raise UsageError(f"{type(world).__name__} has no worked solutions (a method demonstrate(task, rng))")

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        return f"reads {prompts} worked solutions; nothing is sampled", 0

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(policy, SpeakingPolicy) or not isinstance(world, Demonstrates):
            raise TypeError("demonstrations need a policy that speaks and a world that shows how")
        tasks = [next_task() for _ in range(prompts)]
        shown = [self._shown(world, task, streams, step, i) for i, task in enumerate(tasks)]
        return written(policy, [task for task, _ in shown], [answer for _, answer in shown])

    def _shown(self, world: Demonstrates, task: Task, streams: Streams, step: int, i: int) -> tuple[Task, Answer]:
        """The task in the form that it is asked in, and its answer."""
        generator = streams.generator("demonstrate", step, i)
        if self.forms:
            place = streams.generator("variant", step, i).random()
            for share, form in zip(self.shares.values(), self.forms, strict=True):
                if place < share:
                    return form(world, task, generator)
                place -= share
        return task, world.demonstrate(task, generator)


def written(policy: SpeakingPolicy, tasks: Sequence[Task], answers: Sequence[Answer]) -> Batch:
    """One episode for each task and its answer, as if the policy had said it, each a group of its own; no rewards and
    no log-probs. What the world replies in a conversation is not `sampled`."""
    count, talks = len(tasks), [turns_of(answer) for answer in answers]
    parts = [
        [[*policy.encode(task.shown, prompt=True), *(token for part in before(policy, task) for token in chain(*part))]]
        + [
            policy.encode(text, prompt=True, after=policy.end_token)
            if i % 2
            else [*policy.encode(text, prompt=False), policy.end_token]
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
            "prompt": [task.shown for task in tasks],
            "answer": [" / ".join([*task.said, *talk][::2]) for task, talk in zip(tasks, talks, strict=True)],
            "reason": [""] * count,
            "variant": [task.variant for task in tasks],
            "category": [task.category for task in tasks],
        },
    )
