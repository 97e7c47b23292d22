"""DDPO: PPO's clipped ratio over denoising steps, with returns normalised by what the same prompt earned lately.

    L = -mean min(ρ_t A, clip(ρ_t, 1±0.2) A),   ρ_t = π(x_{t-1}|x_t, c) / behaviour,   A = (R - mean_c) / (std_c + 1e-6)

Black et al. 2023, arXiv 2305.13301 (DDPO with importance sampling); kvablack/ddpo-pytorch. Each prompt is drawn once.
mean_c and std_c (population) are over the prompt's last 32 returns, or over the batch while it has fewer than 16; A is
clamped to ±5. Released code takes the mean of the log-density over a picture's entries and clips at 1e-4, which suits
16,384 entries; here, with 64, it is the sum and 0.2. `--set policy.logp=mean --set low=1e-4 --set high=1e-4` is the
released setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "ddpo",
    family="diffusion alignment",
    paper="Black et al. 2023, arXiv 2305.13301",
    line="clipped ratio over denoising steps, returns normalised by prompt",
    baseline="reinforce",
    parts=("credit", "loss"),
    kind="baseline",
    worlds=("denoise",),
)
def ddpo(base: Recipe) -> Mapping[str, Any]:
    """The clipped ratio in four optimiser steps, running statistics of each prompt, and one picture a prompt."""
    return {
        "credit.advantage": piece(credit.tracked.PerPrompt),
        "terms.policy.objectives.policy": Objective(piece(losses.policy.clipped_ratio)),
        "terms.policy.minibatches": 4,
        "prompts_per_step": base.prompts_per_step * base.samples_per_prompt,
        "samples_per_prompt": 1,
    }
