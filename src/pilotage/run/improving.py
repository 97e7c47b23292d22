"""Improvement at evaluations: answers given once, then improved on again and again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import SpeakingPolicy
from pilotage.rollouts.messages import Messages
from pilotage.run.evaluate import distinct
from pilotage.worlds.base import World
from pilotage.worlds.text import again


class Improving:
    """Quality (accuracy, for verdicts of 0 or 1) after k improvement steps, `improving/accuracy@k` for each k of
    `steps`, on `tasks` held-out tasks; each step is shown the problem and the latest answer alone. Where the world goes
    on, each of at most `max_turns` messages is improved on k times before the world gets it.

    From the first answer to the last: `improving/gain`, the difference, and the shares of tasks whose answer became
    better and worse, `improving/bettered` and `improving/spoilt`. A step without a valid verdict counts in none.
    """

    def __init__(
        self,
        *,
        tasks: int = 100,
        steps: tuple[int, ...] = (0, 1, 2, 4, 8, 16),
        temperature: float = 1.0,
        max_turns: int = 8,
    ) -> None:
        if tasks < 1 or not steps or min(steps) < 0:
            raise UsageError("at least one task, and steps from 0 on")
        self.tasks, self.steps, self.temperature = tasks, sorted(set(steps)), temperature
        self.max_turns = max_turns

    def __call__(self, policy: SpeakingPolicy, world: World, streams: Streams) -> dict[str, float]:
        tasks = distinct(world, self.tasks)
        found, reached = {}, []
        for k, batch in enumerate(self._chain(policy, world, tasks, self.steps[-1], streams, "improving", 0)):
            if k in self.steps:
                reached.append(self._ended(policy, world, tasks, batch, k, streams))
                found[f"improving/accuracy@{k}"] = _mean(reached[-1])
        change = reached[-1] - reached[0]
        counted = torch.where(change.isnan(), torch.nan, 1.0)
        return found | {
            "improving/gain": _mean(change),
            "improving/bettered": _mean((change > 0) * counted),
            "improving/spoilt": _mean((change < 0) * counted),
        }

    def _chain(
        self, policy: SpeakingPolicy, world: World, tasks: list[Task], k: int, streams: Streams, stream: str, turn: int
    ) -> Iterator[Batch]:
        """One message to each task, which is the `turn`-th, as it was given first and after 1 to k steps."""
        talk, asked = Messages(temperature=self.temperature, max_turns=turn + 1), tasks
        for step in range(k + 1):
            batch = talk.converse(policy, world, asked, 1, streams, stream, step)
            yield batch
            said = (batch.talk(i)[: 2 * turn + 1] for i in range(len(tasks)))
            asked = [again(world, task, answers, "improve") for task, answers in zip(tasks, said, strict=True)]

    def _ended(
        self, policy: SpeakingPolicy, world: World, tasks: list[Task], batch: Batch, k: int, streams: Streams
    ) -> Tensor:
        """[tasks] quality of the episodes once the world has had the messages, those of later turns after k steps each;
        NaN without a valid verdict."""
        quality = _quality(world, batch)
        rows = list(range(len(tasks)))
        for turn in range(1, self.max_turns):
            going = [i for i in range(len(rows)) if len(batch.talk(i)) == 2 * turn]  # the world has replied
            if not going:
                break
            after = [tasks[rows[i]].after(said := batch.talk(i), said[-1], "") for i in going]
            rows = [rows[i] for i in going]
            *_, batch = self._chain(policy, world, after, k, streams, f"improving/{k}/{turn}", turn)
            quality[rows] = _quality(world, batch)
        return quality


def _quality(world: World, batch: Batch) -> Tensor:
    return torch.where(batch.valid, world.quality(batch.returns.double()), torch.nan)


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
