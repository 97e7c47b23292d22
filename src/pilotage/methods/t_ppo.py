"""Truncated PPO: responses are written in windows; the actor learns from each window, the critic when a response ends.

    A_t = Σ_k (γλ)^k δ_{t+k} within the window;   δ = r + γ V' - V, and (γ - 1) V at a cut, where V' := V
    L = -mean_t min(ρA, clip(ρ, 0.8, 1.28) A), at most 10 |A|;   L_V = ½ mean_i mean_t max((V - G)², (V' - G)²)

Responses that a window cuts go on in the next step with the policy as it is then, so a step takes as many decode steps
as a window is long, not as its longest response. Fan et al. 2025, arXiv 2506.15050; λ grows with length (VAPO, arXiv
2504.05118). G is the Monte-Carlo return of the whole response, V' is held within -0.5 and +0.6 of the value stored when
the window was written. `terms.policy.after` is value pre-training: for so many steps the critic alone learns, from the
Monte-Carlo returns of the policy of the start.

There is no release by the authors' lab; of the recipe offered to verl (pull request 3728) this does not follow: ratios
from an estimate of the KL; a finished flag that is inverted as a whole number, which turns the sign of a cut's δ; an
ignored tail of 0 that leaves out whole windows; old log-probs by the trainer (here the sampler's, checked to 1e-5).
Its tail of 8 belongs to windows of 8,192 tokens: here it is 2 [our choice], and rewards are as the world gives them
where it has -1 and 1. Its choice of prompts to train on, of which the paper's text says nothing, is off:
`rollout.trained=N` takes N responses a step, of prompts with right and wrong answers first. Ablations:
`credit.value.bootstrap=critic`, `credit.target.critic=all`, `credit.gae.ignore=0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Term
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe

WARM_UP = 10  # steps
CRITIC_RATE = 2.5  # times the actor's: 2e-6 over 8e-7


@method(
    "t-ppo",
    family="policy gradient",
    paper="Fan et al. 2025, arXiv 2506.15050",
    line="responses in windows: the actor learns from each, the critic from whole responses",
    baseline="ppo",
    parts=("rollout", "credit", "loss", "learner"),
    claim="up to 2.5 times as efficient in training as synchronous methods on AIME 2024 (32B), with a better score",
    worlds=("text",),
)
def t_ppo(base: Recipe) -> Mapping[str, Any]:
    """A pool, credit within windows, and a term for each of actor and critic; `rollout.window` at the longest answer
    makes it PPO with a Monte-Carlo critic."""
    rate = base.get("terms.policy.optimiser.learning_rate")
    value = Objective(piece(losses.value.bounded_error), reduction="sequence", weight=0.5, where="for_critic")
    return {
        "rollout": piece(rollouts.pool.Pool),
        "credit.value": piece(credit.windows.Values),
        "credit.gae": piece(credit.windows.extended_gae, alpha=0.05, ignore=2),
        "credit.scale": piece(credit.windows.whiten),
        "credit.target": piece(credit.windows.monte_carlo),
        "terms.policy.parameters": "actor",
        "terms.policy.after": WARM_UP,
        "terms.policy.objectives": {
            "policy": Objective(piece(losses.policy.dual_clipped_ratio), where="for_actor"),
            "entropy": Objective(piece(losses.regularise.negative_entropy), weight=0.0, where="for_actor"),
            "praise": Objective(piece(losses.imitation.likelihood), weight=0.0, where="praised"),
        },
        "terms.value": Term(
            objectives={"value": value},
            parameters="critic",
            optimiser=piece(learn.optimisers.adam, learning_rate=CRITIC_RATE * rate),
            schedule=base.get("terms.policy.schedule"),
            epochs=base.get("terms.policy.epochs"),
            minibatches=base.get("terms.policy.minibatches"),
            max_grad_norm=base.get("terms.policy.max_grad_norm"),
        ),
    }
