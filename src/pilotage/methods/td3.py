"""TD3: a deterministic actor, the smaller of two critics, smoothed targets and an actor updated every second time.

    y = r + γ (1-d) min_i Q̄_i(s', π̄(s') + clip(ε, ±0.5)),   L_π = -Q_1(s, π(s)) on every second batch

Fujimoto et al. 2018, arXiv 1802.09477. One update a decision, in windows of 8, after 1,000 random decisions (the paper:
25,000 or 1,000 by task). The slow copies follow at every second batch, with the actor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target
from pilotage.methods.method import method
from pilotage.methods.roots import off_policy
from pilotage.run.recipe import Recipe


@method(
    "td3",
    family="off-policy control",
    paper="Fujimoto et al. 2018, arXiv 1802.09477",
    line="deterministic actor, clipped double critics, smoothed targets, delayed actor",
    baseline=None,
    parts=("rollout", "store", "credit", "loss", "learner", "policy"),
    kind="baseline",
    policy="deterministic",
    worlds=("box",),
)
def td3(base: Recipe) -> Mapping[str, Any]:
    """A replay store, targets worked out as batches are drawn, two terms, and slow copies of actor and critics."""
    objectives = {"actor": Objective(piece(losses.actor.deterministic_actor))}
    return {
        **off_policy(base, objectives, every=2),
        "drawn": {"target": piece(credit.bootstrap.smoothed_target)},
        "targets": {"slow": Target("", rate=0.005, every=2)},
    }
