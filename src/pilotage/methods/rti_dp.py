"""RTI-DP: each plan begins with the last one, shifted by the action executed, and takes only the last denoising steps.

    G = [A[1], …, A[T-1], A[T-1]],   A = G;   for k in S:  x̂ = clip((A - √(1 - ᾱ_k) ε_θ(A, k, o)) / √ᾱ_k, -1, 1)
    A = [√ᾱ_{k-1} β_k x̂ + √α_k (1 - ᾱ_{k-1}) A] / (1 - ᾱ_k) + √β̃_k z   (z = 0 at k = 0)

Duan et al. 2025, arXiv 2508.05396 (real-time iteration, as in model-predictive control). Inference only: it is trained
as a diffusion policy is, or starts from one (`start`, and 0 steps). One action is executed of each plan, so that the
loop is closed; the first plan of an episode takes all levels. The guess is not noised up to the first level of S, and a
gap in S only relabels the level. `policy.warm` is S; none of it, and `policy.execute` as the baseline's, is the
baseline. Levels in S mean what they mean among `policy.levels`; the paper's are of 100.

Grippers are declared in `policy.discrete`: `policy.rule=clip` holds the guess at sign / factor, for a network trained
as usual; `scale` divides the data, for one trained so. Factors in released configurations (1 and 10) follow no rule.

Where released code differs, and is not followed: only the first episode of a process has a first plan, so that later
ones begin with a plan of another episode (here each lane has a memory, emptied at reset); grippers are told by the
width of actions; its two branches differ in whether "scale" also clips the guess (here it does not).
The printed contraction constant is at least 1 at every level, so the Lipschitz argument alone shows nothing; what
contracts is a posterior concentrated at one plan, by √α_k (1 - ᾱ_{k-1}) / (1 - ᾱ_k).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "rti-dp",
    family="diffusion",
    paper="Duan et al. 2025, arXiv 2508.05396",
    line="plans that begin with the last one, shifted, and take its last few denoising steps",
    baseline="diffusion-policy",
    parts=("policy",),
    claim="a large cut of inference time at success comparable with the full diffusion policy, about 3 denoising steps "
    "in place of 100 (Robomimic, Push-T, Block-Push; tables not read)",
    policy="realtime-planner",
    worlds=("box",),
)
def rti_dp(base: Recipe) -> Mapping[str, Any]:
    """Three low levels for every plan but an episode's first, and one action of each plan."""
    return {"policy.warm": (2, 1, 0), "policy.execute": 1}
