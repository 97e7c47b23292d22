"""What the experiments on texts share: arms from a table, what is said of a difference, arms of default settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.common import Comparisons, Runs
from pilotage import api
from pilotage.run import experiment
from pilotage.run.recipe import Recipe
from pilotage.run.statistics import Interval
from pilotage.run.wording import Wording

WORLD = "reasoning:chain_sum"
ACCURACY = "eval/accuracy"
POINT = 0.01  # of accuracy
in_points = Wording(ACCURACY).change  # "+3.1 points (0.4 to 5.8)", of a difference of shares
Arms = Mapping[str, tuple[str, Mapping[str, Any]]]


def arms(
    wanted: Arms, shared: Mapping[str, Any], *, world: str = WORLD, alongside: Sequence[str] = ()
) -> Mapping[str, Recipe]:
    """Recipes by label, of a method and its settings each, with those that all share. alongside: as of `api.recipe`."""
    return {
        label: api.recipe(method, world, settings={**shared, **own}, alongside=alongside)
        for label, (method, own) in wanted.items()
    }


def length(steps: int, every: int, tasks: int) -> dict[str, Any]:
    """Settings of so many steps, judged every so many of them (0: at both ends only) on so many held-out tasks."""
    return {"steps": steps, "evaluation.every": every, "evaluation.tasks": tasks}


def defaults(names: tuple[str, ...], quick: bool) -> Mapping[str, Recipe]:
    """Every setting a method's default; judged on 500 held-out items, one sampled answer each."""
    settings = length(10, 0, 100) if quick else {"evaluation.every": 100, "evaluation.tasks": 500}
    return arms({name: (name, {}) for name in names}, settings)


def points(comparisons: Comparisons, pair: tuple[str, str]) -> str:
    """A difference in points of accuracy, with its interval."""
    return f"{pair[0]} minus {pair[1]} {in_points(comparisons[pair].difference)}"


class Ahead(NamedTuple):
    """A difference between last policies, and that at equal generated tokens."""

    steps: Interval
    tokens: Interval

    def said(self, say: Callable[[Interval], str] = in_points) -> str:
        """ "+3.9 points (−2.0 to 9.8), at equal generated tokens −1.8 points (−15.0 to 11.4)"."""
        return f"{say(self.steps)}, at equal generated tokens {say(self.tokens)}"


def ahead(runs: Runs, one: str, other: str, measure: str = ACCURACY) -> Ahead:
    """How far one arm's measure is above another's."""
    sides = runs[one], runs[other]
    return Ahead(experiment.gap(*sides, measure), experiment.gap_at_equal_tokens(*sides, measure))
