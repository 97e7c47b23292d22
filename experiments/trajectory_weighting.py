"""Trajectory weighting on a HalfCheetah log of which a tenth is an expert's, under TD3+BC and IQL (Hong et al. 2023,
arXiv 2306.13085).

Networks of 2 x 64 and 5,000 batches (paper: 2 x 256, a million batches, logs of a million decisions).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.logs import HALFCHEETAH
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.wording import signed

WEIGHT = "credit.draw_weight"
OWN: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "td3-bc": ("td3-bc", {}),
    "td3-bc-aw": ("trajectory-weighting+td3-bc", {}),
    "iql": ("iql", {}),
    "iql-aw": ("trajectory-weighting+iql", {}),
    "iql-rw": ("trajectory-weighting+iql", {f"{WEIGHT}.score": "return"}),
    "iql-top": ("trajectory-weighting+iql", {WEIGHT: "pilotage.credit.trajectories:top_share"}),
}
CLAIMED = (("td3-bc-aw", "td3-bc"), ("iql-aw", "iql"))
MARGIN = 44  # of return, 5 % of what lies between random play and the log's expert


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        "steps": 3 if quick else 50,
        "policy.hidden": (64, 64),
        "evaluation.every": 0,
        "evaluation.tasks": 2 if quick else 20,
        "evaluation.greedy": True,
    }
    return {label: HALFCHEETAH.recipe(name, {**shared, **own}, quick) for label, (name, own) in OWN.items()}


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    said = [f"{label} {verdict.side(label, runs[label]).final.estimate:.0f}" for label in OWN]
    said += [f"{one} minus {other} {signed(found.difference, 0)}" for (one, other), found in comparisons.items()]
    because = "; ".join(said)
    holds = all(comparisons[pair].kind == "better" for pair in CLAIMED)
    return Judged.by(holds, any(comparisons[pair].difference.high < MARGIN for pair in CLAIMED), because)


EXPERIMENT = Experiment(
    name="trajectory-weighting.halfcheetah",
    claim="Where a tenth of a log is an expert's, drawing by trajectory advantage (AW) improves TD3+BC and IQL.",
    criterion=(
        f"3 paired seeds on the log {HALFCHEETAH.name} ({HALFCHEETAH.decisions} decisions, a tenth of them an "
        "expert's, the rest random), 5,000 batches of 256; return of the last policies on 20 held-out tasks. "
        "Reproduced if AW is better than uniform draws under both TD3+BC and IQL (the intervals over seeds, and over "
        "seeds and tasks, of the difference lie above 0). Not reproduced if under either the interval of the "
        f"difference lies below {MARGIN}. Otherwise inconclusive. Weights by return (RW) and the best tenth are "
        "reported under IQL and decide nothing."
    ),
    arms=arms,
    pairs=(*CLAIMED, ("iql-aw", "iql-rw"), ("iql-aw", "iql-top")),
    judge=judge,
    seeds=(0, 1, 2),
    prepare=HALFCHEETAH.make,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
