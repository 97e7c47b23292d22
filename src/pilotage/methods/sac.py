"""SAC: an actor that maximises value and entropy, from replayed transitions and two critics of actions.

    y = r + γ (1-d) (min_i Q̄_i(s', a') - α log π(a'|s')),   L_π = α log π(ã|s) - min_i Q_i(s, ã),   α: H(π) near -dim(A)

Haarnoja et al. 2018, arXiv 1812.05905. One update a decision, in windows of 8, after 1,000 random decisions (the paper:
10,000 on larger tasks); critics, actor and temperature in this order on the same batch. The temperature starts at 1.
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
    "sac",
    family="off-policy control",
    paper="Haarnoja et al. 2018, arXiv 1812.05905",
    line="maximum-entropy actor with two action critics and replay",
    baseline=None,
    parts=("rollout", "store", "credit", "loss", "learner", "policy"),
    kind="baseline",
    policy="squashed",
    worlds=("box",),
)
def sac(base: Recipe) -> Mapping[str, Any]:
    """A replay store, targets worked out as batches are drawn, two terms and slow critics."""
    # the temperature shares the actor's term, and so its forward pass
    objectives = {
        "actor": Objective(piece(losses.actor.soft_actor)),
        "temperature": Objective(piece(losses.actor.temperature)),
    }
    return {
        **off_policy(base, objectives),
        "drawn": {"noise": piece(credit.bootstrap.noise), "target": piece(credit.bootstrap.soft_target)},
        "targets": {"critic": Target("critic", rate=0.005)},
    }
