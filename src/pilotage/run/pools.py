"""Pools of answers: how often k of them hold a right one, and how few have to be verified if novel ones go first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pilotage.credit.novelty import coreset, embeddings, sparse_projection
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import SpeakingPolicy
from pilotage.rollouts.messages import Messages
from pilotage.run.evaluate import distinct
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import World

AT_ONCE = 2048  # answers
PARTS = ("hard", "middle", "easy")


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The probability that k of `samples` answers, of which so many are right, hold a right one: 1 - C(n-c, k)/C(n, k),
    unbiased for k fresh answers. Chen et al. 2021, arXiv 2107.03374. Raises ValueError unless 1 <= k <= samples."""
    if not (1 <= k <= samples and 0 <= right <= samples):
        raise ValueError(f"no {k} of {samples} answers with {right} right")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def first_right(order: Sequence[int], right: Sequence[bool] | NDArray[np.bool_]) -> int:
    """How many answers are verified, in this order, until one is right. Raises ValueError if none is."""
    for place, answer in enumerate(order, 1):
        if right[answer]:
            return place
    raise ValueError("no answer of the pool is right")


def first_right_at_random(samples: int, right: int) -> float:
    """The expected number of answers verified in random order until one is right: (N + 1)/(m + 1). Raises ValueError if
    none is."""
    if right < 1:
        raise ValueError("no answer of the pool is right")
    return (samples + 1) / (right + 1)


class Pools:
    """`samples` answers to each of `tasks` held-out tasks. Writes, all under `pools/`:

    pass@k, for k = 1, 2, 4 …: see `pass_at_k`. novel@k: whether the first k by novelty (`novelty.coreset`) hold a right
        one. solved: the share of tasks with a right one in the pool.
    first_random, first_distinct, first_last, first_novel: of those tasks, the mean number of answers verified until one
        is right: in random order, in random order with equal texts taken once, by novelty of the last token's state,
        and by that of the mean state. The same of thirds by the share of right answers, as in hard_novel.

    Features are of the policy that answered, projected to `dimension` numbers if they are longer. An answer is right if
    its return is at least `correct`; invalid ones are in no pool. Picks are made of features alone.
    """

    def __init__(
        self,
        *,
        tasks: int = 50,
        samples: int = 32,
        ridge: float = 0.01,
        dimension: int = 64,
        temperature: float = 1.0,
        correct: float = 1.0,
    ) -> None:
        if tasks < 1 or samples < 1 or dimension < 1:
            raise UsageError("tasks, samples and dimension are at least 1")
        self.tasks, self.samples, self.ridge, self.dimension = tasks, samples, ridge, dimension
        self.temperature, self.correct = temperature, correct

    def __call__(self, policy: SpeakingPolicy, world: World, recipe: Recipe) -> dict[str, float]:
        streams = Streams(recipe.seed)
        pools = [pool for batch in self._played(policy, world, streams) for _, pool in batch.groups() if len(pool)]
        right = [(pool.returns >= self.correct).numpy() for pool in pools]
        orders = {how: [self._order(pool, policy, how, streams) for pool in pools] for how in ("mean", "last")}
        found: dict[str, float] = {}
        for k in (2**i for i in range(self.samples.bit_length())):
            whole = [(one, order) for one, order in zip(right, orders["mean"], strict=True) if len(one) >= k]
            if whole:
                found[f"pools/pass@{k}"] = _mean([pass_at_k(len(one), int(one.sum()), k) for one, _ in whole])
                found[f"pools/novel@{k}"] = _mean([float(one[order[:k]].any()) for one, order in whole])
        solved = [i for i, one in enumerate(right) if one.any()]
        found["pools/solved"] = len(solved) / max(len(right), 1)
        counted: dict[str, list[float]] = {
            "random": [first_right_at_random(len(right[i]), int(right[i].sum())) for i in solved],
            "distinct": [_distinct(pools[i], right[i]) for i in solved],
            "last": [first_right(orders["last"][i], right[i]) for i in solved],
            "novel": [first_right(orders["mean"][i], right[i]) for i in solved],
        }
        return found | _by_difficulty(counted, np.array([right[i].mean() for i in solved]))

    def _played(self, policy: SpeakingPolicy, world: World, streams: Streams) -> Iterator[Batch]:
        """The valid answers to all tasks, some tasks at a time."""
        tasks: list[Task] = distinct(world, self.tasks)
        talk, many = Messages(temperature=self.temperature), max(1, AT_ONCE // self.samples)
        for number, start in enumerate(range(0, len(tasks), many)):
            batch = talk.converse(policy, world, tasks[start : start + many], self.samples, streams, "pools", number)
            yield batch.select(batch.valid)

    def _order(self, pool: Batch, policy: SpeakingPolicy, how: str, streams: Streams) -> list[int]:
        features: Tensor = embeddings(pool, policy, how)
        if features.shape[1] > self.dimension:
            drawn = streams.generator("pools/projection")
            features = features @ sparse_projection(drawn, features.shape[1], self.dimension)
        return coreset(features, len(pool), ridge=self.ridge)


def _distinct(pool: Batch, right: NDArray[np.bool_]) -> float:
    """As `first_right_at_random`, of each text once."""
    texts = dict(zip(pool.notes["answer"], right.tolist(), strict=True))
    return first_right_at_random(len(texts), sum(texts.values()))


def _by_difficulty(counted: dict[str, list[float]], rate: NDArray[np.float64]) -> dict[str, float]:
    """Means over all tasks and over their thirds, the hardest first."""
    thirds = np.array_split(np.argsort(rate, kind="stable"), len(PARTS))
    found = {}
    for how, values in counted.items():
        if values:
            found[f"pools/first_{how}"] = _mean(values)
        for part, chosen in zip(PARTS, thirds, strict=True):
            if len(chosen):
                found[f"pools/{part}_{how}"] = _mean([values[i] for i in chosen])
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
