"""Iterated DPO: each step of the loop is a round, in which the policy answers anew and is held to itself as it was.

    L = -mean[ log σ(β h_t) ],   h_t = log π(w)/π_t(w) - log π(l)/π_t(l),   w, l answers of π_t

The anchor is the policy of the round, as in Yuan et al. 2024 (arXiv 2401.10020) and Pang et al. 2024 (2404.19733);
Dong et al. 2024 (arXiv 2405.07863) hold all rounds to the start: `--set loss.reference=1 --set loss.previous=0`. The
optimiser goes on from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import rollouts
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "iterated-dpo",
    family="preference",
    paper="Yuan et al. 2024, arXiv 2401.10020; Dong et al. 2024, arXiv 2405.07863",
    line="DPO in rounds on fresh answers, anchored to the policy that gave them",
    baseline="dpo",
    parts=("rollout", "loss", "learner"),
    kind="baseline",
    worlds=("text",),
)
def iterated_dpo(base: Recipe) -> Mapping[str, Any]:
    """Fresh answers each step, several passes over them, the anchor moved."""
    return {
        "rollout": piece(rollouts.messages.Messages),
        "terms.policy.objectives.policy.loss.reference": 0.0,
        "terms.policy.objectives.policy.loss.previous": 1.0,
        "terms.policy.epochs": 2,
        "terms.policy.minibatches": 4,
    }
