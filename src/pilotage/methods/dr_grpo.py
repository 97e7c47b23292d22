"""Dr.GRPO: GRPO without its two biases, the group's deviation and the per-length mean.

    A_i = R_i - mean of the group,   L = -(1/(E·L)) Σ_e Σ_d min(ρA, clip(ρ, 1±0.2) A),  L a constant

Liu et al. 2025, arXiv 2503.20783. The constant only scales the loss, which Adam undoes; 64 by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "dr-grpo",
    family="policy gradient",
    paper="Liu et al. 2025, arXiv 2503.20783",
    line="GRPO without deviation and length normalisation",
    baseline="grpo",
    parts=("credit", "reduction"),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def dr_grpo(base: Recipe) -> Mapping[str, Any]:
    """No deviation; a constant denominator."""
    return {"credit.advantage.std": "none", "terms.policy.objectives.policy.reduction": "constant(64)"}
