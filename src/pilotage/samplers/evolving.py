"""A bandit over categories, paid by how much there is to learn in each: the self-evolving curriculum.

Chen et al. 2025, arXiv 2505.14970. The arm's reward is worked out from the returns of the step's groups as they were
played, whatever credit makes of them later: a filter that drops groups without a signal would raise it, and a bonus on
rewards would make noise look informative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.credit.groups import Relative
from pilotage.data.average import MovingAverage
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.weighted import Weighted
from pilotage.samplers.categories import ByCategory
from pilotage.worlds.base import World

Floats = NDArray[np.float64]
SIGNALS = {"normalised": "group", "unnormalised": "none"}  # the deviation's scope
RULES = ("boltzmann", "greedy", "proportional")


def boltzmann(values: Floats, temperature: float) -> Floats:
    """[C] probabilities ∝ exp(value / temperature). The released code exponentiates without taking the largest off
    first, and overflows where the temperature is tiny."""
    weights: Floats = np.exp((values - values.max()) / temperature)
    found: Floats = weights / weights.sum()
    return found


def greedy(values: Floats, epsilon: float) -> Floats:
    """[C] the best ones share 1 - epsilon, and epsilon is spread over all."""
    best = values == values.max()
    found: Floats = epsilon / len(values) + (1 - epsilon) * best / best.sum()
    return found


def proportional(values: Floats, floor: float) -> Floats:
    """[C] probabilities ∝ the values, none of which counts for less than `floor`."""
    weights = np.maximum(values, floor)
    found: Floats = weights / weights.sum()
    return found


class Evolving(ByCategory):
    """Draws each task's category from a distribution over the categories' values Q, and after the step moves Q towards
    what was seen: Q ← (1 - rate) Q + rate · mean |A| of the category's valid episodes.

    rate: α. rule: "boltzmann" at `temperature`, "greedy" with `epsilon`, or "proportional" to Q with a `floor`.
    signal: "normalised" divides by the group's sample deviation, "unnormalised" does not, and is sharper: 2 p (1 - p)
    of a success rate p in place of about 2 sqrt(p (1 - p)). decay: categories that a step did not draw move towards 0,
    as in the released code; else they stay (our reading of the text). pool: tasks in each category's queue, by default
    without end. Where there is one category it is the uniform sampler to the bit. Says Q as `sampler/value/NAME`.
    """

    def __init__(
        self,
        *,
        rate: float = 0.5,
        rule: str = "boltzmann",
        temperature: float = 1.0,
        epsilon: float = 0.1,
        floor: float = 0.01,
        signal: str = "normalised",
        decay: bool = False,
        pool: int | None = None,
    ) -> None:
        super().__init__(pool)
        if rule not in RULES:
            raise UsageError(f"there is no rule {rule!r}; {nearest(rule, RULES)}")
        if signal not in SIGNALS:
            raise UsageError(f"there is no signal {signal!r}; {nearest(signal, SIGNALS)}")
        if not (0 <= rate <= 1 and temperature > 0 and 0 <= epsilon <= 1 and floor > 0):
            raise UsageError("rate and epsilon go from 0 to 1, temperature and floor are above 0")
        self.rate, self.rule, self.decay = rate, rule, decay
        self.temperature, self.epsilon, self.floor = temperature, epsilon, floor
        self.advantage = Relative(mean="group", std=SIGNALS[signal])

    def open(self, world: World, streams: Streams) -> None:
        super().open(world, streams)
        self.average = MovingAverage(1 - self.rate, np.zeros(len(self.names)))

    @property
    def values(self) -> Floats:
        """[C] Q of each category."""
        return self.average.value

    def probabilities(self) -> Floats:
        """[C] how likely each category is."""
        if self.rule == "boltzmann":
            return boltzmann(self.values, self.temperature)
        return greedy(self.values, self.epsilon) if self.rule == "greedy" else proportional(self.values, self.floor)

    def choose(self, place: int) -> int:
        if len(self.names) == 1:
            return 0
        return int(Weighted(self.probabilities()).draw(self.streams.generator("tasks/category", place), 1)[0])

    def observe(self, batch: Batch) -> None:
        rewards, seen = self.rewards(batch)
        self.average.update(rewards, None if self.decay else seen)

    def rewards(self, batch: Batch) -> tuple[Floats, NDArray[np.bool_]]:
        """[C] mean |A| over each category's valid episodes, 0 where there is none; [C] where there are some.

        Raises UsageError for a record that does not say its categories, where there are several.
        """
        size = self.advantage.per_episode(batch).abs().numpy()
        category = np.zeros(len(batch), np.int64)
        if len(self.names) > 1:
            if "category" not in batch.notes:
                raise UsageError("this recipe's rollout does not note the category of what it played")
            known = {name: number for number, name in enumerate(self.names)}
            category = np.array([known.get(name, -1) for name in batch.notes["category"]], np.int64)
        counted = batch.valid.numpy() & (category >= 0)
        total = np.bincount(category[counted], size[counted], len(self.names))
        count = np.bincount(category[counted], minlength=len(self.names))
        return total / np.maximum(count, 1), count > 0

    def metrics(self) -> dict[str, float]:
        values = {f"sampler/value/{name}": float(q) for name, q in zip(self.names, self.values, strict=True)}
        return {**super().metrics(), **values}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "values": self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.average.load_state_dict(state["values"])
