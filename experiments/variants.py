"""What the experiments with changed prompts share: a start that knows the prompts' forms, and what is compared.

The start is trained on worked sums of 2 to 7 terms of one digit, most of which end wrong: of such sums it answers a
quarter rightly, and fewer of those with two digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import language
from pilotage.run.assemble import open_world
from pilotage.run.evaluate import distinct
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.statistics import Interval, paired_difference
from pilotage.worlds.arithmetic import terms_of

METHODS = ("ghpo", "clpo")  # the start knows the forms of both, so that one serves all arms
LONG = 6  # terms from which a sum is long


def arms(
    wanted: language.Arms,
    problems: Mapping[str, Any],
    quick: bool,
    *,
    steps: int = 150,
    every: int = 50,
    tasks: int = 300,
) -> Mapping[str, Recipe]:
    """The arms, all with these problems; judged every so many steps on so many held-out ones, without hints or
    rewrites."""
    shared = {
        **problems,
        **(language.length(6, 0, 60) if quick else language.length(steps, every, tasks)),
        "start.world.settings": sizes(2, 7, 1),
        "start.world.wrong_share": 0.85,
        "start.steps": 30 if quick else 2000,
    }
    return language.arms(wanted, shared, alongside=METHODS)


def sizes(fewest: int, most: int, digits: int) -> dict[str, int]:
    """Settings of sums of so many terms, of up to so many digits each."""
    return {"min_terms": fewest, "max_terms": most, "min_digits": 1, "max_digits": digits}


def long_sums(result: RunResult) -> float:
    """The last policy's accuracy on the held-out sums of at least six terms."""
    if result.items is None:
        raise ValueError(f"{result.folder} has no scores of single problems")
    recipe = Recipe.from_json(result.recipe)
    world = open_world(recipe)
    tasks = distinct(world, recipe.evaluation.tasks)
    world.close()
    long = np.array([len(terms_of(task.prompt.removesuffix("="))) >= LONG for task in tasks])
    return float(result.items[long].mean())


def gap(one: Sequence[RunResult], other: Sequence[RunResult]) -> Interval:
    """The difference in accuracy on long sums, paired by seed."""
    return paired_difference([long_sums(run) for run in one], [long_sums(run) for run in other])


def mean_of(side: Sequence[RunResult], metric: str) -> float:
    """A training metric's mean over all steps and seeds; NaN where no step has it."""
    values = np.concatenate([run.series(metric)[1] for run in side])
    return float(values.mean()) if len(values) else float("nan")
