"""Tasks one after the other, each new, or of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.samplers.base import Sampler
from pilotage.samplers.orders import Shuffled, check_pool, walk_start
from pilotage.worlds.base import World


class Uniform(Sampler):
    """The world's training tasks: number 0, 1, 2, … of a seeded walk; with `pool`, drawn from that many, with
    replacement.

    The walk starts at a place that depends on the seed, so that runs of different seeds see different tasks.
    """

    def __init__(self, *, pool: int | None = None) -> None:
        self.pool = pool
        self.position = 0

    def open(self, world: World, streams: Streams) -> None:
        super().open(world, streams)
        self.start = walk_start(streams)

    def next(self) -> Task:
        number = self.start + self.position
        if self.pool is not None:
            number = int(self.streams.generator("tasks", self.position).integers(self.pool))
        self.position += 1
        return self.world.task(number, "train")

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["position"])


class Round(Sampler):
    """The training tasks 0 … pool - 1 in one random order, round after round."""

    def __init__(self, *, pool: int = 512) -> None:
        check_pool(pool)
        self.pool, self.position = pool, 0

    def open(self, world: World, streams: Streams) -> None:
        super().open(world, streams)
        self.order = Shuffled(streams, "tasks/pool", self.pool, reshuffle=False)

    def next(self) -> Task:
        self.position += 1
        return self.world.task(self.order.at(self.position - 1), "train")

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["position"])
