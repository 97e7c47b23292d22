"""GHPO: where a whole group fails, the problem is asked again with a growing beginning of its solution in the prompt.

    q* = q + guidance + pre(h, ω),  ω = 0.25, 0.5, 0.75 until an answer succeeds;
    L as in GRPO, with ρ = π(o | q*) / π_old(o | q*)

Liu et al. 2025, arXiv 2507.10628. pre(h, ω) is the first round(ω |h|) characters of the reference solution, without
any of the answer that stands last in it (our choice: else the task would be one of copying). Which groups fail is found
out anew at each visit, after 20 steps without hints; evaluations never have any. The paper's formula has a KL that its
experiments leave out, as here. Where the released code differs: groups that an earlier stage rescued are trained there
as if they had been asked without a hint once a later stage runs (here an answer keeps the prompt it was given to); the
ratios that one sets are ignored; a format reward of half the weight is added, which worlds here do not have. Its 1e-4
beside the deviation is `--set credit.advantage.eps=1e-4`, its mean over tokens `--set reduction=token`. Groups that
fail with all hints give no gradient. Hints while they are needed: `--set rollout.on=0.5 --set rollout.off=0.3`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import rollouts
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "ghpo",
    family="policy gradient",
    paper="Liu et al. 2025, arXiv 2507.10628",
    line="groups that fail are asked again with a growing beginning of the solution",
    baseline="grpo",
    parts=("rollout",),
    claim="about 5 points above GRPO on six benchmarks (Qwen2.5-7B, NuminaMath-S: 44.2 against 40.9)",
    worlds=("text",),
    forms={"hint": 0.25},
)
def ghpo(base: Recipe) -> Mapping[str, Any]:
    """Only the rollout; without ratios it is GRPO to the bit."""
    return {"rollout": piece(rollouts.hints.Hinted)}
