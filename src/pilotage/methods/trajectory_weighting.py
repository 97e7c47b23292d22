"""Trajectory weighting (AW, RW): draw logged decisions by how well their whole episode went; leave the method alone.

    p(decision of episode i) = exp(Ā_i / α) / Σ_j T_j exp(Ā_j / α),   A_i = G_i - V̂(s0_i),   Ā = min-max of A in [0, 1]

Hong et al. 2023, arXiv 2306.13085 ("Harnessing mixed offline reinforcement learning datasets via trajectory
weighting"). G is the undiscounted return and V̂ a linear fit on the first observation (AW); with `score=return` A is G
itself (RW). α is 0.1, as released for IQL and TD3+BC; released CQL runs use 0.2 (credit.draw_weight.temperature=0.2).
What the paper compares with, the best tenth, is `--set credit.draw_weight=pilotage.credit.trajectories:top_share`.

It stacks on every offline method: `trajectory-weighting+iql`. A run logs `data/effective_decisions`, 1 / Σ p², and
`data/positive_variance`, E[max(G - E G, 0)²], with which the paper expects the gain to grow.

Where released code differs: three codes for RW exist, of which two are wrong (softmax before min-max, so that weights
do not sum to 1 and the worst episode is never drawn; or a normalised array that nothing reads): here min-max comes
first, as the implicit_q_learning folder has it. None computes the positive-sided variance. Equal scores give uniform
weights, and a ridge penalty enters where several numbers are observed and there are fewer episodes than five times as
many: our choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "trajectory-weighting",
    family="offline control",
    paper="Hong et al. 2023, arXiv 2306.13085",
    line="logged decisions drawn by a softmax of their episode's advantage over its start",
    baseline="bc",
    parts=("credit",),
    claim="mean of 73 D4RL sets: CQL 42.9 to 62.8, IQL 58.0 to 65.9, TD3+BC 41.0 to 56.6 (normalised scores)",
    worlds=("box",),
)
def trajectory_weighting(base: Recipe) -> Mapping[str, Any]:
    """One link on the record; with an infinite temperature it is the baseline to the bit."""
    return {"credit.draw_weight": piece(credit.trajectories.softmax_weight, score="advantage", temperature=0.1)}
