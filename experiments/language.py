"""What the experiments on the default reasoning task share: arms at equal samples, from one warm start."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.common import Comparisons
from pilotage import api
from pilotage.run.recipe import Recipe
from pilotage.run.wording import Wording

WORLD = "reasoning:chain_sum"
POINT = 0.01  # of accuracy
in_points = Wording("eval/accuracy").change  # "+3.1 points (0.4 to 5.8)", of a difference of shares


def arms(names: tuple[str, ...], quick: bool) -> Mapping[str, Recipe]:
    """Every setting a method's default; judged on 500 held-out items, one sampled answer each."""
    settings = {"evaluation.every": 100, "evaluation.tasks": 500}
    if quick:
        settings = {"steps": 10, "evaluation.every": 0, "evaluation.tasks": 100}
    return {name: api.recipe(name, WORLD, settings=settings) for name in names}


def points(comparisons: Comparisons, pair: tuple[str, str]) -> str:
    """A difference in points of accuracy, with its interval."""
    return f"{pair[0]} minus {pair[1]} {in_points(comparisons[pair].difference)}"
