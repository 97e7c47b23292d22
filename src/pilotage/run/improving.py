"""Improvement at evaluations: answers given once, then improved on again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import SpeakingPolicy
from pilotage.rollouts.messages import Messages
from pilotage.run.evaluate import distinct
from pilotage.worlds.base import World
from pilotage.worlds.text import again


class Improving:
    """Quality (accuracy, for verdicts of 0 or 1) after k improvement steps, `improving/accuracy@k` for each k of
    `steps`, on `tasks` held-out tasks; each step is shown the problem and the latest answer alone.

    From the first answer to the last: `improving/gain`, the difference, and the shares of tasks whose answer became
    better and worse, `improving/bettered` and `improving/spoilt`. A step without a valid verdict counts in none.
    """

    def __init__(
        self, *, tasks: int = 100, steps: tuple[int, ...] = (0, 1, 2, 4, 8, 16), temperature: float = 1.0
    ) -> None:
        if tasks < 1 or not steps or min(steps) < 0:
            raise UsageError("at least one task, and steps from 0 on")
        self.tasks, self.steps, self.temperature = tasks, sorted(set(steps)), temperature

    def __call__(self, policy: SpeakingPolicy, world: World, streams: Streams) -> dict[str, float]:
        asked = tasks = distinct(world, self.tasks)
        talk, found, reached = Messages(temperature=self.temperature), {}, []
        for k in range(self.steps[-1] + 1):
            batch = talk.converse(policy, world, asked, 1, streams, "improving", k)
            quality = torch.where(batch.valid, world.quality(batch.returns.double()), torch.nan)
            if k in self.steps:
                reached.append(quality)
                found[f"improving/accuracy@{k}"] = _mean(quality)
            asked = [again(world, *pair, "improve") for pair in zip(tasks, batch.notes["answer"], strict=True)]
        change = reached[-1] - reached[0]
        counted = torch.where(change.isnan(), torch.nan, 1.0)
        return found | {
            "improving/gain": _mean(change),
            "improving/bettered": _mean((change > 0) * counted),
            "improving/spoilt": _mean((change < 0) * counted),
        }


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
