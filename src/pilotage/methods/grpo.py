"""GRPO: PPO's clipped ratio with the group's mean and deviation in place of a critic.

    A_i = (R_i - mean of the group) / (std of the group + ε),   L = -(1/E) Σ_e (1/|e|) Σ_d min(ρA, clip(ρ, 1±0.2) A)

Shao et al. 2024, arXiv 2402.03300. The paper adds β = 0.04 times an estimate of KL(π || start); most later work leaves
it out and so does this default; `--set kl.weight=0.04 --set credit.reference=pilotage.credit.reference:Reference`
brings it back. Sample deviation (ddof 1), as in released code.
Four optimiser steps a batch, so that the ratio matters: the paper's setting is one, later large-scale runs have 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "grpo",
    family="policy gradient",
    paper="Shao et al. 2024, arXiv 2402.03300",
    line="clipped ratio with group-normalised returns, no critic",
    baseline="reinforce",
    parts=("credit", "loss", "reduction"),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def grpo(base: Recipe) -> Mapping[str, Any]:
    """Group mean and deviation, clipped ratio, every episode the same weight."""
    return {
        "credit.advantage": piece(credit.groups.Relative, mean="group", std="group"),
        "terms.policy.objectives.policy": Objective(piece(losses.policy.clipped_ratio), reduction="sequence"),
        "terms.policy.objectives.kl": Objective(piece(losses.regularise.reference_divergence), weight=0.0),
        "terms.policy.minibatches": 4,
    }
