"""TD3+BC: TD3 on logged decisions, with an actor that also stays near the logged actions.

    L_π = -λ mean Q_1(s, π(s)) + mean over decisions and action dimensions of (π(s) - a)²,   λ = α / mean |Q_1(s, π(s))|

Fujimoto & Gu 2021, arXiv 2106.06860. α = 2.5; observations are standardised over the data; critics, targets and delay
as in TD3. The paper normalises λ over logged actions, its released code (and this) over the policy's. α = 0 leaves
behaviour cloning; the weight of the objective `imitation` at 0 with α = none leaves TD3. A million batches in the
paper, 20,000 here unless asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target, Term
from pilotage.methods.method import method
from pilotage.methods.roots import critics_then_actor
from pilotage.run.recipe import Recipe


@method(
    "td3-bc",
    family="offline control",
    paper="Fujimoto & Gu 2021, arXiv 2106.06860",
    line="TD3 on logged decisions, with the squared error of actions beside it",
    baseline="bc",
    parts=("credit", "loss", "learner", "policy"),
    kind="baseline",
    worlds=("box",),
)
def td3_bc(base: Recipe) -> Mapping[str, Any]:
    """Critics before the actor, which takes every second batch and has two objectives; slow copies of both."""
    actor: Term = base.terms["actor"]
    objectives = {"actor": Objective(piece(losses.actor.normalised_actor)), **actor.objectives}
    return {
        "policy.normalise": True,
        "drawn.target": piece(credit.bootstrap.smoothed_target),
        "targets.slow": Target("", rate=0.005, every=2),
        "terms": critics_then_actor(actor.optimiser, objectives, every=2),
        "steps": 200,
        "evaluation.every": 50,
    }
