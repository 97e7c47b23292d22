"""CLPO: a step's own answers say which problems are hard; the policy rewrites those, and learns from both.

    hard: acc ≤ 0.3, medium: acc ≤ 0.7;  D = {q, q' : 0 < acc < 1};
    L = mean over D's tokens of [-min(ρA, clip(ρ, 1±0.2) A)] + β mean[s (e^d - d - 1)],  d = log π_start - log π

with β = 0.001, and s = 0.5 for hard problems and their rewrites, 1 for others: those may move further from the start.
Zhang et al. 2025, arXiv 2509.25004, version 1 (the second is another method, which trains the rewriting too). Hard ones
are to be put simpler, medium ones differently, answers kept; a rewrite's answers are a group of its own. At negative
advantages the loss is bounded by 3 |A|, as verl does. Where the released code differs: it takes a group's first answer
by place after rows were reordered, so some problems are rewritten several times and others never (here by group); the
temperature and length that it sets for rewriting do not arrive (here 0.7 and 400 tokens hold); it does not look whether
a rewrite gives the answer away (here such ones are not played, nor those that are held out); the label behind s is that
of the mixed batch (here of the first answers); its rewrites are asked without the chat template (here as problems are).
Its order of samples, and cutting to a multiple of the workers, do not matter here.
`--set rollout.rewriter=rule` has the world rewrite, where it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "clpo",
    family="policy gradient",
    paper="Zhang et al. 2025, arXiv 2509.25004",
    line="hard and medium problems are rewritten by the policy, and held less near the start",
    baseline="grpo",
    parts=("rollout", "credit", "loss", "reduction", "regulariser"),
    claim="73.7 on eight benchmarks against GRPO's 62.0 and DAPO's 64.5 (Qwen3-8B)",
    worlds=("text",),
    forms={"simplify": 0.1, "diversify": 0.1},
)
def clpo(base: Recipe) -> Mapping[str, Any]:
    """Rewrites off, nothing filtered, no KL, unbounded, and the mean over sequences: GRPO to the bit."""
    return {
        "rollout": piece(rollouts.rewrites.Rewritten),
        "credit.filter": piece(credit.difficulty.keep_learnable),
        "credit.reference": piece(credit.reference.Reference),
        "credit.kl_scale": piece(credit.difficulty.kl_scale),
        "terms.policy.objectives.policy.loss": piece(losses.policy.dual_clipped_ratio, high=0.2, dual=3.0),
        "terms.policy.objectives.policy.reduction": "token",
        "terms.policy.objectives.kl": Objective(
            piece(losses.regularise.reference_divergence), reduction="token", weight=0.001, by="kl_scale"
        ),
    }
