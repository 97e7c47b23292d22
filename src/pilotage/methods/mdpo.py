"""MDPO, on-policy: several gradient steps on the linearised return minus KL(new || old) / t, in place of clipping.

    maximise  mean[ρ A] - (1/t_k) mean KL(π(·|s) || π_k(·|s)),   t_k from 1 towards 0 over the run

Tomar et al. 2020, arXiv 2005.09814, eq. 5. The KL is exact and has the NEW policy first (ports use KL(old || new),
which is another method). t is floored at 0.05, where released code divides by 2/K at the end. Actor: 10 full-batch
steps; critic apart: 5 passes of minibatches of 128 with a clipped value loss. Advantages are standardised once over
the batch. Released code divides rewards by a running deviation, which the value clip of 0.2 supposes; here they are as
the world gives them [our choice]: on MuJoCo put `experiments.reward_scale:RewardScale` before the credit chain, with
`policy.normalise=true`, as `experiments/mdpo.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Term
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "mdpo",
    family="policy gradient",
    paper="Tomar et al. 2020, arXiv 2005.09814",
    line="mirror descent: unclipped ratio with an exact KL to the previous policy",
    baseline="ppo",
    parts=("loss", "learner"),
    claim="on par with or better than TRPO and PPO on six MuJoCo tasks",
)
def mdpo(base: Recipe) -> Mapping[str, Any]:
    """The actor's term loses clipping, value and entropy; the critic gets a term of its own."""
    rate = base.get("terms.policy.optimiser.learning_rate")
    return {
        "credit.previous": piece(credit.returns.old_distribution),
        "terms.policy.parameters": "actor",
        "terms.policy.objectives": {"policy": Objective(piece(losses.policy.mirror_descent))},
        "terms.policy.optimiser": piece(learn.optimisers.adam, learning_rate=rate, eps=1e-5),
        "terms.policy.epochs": 10,
        "terms.policy.minibatches": 1,
        "terms.value": Term(
            objectives={"value": Objective(piece(losses.value.squared_error, clip=0.2))},
            parameters="critic",
            optimiser=piece(learn.optimisers.adam, learning_rate=rate),
            epochs=5,
            minibatches=max(1, 1024 // 128),
            max_grad_norm=None,
        ),
    }
