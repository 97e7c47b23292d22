"""The data sets that offline experiments learn from, made where they are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilotage import api, datasets
from pilotage.data import dataset
from pilotage.run.recipe import Recipe

QUICK_DECISIONS, QUICK_STEPS = 2000, 10


@dataclass(frozen=True)
class Log:
    """What `pilotage data make WORLD --quality Q --steps N --expert-steps E --out NAME` is asked for.

    Quick versions of experiments have a log of their own, of few decisions and an expert that has hardly been trained.
    """

    name: str
    world: str
    quality: str
    decisions: int
    expert_steps: int

    def sized(self, quick: bool) -> Log:
        """This log, or its quick version."""
        if not quick:
            return self
        return replace(self, name=quick_name(self.name), decisions=QUICK_DECISIONS, expert_steps=QUICK_STEPS)

    def make(self, quick: bool) -> None:
        """Makes the data set, its expert first, unless it is there."""
        log = self.sized(quick)
        datasets.ensure(log.name, log.world, log.quality, log.decisions, expert_steps=log.expert_steps)

    def recipe(self, method: str, settings: Mapping[str, Any], quick: bool) -> Recipe:
        """A method on this data set."""
        return api.recipe(method, self.world, settings=settings).vary("data", held(self.sized(quick).name))


def held(name: str) -> dict[str, Any]:
    """What a recipe holds of a data set: its name and, where it is there, its digest."""
    found = {"store.data": name}
    return {**found, "store.digest": dataset.load_digest(name)} if name in dataset.names() else found


def quick_name(name: str) -> str:
    """`hopper/mixed-v0` → `hopper/mixed-quick-v0`."""
    head, _, version = name.rpartition("-")
    return f"{head}-quick-{version}"


HALFCHEETAH = Log("halfcheetah/mixed-v0", "gym:HalfCheetah-v5", "mixed:0.1", 100_000, 5000)
HALF = Log("halfcheetah/half-v0", "gym:HalfCheetah-v5", "mixed:0.5", 100_000, 5000)
GOOD = Log("halfcheetah/good-v0", "gym:HalfCheetah-v5", "mixed:0.9", 100_000, 5000)
EXPERT = Log("halfcheetah/expert-v0", "gym:HalfCheetah-v5", "expert", 100_000, 5000)
PENDULUM = Log("pendulum/mixed-v0", "gym:Pendulum-v1", "mixed:0.1", 50_000, 1250)
