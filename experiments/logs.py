"""The data sets that offline experiments learn from, made where they are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotage import api, datasets
from pilotage.data import dataset
from pilotage.run.recipe import Recipe


@dataclass(frozen=True)
class Log:
    """What `pilotage data make WORLD --quality Q --steps N --expert-steps E --out NAME` is asked for."""

    name: str
    world: str
    quality: str
    decisions: int
    expert_steps: int

    def make(self) -> None:
        """Makes the data set, its expert first, unless it is there."""
        if self.name not in dataset.names():
            datasets.make(
                self.world, self.quality, self.decisions, out=self.name, expert_steps=self.expert_steps, show=False
            )

    def recipe(self, method: str, settings: Mapping[str, Any]) -> Recipe:
        """A method on this data set; where it is there, the recipe holds its digest."""
        found = api.recipe(method, self.world, settings=settings)
        held = {"store.data": self.name}
        if self.name in dataset.names():
            held["store.digest"] = dataset.load_digest(self.name)
        return found.vary("data", held)


HALFCHEETAH = Log("halfcheetah/mixed-v0", "gym:HalfCheetah-v5", "mixed:0.1", 100_000, 5000)
HALF = Log("halfcheetah/half-v0", "gym:HalfCheetah-v5", "mixed:0.5", 100_000, 5000)
GOOD = Log("halfcheetah/good-v0", "gym:HalfCheetah-v5", "mixed:0.9", 100_000, 5000)
EXPERT = Log("halfcheetah/expert-v0", "gym:HalfCheetah-v5", "expert", 100_000, 5000)
PENDULUM = Log("pendulum/mixed-v0", "gym:Pendulum-v1", "mixed:0.1", 50_000, 1250)
