"""Samplers that say which category comes next: queues of tasks by category, and orders by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.samplers.base import Play, Sampler
from pilotage.samplers.orders import Shuffled, check_pool, walk_start
from pilotage.worlds.base import Categorised, World


class Queues:
    """Training tasks of each category, one after the other: each new, or with `pool` that many, in a random order, each
    once before any comes again. A world without categories has one, `all`; its tasks come as a uniform sampler has
    them."""

    def __init__(self, pool: int | None) -> None:
        check_pool(pool)
        self.pool = pool

    def open(self, world: World, streams: Streams) -> None:
        """Says what to draw from."""
        self.world, self.start = world, walk_start(streams)
        several = isinstance(world, Categorised) and len(world.categories) > 1
        self.names: tuple[str, ...] = world.categories if several and isinstance(world, Categorised) else ("all",)
        self.taken = dict.fromkeys(self.names, 0)
        self.orders: dict[str, Shuffled] = {}
        if self.pool is not None:
            self.orders = {
                name: Shuffled(streams, f"tasks/queue {name}", self.pool, reshuffle=True) for name in self.names
            }

    @property
    def total(self) -> int:
        """How many tasks were taken."""
        return sum(self.taken.values())

    def take(self, name: str) -> Task:
        """The next task of a category."""
        place = self.taken[name]
        self.taken[name] += 1
        number = self.orders[name].at(place) if self.orders else self.start + place
        if len(self.names) == 1 or not isinstance(self.world, Categorised):
            return self.world.task(number, "train")
        return self.world.task_of(name, number, "train")


class ByCategory(Sampler):
    """Chooses a category, then takes that category's next task. Says the share of each category in a step's tasks:
    `sampler/share/NAME`."""

    def __init__(self, pool: int | None) -> None:
        self.queues = Queues(pool)

    def open(self, world: World, streams: Streams) -> None:
        super().open(world, streams)
        self.queues.open(world, streams)
        self.names = self.queues.names
        self.drawn = dict.fromkeys(self.names, 0)

    def choose(self, place: int) -> int:
        """The category of the task at a place in the run, by its number."""
        raise TypeError(f"{type(self).__name__} chooses no category")

    def prepare(self, play: Play, step: int) -> None:
        self.drawn = dict.fromkeys(self.names, 0)

    def next(self) -> Task:
        name = self.names[self.choose(self.queues.total)]
        self.drawn[name] += 1
        return self.queues.take(name)

    def metrics(self) -> dict[str, float]:
        total = max(1, sum(self.drawn.values()))
        return {f"sampler/share/{name}": count / total for name, count in self.drawn.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"taken": dict(self.queues.taken)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.queues.taken = {name: int(state["taken"][name]) for name in self.names}


class Ordered(ByCategory):
    """Category after category, as the world lists them: easiest first where it knows. The first `each` tasks come from
    the first one, and so on; the last one stays. reverse: the other way round. pool: see `Queues`.
    """

    def __init__(self, *, each: int = 1600, reverse: bool = False, pool: int | None = None) -> None:
        super().__init__(pool)
        if each < 1:
            raise UsageError(f"at least one task of each category, not {each}")
        self.each, self.reverse = each, reverse

    def choose(self, place: int) -> int:
        phase = min(place // self.each, len(self.names) - 1)
        return len(self.names) - 1 - phase if self.reverse else phase
