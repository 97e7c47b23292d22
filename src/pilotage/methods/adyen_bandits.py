"""Regression oracles at Adyen: inverse-gap weighting turns predicted rewards into exploration probabilities.

    π(a|x) = 1 / (K + γ (f(x, b) - f(x, a)))  for a ≠ b = argmax f;    π(b|x) = 1 - the rest;    γ = 10 sqrt(n)

"Contextual Bandits in Payment Processing" (2024), arXiv 2412.00569; the rule is SquareCB (Foster & Rakhlin 2020, arXiv
2002.04926). Training stays plain empirical risk minimisation on a short window of the policy's own logs, without
importance weights; actions that are hardly better are explored most. The paper also reports that later generations can
be worse: `pilotage.run.ope.oscillation` measures it, and `held_out/…` in the log judges each generation's model on
uniformly explored rounds.

No code of the paper is known, and it gives no γ: scale 10 and exponent 0.5 are Vowpal Wabbit's defaults. Chosen here: n
counts the rounds that the model in place was fitted to, so that nothing of a generation depends on those before its
window; γ is constant between fits; K is the size of each round's own action set; ties of the best go to the first. The
floor mixes in a uniform share (Vowpal Wabbit projects instead: max(p - τ, ε / K)), and every action goes without an
importance weight (Vowpal Wabbit 9.11.9 leaves one on the last action of the list). Without any round seen γ is 0, and
the first generation uniform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "adyen-bandits",
    family="bandit",
    paper="Contextual Bandits in Payment Processing 2024, arXiv 2412.00569",
    line="inverse-gap weighting of a reward predictor, retrained on a short window",
    baseline="epsilon-greedy",
    parts=("policy",),
    claim="regression oracles beat uniform exploration, though later generations can be worse than earlier ones",
    worlds=("bandit",),
)
def adyen_bandits(base: Recipe) -> Mapping[str, Any]:
    """Another rule around the same oracle and memory."""
    return {"policy.explore": "inverse-gap"}
