"""IQL: values of the data's better actions by expectile regression, and cloning weighted by advantage.

    L_V = |τ - 1(Q̄ < V)| (Q̄(s, a) - V(s))²,   L_Q = (r + γ (1-d) V(s') - Q_i(s, a))²
    L_π = -min(exp(β (Q̄(s, a) - V(s))), 100) log π(a|s),   Q̄ = min_i of slow critics

Kostrikov et al. 2022, arXiv 2110.06169. No action outside the data is ever valued. τ = 0.7, β = 3; value, actor and
critics in this order on the same batch, as in released code, so each uses what the ones before have just learnt.
Rewards are scaled by 1000 over the range of the data's returns, and the actor's rate falls along a cosine, both as in
released code for locomotion. β = 0 is likelihood of all logged actions. A million batches in the paper, 20,000 here
unless asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target, Term
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "iql",
    family="offline control",
    paper="Kostrikov et al. 2022, arXiv 2110.06169",
    line="expectile values of logged actions, cloned by their advantage",
    baseline="bc",
    parts=("credit", "loss", "learner", "policy"),
    kind="baseline",
    policy="gaussian",
    worlds=("box",),
)
def iql(base: Recipe) -> Mapping[str, Any]:
    """Three terms in the order of the released code, and slow critics."""
    optimiser = base.terms["actor"].optimiser
    cloning = Objective(piece(losses.imitation.advantage_weighted))
    return {
        "credit.reward": piece(credit.returns.scaled_by_range),
        "drawn.following": piece(credit.bootstrap.following),
        "drawn.worth": piece(credit.bootstrap.slow_worth),
        "targets.critic": Target("critic", rate=0.005),
        "terms": {
            "value": Term(
                {"error": Objective(piece(losses.value.expectile_error))}, "critic.value", optimiser, max_grad_norm=None
            ),
            "actor": Term(
                {"imitation": cloning}, "actor", optimiser, piece(learn.schedules.cosine), max_grad_norm=None
            ),
            "critic": Term(
                {"error": Objective(piece(losses.actor.bootstrapped_error))}, "critic", optimiser, max_grad_norm=None
            ),
        },
        "steps": 200,
        "evaluation.every": 50,
    }
