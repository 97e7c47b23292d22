"""A2PR against TD3+BC on a mixed Pendulum log, and without each of its two parts (Liu et al. 2024, arXiv 2405.19909).

Networks of 2 x 64 and 5,000 batches (paper: up to four layers of 256, a million batches). Reported beside the verdict:
the shares of decisions whose target is the model's action, and of those that are not cloned at all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.logs import PENDULUM
from pilotage.run import verdict
from pilotage.run.recipe import Recipe

IMITATION = "terms.actor.objectives.imitation"
OWN = {
    "td3-bc": {},
    "a2pr": {"policy.model_hidden": (64, 64)},
    "a2pr-logged-action": {"policy.model_hidden": (64, 64), f"{IMITATION}.loss.project": False},
    "a2pr-no-gate": {"policy.model_hidden": (64, 64), f"{IMITATION}.loss.gate": False},
}
MARGIN = 50  # of return, about 5 % of what lies between random play and an expert
SHARES = {"projected": "actor/projected", "not cloned": "actor/gated_off"}


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        "steps": 3 if quick else 50,
        "policy.hidden": (64, 64),
        "evaluation.every": 0 if quick else 10,
        "evaluation.tasks": 5 if quick else 20,
        "evaluation.greedy": True,
    }
    methods = {label: "td3-bc" if label == "td3-bc" else "a2pr" for label in OWN}
    return {label: PENDULUM.recipe(methods[label], {**shared, **own}) for label, own in OWN.items()}


def share(runs: Runs, label: str, metric: str) -> float:
    """The mean over runs of a share's mean over the last fifth of the steps."""
    found = [run.series(metric)[1] for run in runs[label]]
    ends = [float(values[-max(1, len(values) // 5) :].mean()) for values in found if len(values)]
    return sum(ends) / len(ends) if ends else float("nan")


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    against = {other: comparisons["a2pr", other] for other in OWN if other != "a2pr"}
    gap = against["td3-bc"].difference
    found = {name: share(runs, "a2pr", metric) for name, metric in SHARES.items()}
    mixed = all(0 < value < 1 for value in found.values())
    ours, theirs = (verdict.side(label, runs[label]).final.estimate for label in ("a2pr", "td3-bc"))
    said = [f"A2PR {ours:.0f}, TD3+BC {theirs:.0f}"]
    said += [
        f"minus {other} {one.difference.estimate:+.0f} ({one.difference.low:+.0f} to {one.difference.high:+.0f})"
        for other, one in against.items()
    ]
    said.append("shares " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
    if against["td3-bc"].kind == "better" and mixed:
        return Judged("reproduced", "; ".join(said))
    return Judged("not reproduced" if gap.high < MARGIN else "inconclusive", "; ".join(said))


EXPERIMENT = Experiment(
    name="a2pr.pendulum",
    claim="On data mixed with poor actions, A2PR is better than TD3+BC.",
    criterion=(
        f"3 paired seeds on the log {PENDULUM.name} ({PENDULUM.decisions} decisions, a tenth of them an expert's, the "
        "rest random), 5,000 batches of 256; return of the last policies on 20 held-out tasks. Reproduced if A2PR is "
        "better than TD3+BC (the intervals over seeds, and over seeds and tasks, of the difference lie above 0), and "
        "the shares of decisions whose target is the model's action, and of those not cloned, lie strictly between 0 "
        f"and 1. Not reproduced if the interval of the difference lies below {MARGIN}. Otherwise inconclusive. The "
        "arms without its parts are reported and decide nothing."
    ),
    arms=arms,
    pairs=tuple(("a2pr", other) for other in OWN if other != "a2pr"),
    judge=judge,
    seeds=(0, 1, 2),
    prepare=PENDULUM.make,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
