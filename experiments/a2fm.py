"""A²FM's APO against GRPO on sums that may be answered at once, worked through or given to a tool (arXiv 2510.12838).

Half of the problems have two terms, which instant answers get right in nine of ten, half have four, which the tool gets
right and instant answers do not. Tried on seeds 100 and 101 only: sums of two to five terms (the choice drifts to the
tool before it tells problems apart), rates of 1e-4 to 1e-3 (at 3e-4 and above what is forced in losing modes is
unlearnt), 150 to 250 steps, baselines of each mode's own, and sequence means, under which the tag of a short answer
weighs several times that of a long one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from experiments import language
from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import ACCURACY, ahead
from pilotage.credit.modes import charged
from pilotage.data.piece import Piece, piece
from pilotage.run import experiment
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.wording import signed

WORLD = "modes:sums"
EASY = "mode/2 terms/instant"
COST = "cost/per_right"
SHARE = 0.08  # the paper's: 50.2 → 58.6 % on SuperGPQA
LOSS = 0.02  # of accuracy, that a reader would still call the same; the paper's is 0.9 points
ARMS: language.Arms = {
    "grpo": ("grpo", {}),
    "a2fm": ("a2fm", {}),
    "a2fm-free": ("a2fm", {"rollout.forced": 0, "credit.tax.rate": "instant"}),
    "grpo-charged": (
        "a2fm",
        {"rollout.forced": 0, "credit.tax": None, "credit.charge": piece(charged, weight=0.005)},
    ),
}


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        "world.terms": [2, 4],
        "prompts_per_step": 16,
        "samples_per_prompt": 12,
        "reduction": "token",
        "learning_rate": 2e-4,
        "steps": 4 if quick else 200,
        "evaluation.every": 0 if quick else 50,
        "evaluation.tasks": 10 if quick else 40,
        "evaluation.samples": 10,
        "evaluation.measures.routing": Piece("pilotage.run.routing:Routing", {"tasks": 40, "samples": 8}),
    }
    return language.arms(ARMS, shared, world=WORLD)


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    share, cost, accuracy = (ahead(runs, "a2fm", "grpo", name) for name in (EASY, COST, ACCURACY))
    units = cost.said(lambda gap: signed(gap, 1, " tokens"))
    said = (
        f"a2fm minus grpo: instant answers to easy problems {share.said()}; accuracy {accuracy.said()}; cost per right "
        f"answer {units}; at the end " + "; ".join(map(stated, runs.values()))
    )
    both = list(zip(share, cost, accuracy, strict=True))
    holds = all(s.low > SHARE and c.high < 0 and a.low > -LOSS for s, c, a in both)
    excluded = any(s.high < SHARE or c.low >= 0 or a.high < -LOSS for s, c, a in both)
    return Judged.by(holds, excluded, said)


def stated(side: Sequence[RunResult]) -> str:
    """What an arm's last policies do, in the mean of its seeds."""
    mean = {
        name: sum(experiment.end(run, name) for run in side) / len(side)
        for name in (ACCURACY, EASY, "mode/4 terms/instant", "router/entropy", COST)
    }
    accuracy, easy, hard, entropy, cost = mean.values()
    return (
        f"{side[0].name}: accuracy {accuracy * 100:.1f} %, instant on easy {easy * 100:.0f} % and on hard problems "
        f"{hard * 100:.0f} %, entropy of the choice {entropy:.2f} nats, cost {cost:.1f}"
    )


EXPERIMENT = Experiment(
    name="a2fm",
    claim=(
        "A²FM's APO raises the share of instant answers (50.2 to 58.6 % on SuperGPQA, at 55.6 and 54.7 points) and "
        "answers at a lower cost per right answer (32B: 45 % below reasoning only, 33.5 % below agentic only)."
    ),
    criterion=(
        "3 paired seeds, modes:sums with two or four terms, 200 steps of 16 groups of 12, token means, the same rate "
        "for all; held-out problems, 10 sampled answers each. The comparison is a2fm minus grpo, at equal steps and at "
        "equal generated tokens, in the probability of the instant mode on problems of two terms, in accuracy, and in "
        "cost per right answer (generated tokens, and 30 for each call). Reproduced if, at both, the interval over "
        "seeds of the first lies above +8 points, that of the second above -2 points and that of the third below 0. "
        "Not reproduced if, at either, that of the first lies below +8 points, that of the second below -2 points, or "
        "that of the third at or above 0. Otherwise inconclusive. a2fm without forced answers, and grpo with a charge "
        "of 0.005 for each unit of cost, are stated and decide nothing."
    ),
    arms=arms,
    pairs=(("a2fm", "grpo"), ("a2fm-free", "grpo"), ("grpo-charged", "grpo")),
    judge=judge,
    seeds=(0, 1, 2),
    quick_seeds=(100, 101, 102),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
