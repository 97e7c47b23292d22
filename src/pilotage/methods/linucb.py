"""LinUCB: the action whose predicted reward, plus what it might be more, is the largest.

    a = argmax_b  x·θ_b + α sqrt(xᵀ A_b⁻¹ x),    A_b = λ I + Σ x xᵀ,  θ_b = A_b⁻¹ Σ r x

Li et al. 2010, arXiv 1003.0146, algorithm 1 (disjoint models), in batches: A and θ stand still within a step, so that
steps are ten times smaller than its baseline's, and as many more. All rounds are remembered. The choice is certain:
its logs say nothing about what other policies would earn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "linucb",
    family="bandit",
    paper="Li et al. 2010, arXiv 1003.0146",
    line="linear predictions plus an upper confidence bonus",
    baseline="epsilon-greedy",
    parts=("policy", "learner"),
    kind="baseline",
    worlds=("bandit",),
)
def linucb(base: Recipe) -> Mapping[str, Any]:
    """A linear oracle that knows its uncertainty and goes on learning from every round, in small steps."""
    return {
        "policy.explore": "upper-confidence",
        "policy.scorer": "linear",
        "learner.accumulate": True,
        "prompts_per_step": 100,
        "steps": 300,
        "evaluation.every": 50,
    }
