"""DAPO: GRPO with clip-higher, token-level averaging and groups without a signal left out.

    L = -(1/N) Σ_d min(ρA, clip(ρ, 1-0.2, 1+0.28) A),  over groups whose returns differ

Yu et al. 2025, arXiv 2503.14476. The paper samples again until the batch is full of groups with a signal; here the
batch is what is left of the step's groups (our choice: equal numbers of samples on both sides of a comparison). The
penalty on overlong answers matters at thousands of tokens and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import piece
from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "dapo",
    family="policy gradient",
    paper="Yu et al. 2025, arXiv 2503.14476",
    line="GRPO with clip-higher, token mean and dynamic filtering",
    baseline="grpo",
    parts=("credit", "loss", "reduction"),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def dapo(base: Recipe) -> Mapping[str, Any]:
    """Three of the paper's four changes; see above for the fourth."""
    return {
        "credit.filter": piece(credit.groups.drop_without_signal),
        "terms.policy.objectives.policy.loss.high": 0.28,
        "terms.policy.objectives.policy.reduction": "token",
    }
