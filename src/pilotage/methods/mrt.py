"""MRT: going on thinking is paid for what it brings over stopping now, on top of the outcome.

    A_i = (R_i - mean of the group) / (std of the group + ε) + α (R_i - R_stop)

A prefix of an earlier thought is cut after a random number of its episodes; several messages go on from it, and several
are made to answer at once, whose mean is R_stop. Over a thought these differences telescope to the progress made, so a
policy that earns them has small regret at every budget. Qu et al. 2025, arXiv 2503.07572; code: CMU-AIRe/MRT.

Two descriptions of the baseline exist. The stored README has A = R - R_stop in place of the group's mean
(`--set credit.progress.baseline=term`); the caption of figure 6 normalises over stopped and continued answers together
(`--set credit.progress.baseline=joint --set rollout.answered=true`). The form above keeps both parts and is our choice;
α = 1 is that of the authors' later card. Prefixes and stopped answers come from the policy as it is before the update,
and no gradient passes through either (but for answers in the joint form). Episodes end at a delimiter: the paper's
phrases ("Wait", "Alternatively") suit long texts of large models only. The number of episodes kept is drawn uniformly,
which the paper leaves open.

Two variants. The later online form pays each episode of a whole message for its own progress, in place of one number
after a prefix (`--set rollout=pilotage.rollouts.traces:Traces`); its authors found it weaker. The supervised one
(`mrt-star`) fine-tunes, of its own right messages, on those of the most progress, each cut where the chance of a right
answer is highest. The figure's caption has it that the answer after the cut be right, the card of this method that the
message be: here both. Its traces are sampled anew each step, where the paper samples them once before three epochs.
Left out: warm starts on trees of search, for models without a thinking marker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, rollouts
from pilotage.data.piece import Piece, piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "mrt",
    family="policy gradient",
    paper="Qu et al. 2025, arXiv 2503.07572",
    line="a bonus for what thinking on brings over stopping at a prefix",
    baseline="grpo",
    parts=("rollout", "credit"),
    claim=(
        "more accurate than GRPO (DeepScaleR-1.5B, mean of five benchmarks: 55.9 against 55.0), 1.5 times fewer "
        "tokens and the smallest regret at every budget"
    ),
    worlds=("text",),
)
def mrt(base: Recipe) -> Mapping[str, Any]:
    """Prefixes, stops and a bonus; with α = 0 and empty prefixes it is GRPO to the bit."""
    return {
        "rollout": piece(rollouts.prefixes.Prefixes),
        "credit.progress": piece(credit.cuts.progress),
        "evaluation.measures.regret": Piece("pilotage.run.budgets:Regret"),
    }


@method(
    "mrt-star",
    family="likelihood",
    paper="Qu et al. 2025, arXiv 2503.07572",
    line="maximum likelihood on one's own right answers of most progress, cut where they had it",
    baseline="rft",
    parts=("rollout", "credit"),
    claim="more accurate than fine-tuning on right answers alone (STaR), in fewer tokens",
    worlds=("text",),
)
def mrt_star(base: Recipe) -> Mapping[str, Any]:
    """Cut messages and a choice among them; with no place to stop at it is RFT to the bit."""
    return {
        "rollout": piece(rollouts.traces.Traces, cut=True),
        "credit.progress": piece(credit.cuts.most_progress),
        "evaluation.measures.regret": Piece("pilotage.run.budgets:Regret"),
    }
