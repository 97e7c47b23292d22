"""CQL: SAC on logged decisions, with critics pushed down where the data have no actions.

    L_Q = ½ Σ_i (Q_i(s, a) - y)² + w Σ_i (T log Σ_k exp((Q_i(s, a_k) - log p_k) / T) - Q_i(s, a))
    y = r + γ (1-d) min_i Q̄_i(s', a'),   L_π = α log π(ã|s) - min_i Q_i(s, ã)

Kumar et al. 2020, arXiv 2006.04779, the form CQL(H). a_k are ten uniform actions, ten of the policy at s and ten at s',
with importance weights; w = 5 and T = 1. With `terms.critic.objectives.penalty.loss.threshold` a multiplier is
learnt (paper: 10). Where released code is followed: entropy is left out of y; the actor's rate is 1e-4.
Where it is not: it works out all losses before any step, here the actor's come after the critics' step; it clones for
the first 40,000 of its million batches, which is left out. w = 0 is SAC. 20,000 batches here unless asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target
from pilotage.methods.method import method
from pilotage.methods.roots import critics_then_actor
from pilotage.run.recipe import Recipe


@method(
    "cql",
    family="offline control",
    paper="Kumar et al. 2020, arXiv 2006.04779",
    line="SAC on logged decisions, critics pushed down on actions outside the data",
    baseline="bc",
    parts=("credit", "loss", "learner", "policy"),
    kind="baseline",
    policy="conservative",
    worlds=("box",),
)
def cql(base: Recipe) -> Mapping[str, Any]:
    """SAC's two terms, with a penalty beside the critics' error."""
    optimiser = base.terms["actor"].optimiser
    objectives = {
        "actor": Objective(piece(losses.actor.soft_actor)),
        "temperature": Objective(piece(losses.actor.temperature)),
    }
    penalty = Objective(piece(losses.conservative.conservative_gap))
    terms = critics_then_actor(optimiser, objectives, penalty=penalty)
    terms["actor"] = replace(terms["actor"], optimiser=optimiser.having(learning_rate=1e-4))
    return {
        "drawn.noise": piece(credit.bootstrap.noise),
        "drawn.target": piece(credit.bootstrap.sampled_target),
        "drawn.contrast": piece(credit.bootstrap.contrast),
        "targets.critic": Target("critic", rate=0.005),
        "terms": terms,
        "steps": 200,
        "evaluation.every": 50,
    }
