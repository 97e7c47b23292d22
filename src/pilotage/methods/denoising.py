"""Denoising: a denoiser learns from examples, the start of everything that tunes it by reward.

    L = mean over entries of (ε - ε_θ(√ᾱ_k x + √(1 - ᾱ_k) ε, k, c))²,   k uniform over the levels, ε ~ N(0, I)

Ho et al. 2020, arXiv 2006.11239, with labels left out of a tenth of the examples for classifier-free guidance (Ho &
Salimans 2022, arXiv 2207.12598). Pictures are drawn with replacement; those that the world's judge knows are not among
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, data, learn, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.methods.roots import rate_of
from pilotage.run.recipe import Recipe


@method(
    "denoising",
    family="likelihood",
    paper="Ho et al. 2020, arXiv 2006.11239",
    line="a denoiser learns from the world's examples",
    baseline=None,
    parts=("rollout", "store", "loss"),
    kind="baseline",
    worlds=("denoise",),
)
def denoising(base: Recipe) -> Mapping[str, Any]:
    """A store full of examples in place of play, noise as they are drawn, and a squared error; 3,000 batches."""
    return {
        "rollout": piece(rollouts.idle.Idle),
        "store": piece(data.examples.Examples),
        "drawn": {"noise": piece(credit.noised.noised)},
        "terms.policy.objectives.policy": Objective(piece(losses.denoise.denoising_error)),
        "terms.policy.optimiser.learning_rate": rate_of(base.policy, "imitation_rate"),
        "terms.policy.schedule": piece(learn.schedules.cosine, final=0.05, warmup=0.05),
        "samples_per_prompt": 1,
        "steps": 30,
        "evaluation.every": 10,
    }
