"""Iterated IPO: rounds on fresh answers, the margin over the round's policy regressed on 1/(2β).

    L = mean[ (h_t - 1/(2β))² ],   h_t as in iterated DPO

With i.i.d. pairs labelled by an oracle this is mirror descent in the preference game without its regulariser, `inpo`
with τ = 0. Azar et al. 2023, arXiv 2310.12036, taken in rounds as by Calandriello et al. 2024, arXiv 2403.08635.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import losses
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "iterated-ipo",
    family="preference",
    paper="Azar et al. 2023, arXiv 2310.12036; Calandriello et al. 2024, arXiv 2403.08635",
    line="IPO in rounds on fresh answers, anchored to the policy that gave them",
    baseline="iterated-dpo",
    parts=("loss",),
    kind="baseline",
    worlds=("text",),
)
def iterated_ipo(base: Recipe) -> Mapping[str, Any]:
    """The squared link in place of the logistic one; β as INPO's η."""
    loss = piece(losses.preference.squared, beta=0.3, reference=0.0, previous=1.0)
    return {"terms.policy.objectives.policy.loss": loss}
