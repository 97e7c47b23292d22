"""MMR1: half of each batch drawn by how much the answers to a prompt differ in worth and in wording.

Equal rewards give no policy gradient, and one step improves the more, the larger the variance of the rewards. Prompts
of a pool are scored by fresh answers of the current policy, which are not learnt from, every `every` steps.

    score = α P (1 - P) + β diversity,   P = mean[verdict] of N answers

Leng et al. 2025, arXiv 2509.21268 (variance-aware sampling). Where the released code differs from the report: it adds
self-BLEU itself, which is high where answers are alike (here 1 less it, or distinct 3-grams, the default); it counts
n-grams on padded ids (here without padding); its edit distance is not brought to [0, 1] (here it is, and squared, as in
the appendix). Weights are brought into [0, 1] over the pool as in the code, and not in the report: `sampler.min_max`.
Report, table and configuration disagree on N (32, 16, 8) and on the steps between scores (35, 56, 28, 4): here 8 and
35. The reward is the world's verdict, without their point for the format, and there is no KL penalty, as in `grpo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import samplers
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "mmr1",
    family="curriculum",
    paper="Leng et al. 2025, arXiv 2509.21268",
    line="prompts of a pool drawn by outcome variance and diversity, half of them uniformly",
    baseline="grpo",
    parts=("sampler",),
    claim="beats GRPO on the same prompts (3B, mean of five benchmarks: 52.9 against 51.8), with larger gradients and "
    "faster early progress",
    worlds=("text",),
)
def mmr1(base: Recipe) -> Mapping[str, Any]:
    """One change: the sampler. With `share` 0 it is GRPO on the same pool in one random order."""
    return {"sampler": piece(samplers.promising.Promising)}
