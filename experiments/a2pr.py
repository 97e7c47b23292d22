"""A2PR against TD3+BC on a mixed Pendulum log (Liu et al. 2024, arXiv 2405.19909).

Networks of 2 x 64 and 5,000 batches (paper: up to four layers of 256, a million batches). So that values settle within
them, both sides discount by 0.95 and their slow copies follow at a rate of 0.02; tried on seed 100 only, where 0.99 and
0.005 left values far from settled. Reported beside the verdict: the shares of decisions whose target is the model's
action, and of those that are not cloned at all. Mask and weights are A2PR's defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.logs import PENDULUM
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.wording import signed

SETTLING = {"drawn.target.discount": 0.95, "targets.slow.rate": 0.02}
OWN = {
    "td3-bc": SETTLING,
    "a2pr": {**SETTLING, "terms.value.objectives.error.loss.discount": 0.95, "policy.model_hidden": (64, 64)},
}
MARGIN = 50  # of return, about 5 % of what lies between random play and an expert
SHARES = {"projected": "actor/projected", "not cloned": "actor/gated_off"}


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        "steps": 3 if quick else 50,
        "policy.hidden": (64, 64),
        "evaluation.every": 0 if quick else 25,
        "evaluation.tasks": 5 if quick else 20,
        "evaluation.greedy": True,
    }
    return {method: PENDULUM.recipe(method, {**shared, **own}, quick) for method, own in OWN.items()}


def share(runs: Runs, label: str, metric: str) -> float:
    """The mean over runs of a share's mean over the last fifth of the steps."""
    found = [run.series(metric)[1] for run in runs[label]]
    ends = [float(values[-max(1, len(values) // 5) :].mean()) for values in found if len(values)]
    return sum(ends) / len(ends) if ends else float("nan")


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    against = comparisons["a2pr", "td3-bc"]
    gap = against.difference
    found = {name: share(runs, "a2pr", metric) for name, metric in SHARES.items()}
    mixed = all(0 < value < 1 for value in found.values())
    ours, theirs = (verdict.side(label, runs[label]).final.estimate for label in ("a2pr", "td3-bc"))
    said = f"A2PR {ours:.0f}, TD3+BC {theirs:.0f}, difference {signed(gap, 0)}; shares " + ", ".join(
        f"{name} {value:.2f}" for name, value in found.items()
    )
    return Judged.by(against.kind == "better" and mixed, gap.high < MARGIN, said)


EXPERIMENT = Experiment(
    name="a2pr.pendulum",
    claim="On data mixed with poor actions, A2PR is better than TD3+BC.",
    criterion=(
        f"3 paired seeds on the log {PENDULUM.name} ({PENDULUM.decisions} decisions, a tenth of them an expert's, the "
        "rest random), 5,000 batches of 256; return of the last policies on 20 held-out tasks. Reproduced if A2PR is "
        "better than TD3+BC (the intervals over seeds, and over seeds and tasks, of the difference lie above 0), and "
        "the shares of decisions whose target is the model's action, and of those not cloned, lie strictly between 0 "
        f"and 1. Not reproduced if the interval of the difference lies below {MARGIN}. Otherwise inconclusive."
    ),
    arms=arms,
    pairs=(("a2pr", "td3-bc"),),
    judge=judge,
    seeds=(0, 1, 2),
    prepare=PENDULUM.make,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
