"""MDPO, off-policy: SAC with a penalty on leaving the previous policy, a copy refreshed every 1,000 batches.

    L_π = c log π(ã|s) + (λ - c) log π_k(ã|s) - Q_1(s, ã),   L_V = ½ (V(s) - (min_i Q_i(s, ã) - λ log π(ã|s)))²

Tomar et al. 2020, arXiv 2005.09814, section 4.2. With c = λ the previous policy drops out and the actor's loss is SAC's
(with Q_1 in place of the minimum). Critics bootstrap from a slow state value. Where released code differs: it acts with
the mean while training (here sampled, as SAC does; `rollout.greedy=true` is theirs); its value loss broadcasts [N]
against [N, 1] and so is wrong (here each sample has its own). c = 0.5 is our choice: the paper tunes it per task (0.3
to 1); λ = 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "mdpo-off",
    family="off-policy control",
    paper="Tomar et al. 2020, arXiv 2005.09814",
    line="SAC held near a copy of itself by a mirror-descent penalty",
    baseline="sac",
    parts=("credit", "loss", "learner"),
    claim="on par with SAC on six MuJoCo tasks",
    worlds=("box",),
)
def mdpo_off(base: Recipe) -> Mapping[str, Any]:
    """A state critic, its error, the mirror-descent actor and the previous policy; the temperature is fixed."""
    return {
        "policy.state_value": True,
        "drawn.target": piece(credit.bootstrap.state_target),
        "terms.critic.objectives.value": Objective(piece(losses.actor.soft_value_error)),
        "terms.actor.objectives.actor": Objective(piece(losses.actor.mirror_actor)),
        "terms.actor.objectives.temperature": None,
        "targets.previous": Target("actor", rate=1.0, every=1000),
    }
