"""LOOP: PPO's clipped ratio over denoising steps, with RLOO's leave-one-out baseline over several pictures a prompt.

    L = -mean min(ρ_t A, clip(ρ_t, 1±0.2) A),   A_i = R_i - (1/(K-1)) Σ_{j ≠ i} R_j,   K = 4

Gupta et al. 2025, arXiv 2503.00897. It is RLOO that may use its samples more than once, and DDPO without running
statistics: no deviation, no clamp, no KL. Reward comes at the end, and every step of a chain gets its advantage. Loss
and credit are those of language. As in DDPO, four optimiser steps a batch, and denoising steps are shuffled into
minibatches independently of each other. Log-densities are summed over a picture's 64 entries and clipped at 0.2, where
DDPO's released code takes the mean over 16,384 and 1e-4 (`policy.logp=mean`). No code of the authors' is known; where
the paper's abstract leaves a setting open, it is DDPO's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "loop",
    family="diffusion alignment",
    paper="Gupta et al. 2025, arXiv 2503.00897",
    line="leave-one-out baseline and clipped ratio over denoising steps",
    baseline="rloo",
    parts=("loss",),
    claim="improves several black-box objectives over PPO and REINFORCE, more so with more samples a prompt",
    worlds=("denoise",),
)
def loop(base: Recipe) -> Mapping[str, Any]:
    """Two changes; without clipping and with one optimiser step a batch it is RLOO to the bit."""
    return {
        "terms.policy.objectives.policy": Objective(piece(losses.policy.clipped_ratio)),
        "terms.policy.minibatches": 4,
    }
