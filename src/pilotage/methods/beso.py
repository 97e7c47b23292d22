"""BESO: goal-conditioned imitation of play by a score model over continuous noise levels; 3 denoising steps act.

    L = mean of (F_θ(c_in x, s, g, σ) - (a - c_skip x) / c_out)²,  x = a + σ ε,  log σ logistic around log σ_d
    D_λ = D(x; s, ∅, σ) + λ (D(x; s, g, σ) - D(x; s, ∅, σ))

Reuss et al. 2023, arXiv 2304.02532. Against goal-conditioned cloning only loss and policy differ: denoising over σ with
EDM's preconditioning, one σ for all actions of a window, and sampling by any solver in any number of steps. `guidance`
is λ. C-BESO is `drawn.drop_goals.share=0` (then λ = 1, the default, is all there is); the classifier-free form drops
goals for a share of 0.1 and may take λ other than 1. An average of the weights acts.

Where released code differs, and is not followed: it drops each number of a goal by itself, so that "no goal" is hardly
ever seen in training (here whole goals); goals near an episode's end become zeros, which also mean "no goal" (here the
last observation); at test time past actions enter the window clean under the label of noise σ, and only the last action
of the window is executed (here the past is denoised along from fresh noise, as in training, and a window may look
ahead; `policy.past` has the released way, and that of noising past actions again).
Its attention dropout and its decay of the rate by 0.99 every 100 updates are left out (a cosine in its place). Goals
here are places, where the paper takes whole states; steps are spaced geometrically (the paper's evaluation: linearly).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Target
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "beso",
    family="diffusion",
    paper="Reuss et al. 2023, arXiv 2304.02532",
    line="a score model over continuous noise levels, goal-conditioned, sampled in 3 steps",
    baseline="gcbc",
    parts=("credit", "loss", "policy", "learner"),
    claim="3 denoising steps suffice where other diffusion policies take 30 or more, above other goal-conditioned "
    "imitation (C-BESO: Block-Push about 0.94 of 1, Kitchen about 3.77 of 4)",
    policy="edm-planner",
    worlds=("goals",),
)
def beso(base: Recipe) -> Mapping[str, Any]:
    """Noise as windows are drawn, goals left out for some, the denoising error, and an average of the weights."""
    return {
        "drawn.noised": piece(credit.noised.noised),
        "drawn.drop_goals": piece(credit.plans.drop_goals, share=0.1),
        "terms.actor.objectives.imitation": Objective(piece(losses.denoise.denoising_error)),
        "terms.actor.schedule": piece(learn.schedules.cosine, final=0.02),
        "targets": {"average": Target("actor", rate=1e-3, warm=True)},
        "evaluation.policy": "average",
    }
