"""T-PPO against PPO on whole responses, with the same critic, losses and rates (Fan et al. 2025, arXiv 2506.15050).

Short sums with their totals written again and again: lengths from 6 to 64 tokens, 17 in the mean, so that a step of PPO
takes about 60 decode steps. The control has no such detours. PPO is `t-ppo` in one window, which is `ppo` with a
Monte-Carlo critic to the bit; its optimiser steps are twice as many a step, so that each has about as many tokens.
Tried on seed 100 only: windows of 12 and 16, rates of the actor of 1e-4 and 3e-4 (at which responses of both sides
grow until none is right), of the critic of 2.5e-4 and 1e-3, and a harder start of 0.2, from which T-PPO does the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import POINT, WORLD, in_points
from pilotage import api
from pilotage.run import experiment
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.statistics import Interval, mean_interval, paired_difference

STEPS = "count/decode_steps"
SAVING, LEVEL = 1.5, 1.25  # times fewer decode steps; what still counts as no gain
MARGIN = 5 * POINT  # what still counts as an equal score
RATES = {"terms.policy.optimiser.learning_rate": 1e-4, "terms.value.optimiser.learning_rate": 1e-3}
SIZES = {"prompts_per_step": 16, "samples_per_prompt": 8, "evaluation.tasks": 500}
LONG = {"world.detours": 0.7, "world.answer_tokens": 64, "start.steps": 1000}
WHOLE = {"rollout.window": 4096, "terms.policy.minibatches": 8, "terms.value.minibatches": 8, "terms.policy.after": 12}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {**LONG, **WHOLE, "steps": 100, "evaluation.every": 20},
    "t-ppo": {**LONG, "rollout.window": 16, "terms.policy.after": 20, "steps": 170, "evaluation.every": 17},
    "t-ppo-bootstrap": {
        **LONG, "rollout.window": 16, "terms.policy.after": 20, "steps": 170, "evaluation.every": 34,
        "credit.value.bootstrap": "critic",
    },
    "ppo-level": {**WHOLE, "steps": 60, "evaluation.every": 20},
    "t-ppo-level": {"rollout.window": 3, "terms.policy.after": 20, "steps": 140, "evaluation.every": 35},
}  # fmt: skip
HEAVY, CONTROL = ("t-ppo", "ppo"), ("t-ppo-level", "ppo-level")


def arms(quick: bool) -> Mapping[str, Recipe]:
    few = {"steps": 6, "evaluation.every": 0, "evaluation.tasks": 50, "terms.policy.after": 2} if quick else {}
    return {label: api.recipe("t-ppo", WORLD, settings={**SIZES, **RATES, **own, **few}) for label, own in ARMS.items()}


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    cheaper = cheaply(runs[HEAVY[0]], runs[HEAVY[1]])
    ablation = cheaply(runs["t-ppo-bootstrap"], runs["ppo"])
    rises = [experiment.rise(runs[label], runs[label][0].metric) for label in HEAVY]
    saved, level = (saving(*(runs[label] for label in pair)) for pair in (HEAVY, CONTROL))
    said = (
        f"decode steps a token, PPO over T-PPO: {saved.estimate:.2f} ({saved.low:.2f} to {saved.high:.2f}), with equal "
        f"lengths {level.estimate:.2f}; T-PPO with at most 1/{SAVING:g} of PPO's decode steps minus PPO at its end: "
        f"{in_points(cheaper)}; with the critic's value at the cut {in_points(ablation)}; rise of T-PPO "
        f"{in_points(rises[0])}, of PPO {in_points(rises[1])}; "
        f"{seconds(runs['t-ppo']):.0f} and {seconds(runs['ppo']):.0f} seconds of training"
    )
    learnt = all(found.low > 0 for found in rises)
    holds = learnt and saved.low >= SAVING and cheaper.low > -MARGIN and level.estimate < LEVEL
    return Judged.by(holds, saved.high < SAVING or cheaper.high < -MARGIN or rises[0].high <= 0, said)


def cheaply(ours: Sequence[RunResult], whole: Sequence[RunResult]) -> Interval:
    """The metric of one arm with at most 1 / 1.5 of the decode steps of another, less that at the other's end."""
    known = {result.seed: result for result in whole}
    allowed = {seed: result.axis(STEPS)[-1] / SAVING for seed, result in known.items()}
    found = [experiment.at_generated(result, allowed[result.seed], axis=STEPS) for result in ours]
    return paired_difference(found, [known[result.seed].final for result in ours])


def saving(ours: Sequence[RunResult], whole: Sequence[RunResult]) -> Interval:
    """Decode steps for each token generated, of another arm over those of one, paired by seed."""
    known = {result.seed: cost(result) for result in whole}
    return mean_interval([known[result.seed] / cost(result) for result in ours])


def cost(result: RunResult) -> float:
    """Decode steps a token, over a whole run."""
    return float(result.axis(STEPS)[-1] / result.axis("count/generated")[-1])


def seconds(side: Sequence[RunResult]) -> float:
    """Of training, in the mean over runs."""
    return sum(result.compute.seconds for result in side) / len(side)


EXPERIMENT = Experiment(
    name="t-ppo",
    claim="T-PPO reaches PPO's score with up to 2.5 times less (AIME 2024, 32B: 60 % less wall-clock time).",
    criterion=(
        "3 paired seeds; chain_sum with detours (lengths of 6 to 64 tokens), windows of 16, against the same learner "
        "on whole responses; held-out sampled accuracy on 500 items. Reproduced if PPO needs at least 1.5 times as "
        "many decode steps for a generated token (the interval over seeds lies at or above 1.5), T-PPO, having used at "
        "most two thirds of PPO's decode steps, is less than 5 points below PPO's end (the interval over seeds lies "
        "above -5), both rise above their start (intervals above 0), and without detours, windows of 3, the saving is "
        "below 1.25. Not reproduced if the interval of the saving lies below 1.5, that of the difference below -5 "
        "points, or T-PPO's rise does not reach above 0. Otherwise inconclusive. Seconds of training, and T-PPO with "
        "the critic's value at the cut, are stated and decide nothing."
    ),
    arms=arms,
    pairs=(HEAVY, ("t-ppo-bootstrap", "ppo"), CONTROL),
    judge=judge,
    seeds=(0, 1, 2),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
