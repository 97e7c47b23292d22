"""REINFORCE++: clipped ratio with the return normalised over the whole batch, no critic and no groups.

    A_i = (R_i - mean of the batch) / (std of the batch + ε),   token mean

Hu 2025, arXiv 2501.03262. The paper's token-level KL penalty in the reward is left out, as for grpo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "reinforce++",
    family="policy gradient",
    paper="Hu 2025, arXiv 2501.03262",
    line="clipped ratio with returns normalised over the batch",
    baseline="grpo",
    parts=("credit", "reduction"),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def reinforce_plus_plus(base: Recipe) -> Mapping[str, Any]:
    """Both scopes the batch; token mean."""
    return {
        "credit.advantage.mean": "batch",
        "credit.advantage.std": "batch",
        "terms.policy.objectives.policy.reduction": "token",
    }
