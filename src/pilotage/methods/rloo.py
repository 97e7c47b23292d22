"""RLOO: REINFORCE with the mean return of the group's other members as baseline.

    A_i = R_i - (1/(K-1)) Σ_{j ≠ i} R_j

Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740. Every decision of an episode gets the episode's advantage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import piece
from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "rloo",
    family="policy gradient",
    paper="Ahmadian et al. 2024, arXiv 2402.14740",
    line="leave-one-out baseline over a group of samples",
    baseline="reinforce",
    parts=("credit",),
    kind="baseline",
    worlds=ALL_PLAYED,
)
def rloo(base: Recipe) -> Mapping[str, Any]:
    """Replaces returns by leave-one-out advantages."""
    return {"credit.advantage": piece(credit.groups.leave_one_out)}
