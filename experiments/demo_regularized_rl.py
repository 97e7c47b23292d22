"""Demonstration-regularised RL against UCBVI on river swim (Tiapkin et al. 2024, arXiv 2310.17303)."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import numpy as np

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.statistics import mean_interval

WORLD = "finite:river-swim"
NUMBERS = (30, 100, 300, 1000)  # expert demonstrations
BEST = 3.39726  # V* of 20 steps of the river, by dynamic programming
NEAR = 0.1 * BEST  # ε
OVER = 20  # episodes that a mean is taken over, and over all replicas


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {"steps": 300, "evaluation.every": 50, "policy.replicas": 10}
    if quick:
        settings |= {"steps": 100, "policy.replicas": 4}
    # λ = ε N_E / (H S A), an expert that is ε-optimal: 5 % of random actions would cost it 0.5
    method = {**settings, "learner.accuracy": NEAR, "learner.expert_noise": 0.01}
    feedback = {**method, "learner.demonstrations": 100}
    return {
        "ucbvi": api.recipe("ucbvi", WORLD, settings=settings),
        **{
            f"demonstrations-{n}": api.recipe(
                "demo-regularized-rl", WORLD, settings={**method, "learner.demonstrations": n}
            )
            for n in NUMBERS
        },
        "feedback": api.recipe("demo-regularized-rlhf", WORLD, settings=feedback),
        "feedback-greedy": api.recipe(
            "demo-regularized-rlhf", WORLD, settings={**feedback, "learner.temperature": 0.0}
        ),
    }


def needed(run: RunResult) -> float:
    """Episodes until the exact regret, over replicas and 20 episodes, is at most ε; the run's length where it never is.
    At least 1, so that it has a logarithm."""
    regret = run.series("regret")[1]
    smooth = np.convolve(regret, np.ones(OVER) / OVER, "valid")
    reached = np.flatnonzero(smooth <= NEAR)
    return float(max(1, reached[0])) if len(reached) else float(len(regret))


def slope(runs: Runs, place: int) -> float:
    """Of log episodes by log demonstrations, by least squares."""
    episodes = [math.log(needed(runs[f"demonstrations-{n}"][place])) for n in NUMBERS]
    return float(np.polyfit(np.log(NUMBERS), episodes, 1)[0])


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    seeds = range(len(runs["ucbvi"]))
    rate = mean_interval(np.array([slope(runs, place) for place in seeds]))
    counts = {label: np.mean([needed(run) for run in side]) for label, side in runs.items()}
    total = {label: np.mean([run.series("total_regret")[1][-1] for run in side]) for label, side in runs.items()}
    fewer = all(
        needed(most) < needed(none) for most, none in zip(runs["demonstrations-1000"], runs["ucbvi"], strict=True)
    )
    said = (
        f"episodes needed go with N_E to the power {rate.estimate:.2f} ({rate.low:.2f} to {rate.high:.2f}); needed: "
        + ", ".join(f"{label} {count:.0f}" for label, count in counts.items())
        + "; total regret: "
        + ", ".join(f"{label} {value:.0f}" for label, value in total.items())
    )
    return Judged.by(rate.high <= -0.5 and fewer, rate.low > -0.5 or not fewer, said)


EXPERIMENT = Experiment(
    name="demo-regularized-rl.river-swim",
    claim="The episodes needed for an ε-optimal policy fall as 1/N_E with the number N_E of expert demonstrations.",
    criterion=(
        "River swim, 6 states, 20 steps; 5 seeds of 10 replicas; expert optimal but for 1 % of random actions; "
        "λ = ε N_E / (H S A), ε a tenth of V*; UCBVI's bonus of scale 0.01 in all arms. Episodes needed: the first at "
        "which the exact regret, over replicas and 20 episodes, is at most ε. Reproduced if the exponent of N_E over "
        "30, 100, 300 and 1000 demonstrations has its 95 % interval over seeds at or below -0.5 (half of the rate, "
        "since theory starts at N_E of about H³SA, 96,000 here), and 1000 demonstrations need fewer episodes than "
        "UCBVI on every seed. Not reproduced if the interval lies above -0.5, or UCBVI needs no more on some seed. "
        "Otherwise inconclusive. Feedback (200 preferences) with λ and without it (greedy) is reported beside it. Step "
        "sizes and scales were tried on seed 100."
    ),
    arms=arms,
    pairs=(("demonstrations-1000", "ucbvi"), ("feedback", "feedback-greedy")),
    judge=judge,
    quick_seeds=(100,),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
