"""Thompson sampling: each action is chosen as often as it is believed to be the best.

    π(a|x) = P(θ̃_a·x = max_b θ̃_b·x),    θ̃_b ~ N(θ_b, α² A_b⁻¹),    A_b = λ I + Σ x xᵀ

Agrawal & Goyal 2013, arXiv 1209.3352, with disjoint models and in batches. Usual implementations draw θ̃ and take the
best; here the probabilities are added up on a grid and the action is drawn from them: the same policy, whose
propensities are then on record exactly and not as Monte-Carlo estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "thompson",
    family="bandit",
    paper="Agrawal & Goyal 2013, arXiv 1209.3352",
    line="actions as often as they are believed to be the best",
    baseline="linucb",
    parts=("policy",),
    kind="baseline",
    worlds=("bandit",),
)
def thompson(base: Recipe) -> Mapping[str, Any]:
    """Probability matching in place of the bonus."""
    return {"policy.explore": "probability-matching"}
