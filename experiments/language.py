"""What the experiments on the default reasoning task share: arms at equal samples, from one warm start."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.common import Comparisons
from pilotage import api
from pilotage.run.recipe import Recipe

WORLD = "reasoning:chain_sum"
POINT = 0.01  # of accuracy


def arms(names: tuple[str, ...], quick: bool) -> Mapping[str, Recipe]:
    """Every setting a method's default; judged on 500 held-out items, one sampled answer each."""
    settings = {"evaluation.every": 100, "evaluation.tasks": 500}
    if quick:
        settings = {"steps": 10, "evaluation.every": 0, "evaluation.tasks": 100}
    return {name: api.recipe(name, WORLD, settings=settings) for name in names}


def points(comparisons: Comparisons, pair: tuple[str, str]) -> str:
    """A difference in points of accuracy, with its interval."""
    found = comparisons[pair]
    low, high = found.difference.low / POINT, found.difference.high / POINT
    return f"{pair[0]} minus {pair[1]} {found.difference.estimate / POINT:+.1f} points ({low:+.1f} to {high:+.1f})"
