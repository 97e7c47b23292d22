"""A2PR: TD3+BC that clones the better of the logged action and a model's, and neither where both are below average.

    L_π = -λ mean Q_1(s, u) + mask · mean[ g (u - a*)² ],   u = π(s),   λ as in TD3+BC
    a* = û if Q_1(s, û) ≥ Q_1(s, a) else a,   g = 1[ Q_1(s, û) ≥ V(s) or Q_1(s, a) > V(s) ],   û = model(s, u)
    L_model = mean[ 1[Q_1(s, a) > V(s)] (â - a)² ] + ½ KL,   L_V = (V(s) - min(y, r + γ (1-d) min_i Q_i(s', a')))²

Liu et al. 2024, arXiv 2405.19909; released code ltlhuuu/A2PR. The model is a variational autoencoder that learns to
give back logged actions with an advantage, trained along with everything else. V's term stands last, so that all
others see V as it is before the batch changes it, as released code has it; V's target uses the updated critics and the
same a'.
Switches under `terms.actor.objectives.imitation`: `weight` is mask (0.5, released; tuned to between 0.4 and 1.5 by data
set); `loss.detach_target` (the paper's text takes a* as a constant; released code and this default do not);
`loss.threshold` (ε_A, 0 in released code); `loss.project` and `loss.gate` off, with mask 1, leave TD3+BC. w_vae is the
weight of `terms.model.objectives.reconstruction`. Networks here are as in TD3+BC, two layers of 256 (paper: actor 3,
critics and V 4, model 2 of 750: `policy.hidden`, `policy.model_hidden`). Released code also scales and shifts rewards
for sparse tasks, by nothing unless told, which is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Term
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "a2pr",
    family="offline control",
    paper="Liu et al. 2024, arXiv 2405.19909",
    line="TD3+BC towards the better of logged and modelled action, off where neither is good",
    baseline="td3-bc",
    parts=("credit", "loss", "learner", "regulariser", "policy"),
    claim="best in 16 of 18 D4RL tasks compared, and better than TD3+BC on data mixed with poor actions",
    policy="projected",
    worlds=("box",),
)
def a2pr(base: Recipe) -> Mapping[str, Any]:
    """A model and a state value beside TD3+BC's terms, and another imitation objective."""
    critic, actor = base.terms["critic"], base.terms["actor"]
    cloning = Objective(piece(losses.projection.selected_cloning), weight=0.5)
    model = {
        "reconstruction": Objective(piece(losses.projection.kept_reconstruction)),
        "divergence": Objective(piece(losses.projection.latent_divergence), weight=0.5),
    }
    value = {"error": Objective(piece(losses.value.pessimistic_error))}
    return {
        "drawn.following": piece(credit.bootstrap.following),
        "drawn.latents": piece(credit.bootstrap.latents),
        "terms": {
            "critic": critic,
            "model": Term(
                model, "critic.model", actor.optimiser.having(learning_rate=1e-3), max_grad_norm=actor.max_grad_norm
            ),
            "actor": replace(actor, objectives={**actor.objectives, "imitation": cloning}),
            "value": replace(critic, objectives=value, parameters="critic.value"),
        },
    }
