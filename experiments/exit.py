"""ExIt against GRPO and its own ablations: accuracy after k improvement steps (Jiang et al. 2025, arXiv 2509.04575).

A character model learns short sums, a third of its demonstrations as improvements of an earlier answer; all arms begin
with it. Tried on seed 100 only: two sizes of sums and 150 to 200 steps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import POINT, in_points
from pilotage import api
from pilotage.data.piece import piece
from pilotage.run import experiment
from pilotage.run.improving import Improving
from pilotage.run.recipe import Recipe

WORLD = "reasoning:chain_sum"
KS = (0, 1, 2, 4, 8, 16)
LAST = "improving/accuracy@16"
RUNGS: Mapping[str, Mapping[str, object]] = {
    "exit": {},
    "exit-improve": {"sampler.diverge": 0.0, "credit.novelty": None},
    "exit-curriculum": {"sampler.expand": False, "credit.novelty": None},
    "grpo": {},
}


@dataclass(frozen=True)
class Size:
    """How long arms train, how often and on how many sums they are judged, and the start that all begin with, where it
    is not the usual one: its steps, and the shares of its demonstrations that are asked in other forms."""

    steps: int
    every: int
    tasks: int
    improved: int
    start: Mapping[str, object] = field(default_factory=dict)


def of(rungs: Mapping[str, Mapping[str, object]], size: Size) -> Mapping[str, Recipe]:
    """Arms by label, METHOD or METHOD-RUNG, and what of the method a rung leaves out."""
    settings = {
        "steps": size.steps,
        "evaluation.every": size.every,
        "evaluation.tasks": size.tasks,
        **{f"start.{path}": value for path, value in size.start.items()},
    }
    found = {}
    for label, rung in rungs.items():
        made = api.recipe(label.partition("-")[0], WORLD, settings=settings, alongside=("exit",))
        measure = piece(Improving, tasks=size.improved, steps=KS)
        found[label] = made.vary("experiment", {**rung, "evaluation.measures.improving": measure})
    return found


QUICK = Size(8, 0, 50, 10, {"steps": 20})


def arms(quick: bool) -> Mapping[str, Recipe]:
    return of(RUNGS, QUICK if quick else Size(120, 60, 200, 100))


def by_k(runs: Runs, arm: str) -> str:
    """Accuracies in percent for each k, means over seeds."""
    ends = [[experiment.end(run, f"improving/accuracy@{k}") for run in runs[arm]] for k in KS]
    return ", ".join(f"{100 * sum(end) / len(end):.0f}" for end in ends)


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    ahead = experiment.gap(runs["exit"], runs["grpo"], LAST)
    equal = experiment.gap_at_equal_tokens(runs["exit"], runs["grpo"], LAST)
    more = experiment.gap(runs["exit"], runs["grpo"], "improving/gain")
    first = comparisons["exit", "grpo"].difference
    said = "; ".join(
        (
            f"ExIt minus GRPO after 16 steps {in_points(ahead)}, at equal generated tokens {in_points(equal)}, in "
            f"what the 16 steps gain {in_points(more)}, in accuracy without any {in_points(first)}",
            f"accuracy in percent after {', '.join(map(str, KS))} steps: "
            + ", ".join(f"{arm} {by_k(runs, arm)}" for arm in runs),
        )
    )
    if ahead.low > 0 and equal.low > 0 and more.low > 0:
        return Judged("reproduced", said)
    if any(found.high < POINT for found in (ahead, equal, more)):
        return Judged("not reproduced", said)
    return Judged("inconclusive", said)


EXPERIMENT = Experiment(
    name="exit",
    claim=(
        "After 16 improvement steps ExIt answers 20.4 % of mathematics, GRPO 18.7 %; the steps gain 2.0 points on the "
        "first answer against 1.1 (3B), while a curriculum of the problems alone is about GRPO (18.8 %)."
    ),
    criterion=(
        "3 paired seeds, chain_sum of three one-digit numbers, one start that knows how improvements are asked for, "
        "120 steps, equal numbers of samples; held-out sampled accuracy of the last policies after 16 improvement "
        "steps on 100 sums. Reproduced if ExIt minus GRPO lies above 0 after 16 steps, there at equal generated "
        "tokens, and in what the 16 steps gain on the first answer (all three intervals). Not reproduced if one of "
        "the three intervals lies below +1 point. Otherwise inconclusive. The ablations and the other numbers of "
        "steps are stated and decide nothing."
    ),
    arms=arms,
    pairs=(("exit", "grpo"), ("exit-improve", "grpo"), ("exit-curriculum", "grpo")),
    judge=judge,
    seeds=(0, 1, 2),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
