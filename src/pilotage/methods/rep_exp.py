"""RepExp: a bonus for answers whose hidden states are novel within their group, so that training does not only sharpen.

    r = α verdict + β l,   l_i = h_i' (λ I + Σ_j h_j h_j')^-1 h_i,   h = a random projection of the mean hidden state

The elliptical bonus of linear bandits, in the space of the start's last hidden states, averaged over an answer's
tokens, projected to 32 numbers by a sparse random matrix drawn anew each step, and centred by the group's mean;
λ = 0.01, β = 0.01. Groups without a right answer get none. Tuyls et al. 2025, arXiv 2510.11686.

The released configuration's defaults are leave-one-out, 512 numbers and β = 1; the recipe's command line overrides all
three, and is followed. Where a group's verdicts are all 1, GRPO's deviation brings the bonus to unit scale, whatever β
is: so it is in the released code, which gates all-wrong groups only. Centred features of k answers that are long
against λ have leverages of about (k-1)/k each, and the bonus then only tells near-duplicates apart: `bonus/spread`
shows it, and `--set bonus.ridge=…` on the scale of the features' variance, or a dimension below k, makes it graded. The
paper finds nothing to gain for weak representations (a 0.5B model). Its form on next-token logits is a proof of concept
and is not here. Its other half, picking novel answers from a pool, is `pilotage.run.pools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import Piece, piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "rep-exp",
    family="policy gradient",
    paper="Tuyls et al. 2025, arXiv 2510.11686",
    line="GRPO with a bonus for answers whose hidden states are novel within their group",
    baseline="grpo",
    parts=("credit", "reduction"),
    claim="AIME 2024 pass@80 equals GRPO's pass@256; MATH 4.1 times, GSM8K 13.4 times fewer samples (Qwen2.5-7B)",
    worlds=("text",),
)
def rep_exp(base: Recipe) -> Mapping[str, Any]:
    """A link that shapes rewards, the paper's token mean, and pools of answers judged at evaluations."""
    return {
        "credit.bonus": piece(credit.elliptical.Elliptical),
        "terms.policy.objectives.policy.reduction": "token",
        "evaluation.measures.pools": Piece("pilotage.run.pools:Pools"),
    }
