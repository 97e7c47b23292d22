"""Softmax exploration: actions are drawn in proportion to the exponential of what the oracle predicts.

    π(a|x) = exp(f(x, a) / τ) / Σ_b exp(f(x, b) / τ)

Also called Boltzmann exploration: Sutton & Barto 2018, section 2.8. τ is constant here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "softmax",
    family="bandit",
    paper="Sutton & Barto 2018, section 2.8",
    line="actions in proportion to the exponential of predicted rewards",
    baseline="epsilon-greedy",
    parts=("policy",),
    kind="baseline",
    worlds=("bandit",),
)
def softmax(base: Recipe) -> Mapping[str, Any]:
    """Another rule around the same oracle."""
    return {"policy.explore": "softmax"}
