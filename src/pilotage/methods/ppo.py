"""PPO: clipped ratio on advantages from a learnt critic (GAE).

    L = -mean min(ρA, clip(ρ, 1±0.2) A) + 0.5 mean (V - G)² - c_H mean H

Schulman et al. 2017, arXiv 1707.06347. Control uses windows of 128 steps on 8 lanes, discount 0.99 and trace 0.95;
language whole answers with both 1 and 0.95. Advantages are standardised over the batch (released code does so over each
minibatch). The value loss is not clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.methods.roots import speaks
from pilotage.run.recipe import Recipe


@method(
    "ppo",
    family="policy gradient",
    paper="Schulman et al. 2017, arXiv 1707.06347",
    line="clipped ratio with a critic and GAE",
    baseline="reinforce",
    parts=("credit", "loss", "rollout", "learner"),
    kind="baseline",
)
def ppo(base: Recipe) -> Mapping[str, Any]:
    """A critic, several passes of minibatches; windows where the world is one of actions."""
    speaking = speaks(base)
    plan = {} if speaking else {"rollout": piece(rollouts.window.Window)}
    return {
        **plan,
        "policy.critic": True,
        "credit.advantage": None,
        "credit.value": piece(credit.returns.values),
        "credit.gae": piece(credit.returns.gae, discount=1.0 if speaking else 0.99),
        "credit.scale": piece(credit.returns.standardise),
        "terms.policy.parameters": "",
        "terms.policy.objectives.policy": Objective(piece(losses.policy.clipped_ratio)),
        "terms.policy.objectives.value": Objective(piece(losses.value.squared_error), weight=0.5),
        "terms.policy.objectives.entropy": Objective(piece(losses.regularise.negative_entropy), weight=0.0),
        "terms.policy.epochs": 1 if speaking else 4,
        "terms.policy.minibatches": 4,
        "terms.policy.max_grad_norm": 0.5,
    }
