"""Diffusion policy: a DDPM over chunks of actions given the last observations, of which the first few are executed.

    L = mean over levels k, actions and their dimensions of (ε_θ(√ᾱ_k A + √(1 - ᾱ_k) ε, k, o) - ε)²

Chi et al. 2023, arXiv 2303.04137. A window of decisions is drawn from logged demonstrations; its whole plan is noised
to one level. Acting denoises a plan through all levels and executes `policy.execute` actions from now on before the
next one (receding horizon). Levels follow the squared cosine; predictions are clipped to the range of actions. Released
code pads both ends of an episode by repetition and learns from the padding; here padding is not learnt from, unless
`store.learn_padding` (which teaches a plan to hold still at the end of a demonstration). The network here is a small
perceptron or a causal transformer, not a U-Net over time. An average of the weights acts, as in released code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, data, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "diffusion-policy",
    family="diffusion",
    paper="Chi et al. 2023, arXiv 2303.04137",
    line="chunks of actions denoised over numbered levels, from logged demonstrations",
    baseline="bc",
    parts=("store", "credit", "loss", "policy", "learner"),
    kind="baseline",
    policy="ddpm-planner",
    worlds=("box",),
)
def diffusion_policy(base: Recipe) -> Mapping[str, Any]:
    """Windows in place of decisions, noise as they are drawn, and the denoising error."""
    return {
        "store": windows_for(base),
        "drawn": {"noised": piece(credit.noised.noised)},
        "terms.actor.objectives.imitation": Objective(piece(losses.denoise.denoising_error)),
        "targets": {"average": Target("actor", rate=1e-3, warm=True)},
        "evaluation.policy": "average",
    }


def windows_for(base: Recipe) -> Any:
    """A store like the base's that cuts the windows that the policy plans (of one decision, if it plans none)."""
    held = base.store.defaults()
    span = {name: base.policy.defaults().get(name, 1) for name in ("history", "horizon")}
    shared = ("data", "digest", "decisions_per_batch", "batches_per_step")
    return piece(data.windows.Windows, **{name: held[name] for name in shared}, **span)
