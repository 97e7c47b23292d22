"""A bandit over categories, paid by how much there is to learn in each: the self-evolving curriculum.

Chen et al. 2025, arXiv 2505.14970. The arm's reward is worked out from the returns of the step's groups as they were
played, whatever credit makes of them later: a filter that drops groups without a signal would raise it, and a bonus on
rewards would make noise look informative. An answer alone in its group is compared with nothing, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.credit.groups import Relative, group_sums
from pilotage.data.average import MovingAverage
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.weighted import Weighted
from pilotage.samplers.base import ended
from pilotage.samplers.categories import ByCategory
from pilotage.worlds.base import World

Floats = NDArray[np.float64]
SIGNALS = ("normalised", "unnormalised", "progress")
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
    what was seen: Q ← (1 - rate) Q + rate · mean |A| of the category's valid episodes that ended in it, over groups of
    at least two of them.

    rate: α. rule: "boltzmann" at `temperature`, "greedy" with `epsilon`, or "proportional" to Q with a `floor`.
    signal: "normalised" divides by the group's sample deviation, "unnormalised" does not, and is sharper: 2 p (1 - p)
    of a success rate p in place of about 2 sqrt(p (1 - p)); "progress" takes, in place of mean |A|, how far the
    category's mean return rose or fell since the last step that drew it. The first time that is unknown and Q stays;
    the released code takes the mean before to be 0, and so pays what was easy from the start. decay: categories of
    which a step knows nothing move towards 0, as in the released code; else they stay (our reading of the text). pool:
    tasks in each category's queue, by default without end. Where there is one category it is the uniform sampler to the
    bit. Says Q as `sampler/value/NAME`.
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
        self.signal = signal
        self.advantage = Relative(mean="group", std="group" if signal == "normalised" else "none")

    def open(self, world: World, streams: Streams) -> None:
        super().open(world, streams)
        self.average = MovingAverage(1 - self.rate, np.zeros(len(self.names)))
        self.before = np.full(len(self.names), np.nan)  # the mean return of each category when it was last drawn

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
        rewards, seen = self.rewards(ended(batch))
        self.average.update(rewards, None if self.decay else seen)

    def rewards(self, batch: Batch) -> tuple[Floats, NDArray[np.bool_]]:
        """[C] what each category pays by its valid episodes, 0 where nothing is known; [C] where something is.

        Raises UsageError for a record that does not say its categories, where there are several.
        """
        if self.signal == "progress":
            return self.moved(*self.means(batch, batch.returns.double(), batch.valid))
        _, company = group_sums(batch, torch.ones(len(batch)))
        return self.means(batch, self.advantage.per_episode(batch).abs(), batch.valid & (company > 1))

    def moved(self, means: Floats, seen: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
        """[C] how far means of categories that were seen are from those kept of before, which they replace; [C] where
        there was one."""
        known = seen & np.isfinite(self.before)
        change = np.where(known, means - self.before, 0.0)
        self.before = np.where(seen, means, self.before)
        return change, known

    def means(self, batch: Batch, values: Tensor, counted: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
        """[C] the mean of values [E] over each category's counted episodes, 0 where there is none; [C] where there are
        some."""
        category = np.zeros(len(batch), np.int64)
        if len(self.names) > 1:
            if "category" not in batch.notes:
                raise UsageError("this recipe's rollout does not note the category of what it played")
            known = {name: number for number, name in enumerate(self.names)}
            category = np.array([known.get(name, -1) for name in batch.notes["category"]], np.int64)
        chosen = counted.numpy() & (category >= 0)
        total = np.bincount(category[chosen], values.numpy()[chosen], len(self.names))
        count = np.bincount(category[chosen], minlength=len(self.names))
        return total / np.maximum(count, 1), count > 0

    def metrics(self) -> dict[str, float]:
        values = {f"sampler/value/{name}": float(q) for name, q in zip(self.names, self.values, strict=True)}
        return {**super().metrics(), **values}

    def state_dict(self) -> dict[str, Any]:
        before = {"before": self.before} if self.signal == "progress" else {}
        return {**super().state_dict(), "values": self.average.state_dict(), **before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.average.load_state_dict(state["values"])
        if self.signal == "progress":
            self.before = np.array(state["before"], np.float64)
