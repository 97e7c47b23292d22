"""RFT: fine-tune on one's own right answers only (rejection sampling).

    L = -Σ_d w_q r log π(a_d | s_d),   r the verdict in [0, 1]

Known as RFT, RAFT, STaR's inner step; as arm of NFT (Chen et al. 2025, arXiv 2505.18116) it is NFT with
negative_weight 0. Groups without a signal are left out, and prompts weighted by their failure rate, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.methods.roots import speaks
from pilotage.run.recipe import Recipe


@method(
    "rft",
    family="likelihood",
    paper="Yuan et al. 2023, arXiv 2308.01825",
    line="maximum likelihood on one's own verified answers",
    baseline="grpo",
    parts=("credit", "loss", "reduction"),
    kind="baseline",
)
def rft(base: Recipe) -> Mapping[str, Any]:
    """Labels in place of advantages; likelihood in place of the ratio."""
    return {
        "credit.advantage": None,
        "credit.filter": piece(credit.groups.drop_without_signal),
        "credit.labels": piece(credit.groups.labels, scale="unit" if speaks(base) else "rank", weight="failure"),
        "terms.policy.objectives.policy": Objective(
            piece(losses.imitation.labelled_likelihood), reduction="constant(64)"
        ),
    }
