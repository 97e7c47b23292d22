"""Optimal actor-critic on deep sea, against its parts left out (Tan et al. 2025, arXiv 2505.03710)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.statistics import mean_interval

WORLD = "finite:deep-sea"
SOLVED = 0.05  # regret of an episode, of a best return of 1
LAST = 100  # episodes that it is taken over


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings: dict[str, Any] = {
        "world.size": 10, "steps": 1500, "evaluation.every": 100, "policy.replicas": 10,
    }  # fmt: skip
    if quick:
        settings |= {"world.size": 6, "steps": 150, "policy.replicas": 4}
    actor = {**settings, "learner.step_size": 10.0}
    return {
        "optimal-actor-critic": api.recipe("optimal-actor-critic", WORLD, settings=actor),
        "without-reset": api.recipe("optimal-actor-critic", WORLD, settings={**actor, "learner.reset": False}),
        "without-optimism": api.recipe("optimal-actor-critic", WORLD, settings={**actor, "learner.bonus": 0.0}),
        "hybrid": api.recipe("optimal-actor-critic-hybrid", WORLD, settings=actor),
        "hybrid-without-optimism": api.recipe("optimal-actor-critic-plain", WORLD, settings=actor),
        "lsvi-ucb": api.recipe("lsvi-ucb", WORLD, settings=settings),
    }


def total(run: RunResult) -> float:
    """The regret of all episodes, in the mean over replicas."""
    return float(run.series("total_regret")[1][-1])


def exponent(run: RunResult) -> float:
    """b where the regret up to an episode t grows as t^b, from a tenth of the run to its end."""
    found = run.series("total_regret")[1]
    early = len(found) // 10
    return float(np.log(found[-1] / found[early - 1]) / np.log(len(found) / early))


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    ours, blind = runs["optimal-actor-critic"], runs["without-optimism"]
    growth = mean_interval(np.array([exponent(run) for run in ours]))
    left = float(np.mean([run.series("regret")[1][-LAST:].mean() for run in ours]))
    cheaper = all(total(a) < total(b) for a, b in zip(ours, blind, strict=True))
    said = (
        f"regret grows as T to the power {growth.estimate:.2f} ({growth.low:.2f} to {growth.high:.2f}); {left:.3f} an "
        "episode at the end; total regret: "
        + ", ".join(f"{label} {np.mean([total(run) for run in side]):.0f}" for label, side in runs.items())
    )
    return Judged.by(growth.high <= 0.5 and left <= SOLVED and cheaper, growth.low > 0.5 or not cheaper, said)


EXPERIMENT = Experiment(
    name="optimal-actor-critic.deep-sea",
    claim="An optimistic actor-critic whose critic changes rarely has regret of order sqrt(T) where one must explore.",
    criterion=(
        "Deep sea of size 10 (a uniform policy finds the treasure once in 1,024 episodes), 1,500 episodes, 5 seeds of "
        "10 replicas, one-hot features, bonus of scale 0.1, step size 10. Reproduced if the exact regret grows, from a "
        "tenth of the run to its end, with an exponent whose 95 % interval over seeds ends at or below 0.5, the last "
        "100 episodes cost at most 0.05 each, and total regret is below that of the same without optimism on every "
        "seed. Not reproduced if the interval lies above 0.5, or on some seed optimism does not pay. Otherwise "
        "inconclusive. Reported beside it: without resets; with 200 offline episodes of an expert with half of its "
        "actions random, with and without optimism; LSVI-UCB, which is greedy. Settings were tried on seed 100."
    ),
    arms=arms,
    pairs=(("optimal-actor-critic", "without-optimism"), ("optimal-actor-critic", "lsvi-ucb")),
    judge=judge,
    quick_seeds=(100,),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
