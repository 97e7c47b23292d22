"""ExIt against GRPO and its own ablations: accuracy after k improvement steps (Jiang et al. 2025, arXiv 2509.04575).

A character model learns short sums, a third of its demonstrations as improvements of an earlier answer; all arms begin
with it. Tried on seed 100 only: two sizes of sums and 150 to 200 steps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments import language
from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import POINT, Arms, ahead, in_points, length
from pilotage.data.piece import piece
from pilotage.run import experiment
from pilotage.run.improving import Improving
from pilotage.run.recipe import Recipe

KS = (0, 1, 2, 4, 8, 16)
LAST = "improving/accuracy@16"
ARMS: Arms = {
    "exit": ("exit", {}),
    "exit-improve": ("exit", {"sampler.diverge": 0.0, "credit.novelty": None}),
    "exit-curriculum": ("exit", {"sampler.expand": False, "credit.novelty": None}),
    "grpo": ("grpo", {}),
}


def of(wanted: Arms, quick: bool, settings: Mapping[str, object], sums: int) -> Mapping[str, Recipe]:
    """The arms with these settings, judged after each number of improvement steps on so many sums."""
    shared = {**length(8, 0, 50), "start.steps": 20} if quick else settings
    measure = piece(Improving, tasks=10 if quick else sums, steps=KS)
    return language.arms(wanted, {**shared, "evaluation.measures.improving": measure}, alongside=("exit",))


def arms(quick: bool) -> Mapping[str, Recipe]:
    return of(ARMS, quick, length(120, 60, 200), 100)


def by_k(runs: Runs, arm: str) -> str:
    """Accuracies in percent for each k, means over seeds."""
    ends = [[experiment.end(run, f"improving/accuracy@{k}") for run in runs[arm]] for k in KS]
    return ", ".join(f"{100 * sum(end) / len(end):.0f}" for end in ends)


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    after = ahead(runs, "exit", "grpo", LAST)
    more = experiment.gap(runs["exit"], runs["grpo"], "improving/gain")
    first = comparisons["exit", "grpo"].difference
    said = "; ".join(
        (
            f"ExIt minus GRPO after 16 steps {after.said()}, in what the 16 steps gain {in_points(more)}, in accuracy "
            f"without any {in_points(first)}",
            f"accuracy in percent after {', '.join(map(str, KS))} steps: "
            + ", ".join(f"{arm} {by_k(runs, arm)}" for arm in runs),
        )
    )
    deciding = (*after, more)
    return Judged.by(all(found.low > 0 for found in deciding), any(found.high < POINT for found in deciding), said)


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
