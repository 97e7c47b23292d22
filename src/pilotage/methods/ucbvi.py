"""UCBVI: value iteration on the estimated model with a bonus for what was seen rarely.

    Q_h = clip(r̂_h + p̂_h V_{h+1} + b_h, 0, cap_h),   V_h = max_a Q_h,   b = c · span · sqrt(2 log(4SAH n²/δ) / n)

Azar et al. 2017, arXiv 1703.05449. Counts are kept apart by time. The scale c is 0.01, since theory's constants drown
small problems; values are also held below the world's largest return. `learner.form=bernstein` has the paper's other
bonus, of the variance of next values, in UCBVI-BPI's form (`pilotage.learn.finite:between`). The first episode is
played at random. A step is an episode of each replica: independent learners side by side in one array, each with its
own luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, rollouts
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "ucbvi",
    family="tabular",
    paper="Azar et al. 2017, arXiv 1703.05449",
    line="optimistic value iteration on counts",
    baseline=None,
    parts=("policy", "rollout", "credit", "learner"),
    kind="baseline",
    policy="table",
    worlds=("finite",),
)
def ucbvi(base: Recipe) -> Mapping[str, Any]:
    """Replicas of a table, exact regret, and a learner that plans instead of gradient terms."""
    return {
        "rollout": piece(rollouts.replicas.Replicas),
        "credit.regret": piece(credit.regret.Regret),
        "terms": {},
        "learner": piece(learn.optimism.Optimistic),
        "prompts_per_step": 1,
        "samples_per_prompt": 1,
        "steps": 1000,
        "checkpoint_every": 500,
        "evaluation.every": 100,
    }
