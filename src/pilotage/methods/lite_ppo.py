"""Lite PPO: subtract the group's mean, divide by the whole batch's deviation, average over tokens; nothing else.

    A = (r - mean of its group) / (std of all raw rewards of the step + 1e-6)

Liu et al. 2025, arXiv 2508.08221 ("Tricks or traps?"). The deviation is the sample deviation of the raw rewards, not
of the centred ones; no KL, no asymmetric clip, no filter, no further whitening. ROLL's page for this recipe lists
defaults that are not Lite PPO (GAE, whitening, KL): the paper is followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "lite-ppo",
    family="policy gradient",
    paper="Liu et al. 2025, arXiv 2508.08221",
    line="group mean, batch deviation, token mean, and nothing else",
    baseline="grpo",
    parts=("credit", "reduction"),
    claim="beats GRPO and DAPO on non-aligned models (Qwen3-8B, easy: 62.17 against DAPO's 60.66)",
    worlds=ALL_PLAYED,
)
def lite_ppo(base: Recipe) -> Mapping[str, Any]:
    """Two changes; with std "group" and the sequence mean it is GRPO to the bit."""
    return {"credit.advantage.std": "batch", "terms.policy.objectives.policy.reduction": "token"}
