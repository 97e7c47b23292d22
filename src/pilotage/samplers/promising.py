"""Variance-aware sampling from a pool: part of each step drawn by how much the answers to a prompt differ in worth.

Leng et al. 2025, arXiv 2509.21268 (MMR1). A policy gradient from equal rewards is 0, and a larger variance of rewards
promises a larger improvement; prompts are scored by fresh answers of the current policy, which are not learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.credit.groups import group_sums
from pilotage.data.average import MovingAverage
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError, nearest
from pilotage.data.tasks import Task
from pilotage.data.weighted import Weighted
from pilotage.samplers.base import Play, ended
from pilotage.samplers.diversity import MEASURES
from pilotage.samplers.uniform import Round

Floats = NDArray[np.float64]
TOGETHER = 64  # prompts scored at a time, so that a pool of any size fits into memory
TINY = 1e-8


class Promising(Round):
    """Of each step's tasks a share is drawn with replacement by their scores, the others come round the pool in one
    random order, as without scores; the two are interleaved. A task drawn twice is two groups.

    score = outcome · P (1 - P) + diversity · measure, P being the rate of success of `samples` fresh answers and
    `measure` how different those are (see `diversity`): "distinct-3", "one-less-self-bleu" or "edits". All of the pool
    is scored before the first step, and again every `every` steps; `share` 0 draws and scores nothing. min_max: weights
    are scores brought into [0, 1] over the pool, as in the released code, so that the lowest is never drawn by its
    score; else the scores themselves, as in the report. smoothing: the share of the old weight that is kept when
    weights are renewed. Where no weight is above 0, all are alike.

    Says how many answers were asked for: `sampler/rollouts/training`, and `sampler/rollouts/all` with the scoring ones.
    Raises UsageError where returns are no verdicts in [0, 1].
    """

    def __init__(
        self,
        *,
        pool: int = 512,
        share: float = 0.5,
        every: int = 35,
        samples: int = 8,
        outcome: float = 0.8,
        diversity: float = 0.2,
        measure: str = "distinct-3",
        min_max: bool = True,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(pool=pool)
        if measure not in MEASURES:
            raise UsageError(f"there is no measure {measure!r}; {nearest(measure, MEASURES)}")
        if not (0 <= share <= 1 and 0 <= smoothing < 1 and outcome >= 0 and diversity >= 0):
            raise UsageError("share goes from 0 to 1, smoothing to below 1, outcome and diversity are at least 0")
        if every < 1 or samples < 1:
            raise UsageError(f"scores need at least one sample and one step between them, not {samples} and {every}")
        self.share, self.every, self.samples = share, every, samples
        self.outcome, self.diversity, self.measure, self.min_max = outcome, diversity, measure, min_max
        self.weights = MovingAverage(smoothing)
        self.drawn = self.of_step = self.trained = self.scored = 0
        self.said: dict[str, float] = {}

    def prepare(self, play: Play, step: int) -> None:
        self.of_step = 0
        if self.share and step % self.every == 0:
            outcome, diversity = self.score(play)
            self.weigh(self.weights.update(self.weighed(self.outcome * outcome + self.diversity * diversity)))
            self.said = {
                "sampler/outcome_variance": float(outcome.mean()),
                "sampler/diversity": float(diversity.mean()),
                "sampler/without_outcome_variance": float((outcome == 0).mean()),
            }

    def score(self, play: Play) -> tuple[Floats, Floats]:
        """[pool], [pool] P (1 - P) and the diversity of fresh answers to each task."""
        found = []
        for first in range(0, self.pool, TOGETHER):
            tasks = [self.world.task(n, "train") for n in range(first, min(first + TOGETHER, self.pool))]
            batch = play(tasks, self.samples, f"score {first}")
            self.scored += len(batch)
            found.append((outcome_variance(batch, self.samples), diversities(batch, self.samples, self.measure)))
        return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])

    def weighed(self, scores: Floats) -> Floats:
        """[pool] weights of scores."""
        if not self.min_max:
            return scores
        found: Floats = (scores - scores.min()) / (scores.max() - scores.min() + TINY)
        return found

    def next(self) -> Task:
        by_score = int((self.of_step + 1) * self.share) > int(self.of_step * self.share)
        self.of_step += 1
        if not by_score:
            return super().next()
        number = self.chances.draw(self.streams.generator("tasks/weighted", self.drawn), 1)[0]
        self.drawn += 1
        return self.world.task(int(number), "train")

    def weigh(self, weights: Floats) -> None:
        """From now on draws go by these weights [pool]; by none, where none is above 0."""
        self.chances = Weighted(weights if weights.any() else np.ones(self.pool))

    def observe(self, batch: Batch) -> None:
        self.trained += len(ended(batch))

    def metrics(self) -> dict[str, float]:
        counts = {"training": float(self.trained), "all": float(self.trained + self.scored)}
        found = {f"sampler/rollouts/{name}": count for name, count in counts.items()}
        if self.share:
            found["sampler/effective_pool"] = self.chances.total**2 / float(np.square(self.chances.weights).sum())
        return {**found, **self.said}

    def state_dict(self) -> dict[str, Any]:
        counts = {"drawn": self.drawn, "trained": self.trained, "scored": self.scored}
        return {**super().state_dict(), **counts, "weights": self.weights.state_dict(), "said": dict(self.said)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn, self.trained, self.scored = (int(state[name]) for name in ("drawn", "trained", "scored"))
        self.weights.load_state_dict(state["weights"])
        if self.weights.value.size:
            self.weigh(self.weights.value)
        self.said = dict(state["said"])


def outcome_variance(batch: Batch, samples: int) -> Floats:
    """[tasks] P (1 - P) of each group of `samples`, P the mean return of its valid members; 0 where there is none.

    Raises UsageError for a return outside [0, 1].
    """
    outside = batch.valid & ((batch.returns < 0) | (batch.returns > 1))
    if bool(outside.any()):
        worst = float(batch.returns[outside][0])
        raise UsageError(f"scores of prompts need returns in [0, 1], this world gave {worst:g}")
    total, count = group_sums(batch, batch.returns)
    rate = (total / count.clamp(min=1))[::samples].numpy()
    found: Floats = rate * (1 - rate)
    return found


def diversities(batch: Batch, samples: int, measure: str) -> Floats:
    """[tasks] how different the valid answers of each group of `samples` are."""
    tokens = batch["action"][batch.sampled].tolist()
    ends = batch.total(batch.sampled.long()).cumsum(0).tolist()
    answers = [tokens[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    valid = batch.valid.tolist()
    return np.array(
        [
            MEASURES[measure]([answers[i] for i in range(first, first + samples) if valid[i]])
            for first in range(0, len(batch), samples)
        ]
    )
