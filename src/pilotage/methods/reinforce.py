"""REINFORCE: raise the log-probability of each decision by the rewards that follow it.

    L = -(1/N) Σ_d  A_d log π(a_d | s_d),    A_d = Σ_{d' >= d} γ^(d'-d) r_d'

Williams 1992. No baseline, no clipping, one optimiser step per batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import piece
from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "reinforce",
    family="policy gradient",
    paper="Williams 1992",
    line="policy gradient with plain returns",
    baseline=None,
    parts=("credit", "loss"),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def reinforce(base: Recipe) -> Mapping[str, Any]:
    """Returns to go as credit; the root's loss is already the policy gradient."""
    return {"credit.advantage": piece(credit.returns.reward_to_go)}
