"""LSVI-UCB: optimistic value iteration by least squares on features of states and actions.

    Λ_h = I + Σ φφᵀ,   w_h = Λ_h⁻¹ Σ φ (r + max_a f_{h+1}(s', a)),   f_h = clip(φ·w_h + b‖φ‖_{Λ_h⁻¹}, 0, cap_h)

Jin et al. 2020, arXiv 1907.05388. Features are the world's, or one-hot where it has none: then Λ holds UCBVI's counts.
The bonus has UCBVI's form with 1/‖φ‖² for the number of visits, scaled by 0.1 (the paper's factor dH sqrt(log) is far
too large for small problems), and the ridge is 0.1 (theory: 1, which shrinks values over many steps until many visits).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "lsvi-ucb",
    family="tabular",
    paper="Jin et al. 2020, arXiv 1907.05388",
    line="optimistic least-squares value iteration on features",
    baseline="ucbvi",
    parts=("learner",),
    kind="baseline",
    policy="table",
    worlds=("finite",),
)
def lsvi_ucb(base: Recipe) -> Mapping[str, Any]:
    """Gram matrices in place of counts."""
    return {"learner.model": "linear", "learner.ridge": 0.1, "learner.bonus": 0.1}
