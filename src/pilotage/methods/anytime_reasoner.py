"""AnytimeReasoner (BRPO): thinking stopped at several budgets, each stretch credited with the answers after it.

    R[s] = sum_{t ≥ s} P_t c[t],   A[s] = R[s] - (s V1[s] + (S - s) V2[s]) / S

c[t] is the mean score of the answers after the first b_t tokens of a thought, P the prior over budgets, V1 the mean of
the thought's own earlier scores (one step back counts half) times the prior mass left, V2 the group's mean of R[s].
Answers have an advantage of their own: the score less that of the others after the same thinking. Neither is divided by
a deviation. Qi et al. 2025, arXiv 2505.13438; code: sail-sg/AnytimeReasoner.

What is injected (the marker that ends thinking) has no loss. The released code packs all answers of a thought into one
sequence under a tree mask; here each is an episode whose prefix is not trained, the thinking is trained in one of them
only, and episodes that begin alike are read once up to where they part: the log-probs are the same. Its scripts pass
`adv_estimator` and a KL coefficient that have no effect. The constant denominator counts episodes, where theirs counts
packed thoughts: about S times A times as many, which Adam undoes. Budgets are fixed, as in the released code; the paper
speaks of sampling them (`--set rollout.drawn=true`). `--set credit.advantage.prior=linear` or `base` (all on the last
budget); `credit.advantage.baseline` is `group`, `own` or `none` for the code's v2only, v1only and none;
`credit.advantage.answers=last` trains the last answers only. Minibatches are made of whole groups, so that a thought
and its answers are read together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, rollouts
from pilotage.data.piece import Piece, piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "anytime-reasoner",
    family="policy gradient",
    paper="Qi et al. 2025, arXiv 2505.13438",
    line="answers forced at several budgets of thinking, and credit by budget",
    baseline="dr-grpo",
    parts=("rollout", "credit"),
    claim=(
        "more accurate than GRPO at every budget (1.5B, mean of five benchmarks: 34 against 29 at 1,000 tokens, 52.5 "
        "against 50.7 at 8,000)"
    ),
    worlds=("text",),
)
def anytime_reasoner(base: Recipe) -> Mapping[str, Any]:
    """Forced cuts and their credit; with one budget, all of a message, and one answer it is Dr.GRPO to the bit."""
    return {
        "rollout": piece(rollouts.budgets.Budgets),
        "credit.advantage": piece(credit.cuts.BudgetRelative),
        "terms.policy.unit": "group",
        "evaluation.measures.budgets": Piece("pilotage.run.budgets:AccuracyByBudget"),
    }
