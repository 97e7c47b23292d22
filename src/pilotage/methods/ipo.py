"""IPO: regression of the margin of pairs on 1/(2β), so that labels that always agree do not drive it to infinity.

    L = mean[ (h - 1/(2β))² ],   h as in DPO

Azar et al. 2023, arXiv 2310.12036, eq. 17, whose τ is β here. Log-probs are sums over an answer's tokens, as in the
paper; TRL averages them since its 0.7.8 (`--set loss.log_prob=mean`), which makes β independent of length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import losses
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "ipo",
    family="preference",
    paper="Azar et al. 2023, arXiv 2310.12036",
    line="squared regression of the margin on a fixed target",
    baseline="dpo",
    parts=("loss",),
    kind="baseline",
    worlds=("text",),
)
def ipo(base: Recipe) -> Mapping[str, Any]:
    """The squared link in place of the logistic one."""
    return {"terms.policy.objectives.policy.loss": piece(losses.preference.squared)}
