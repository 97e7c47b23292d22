"""NFT: maximum likelihood on right AND wrong answers of one's own, the wrong ones through an implied negative policy.

The sampling policy is split by Bayes' rule into a right and a wrong part; the network is the right one, and the wrong
one follows by subtraction, so that its likelihood trains the same network.

    L = w [ r (-log R) + (1-r) n (-log max((1 - qR)/(1 - q), 1)) ],  R = π/π_old, q the prompt's success rate, w = 1 - q

Chen et al. 2025, arXiv 2505.18116, eq. 8. The maximum passes gradients straight through: with floor 1 the negative loss
reads 0 wherever R >= 1, and still pulls. Where the released code differs: it recomputes log π_old with the trainer
(here the sampler's are used: they agree to 1e-5, and the run stops if not); it divides sums by 1000 whatever the batch
(here an explicit constant reduction over the optimiser step); labels are in {-1, 1} there and in [0, 1] here; its
sequence-ratio mode fails for two of three weights and lacks the divisor (here both modes share one reduction). Groups
without a signal are dropped rather than resampled, so that arms use equal numbers of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import losses
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "nft",
    family="likelihood",
    paper="Chen et al. 2025, arXiv 2505.18116",
    line="likelihood on right and wrong answers, the wrong ones through an implied negative policy",
    baseline="rft",
    parts=("loss",),
    claim="beats RFT, and is on par with or better than GRPO and DAPO (Qwen2.5-Math-7B: 51.7 against 48.3, 49.5, 51.2)",
)
def nft(base: Recipe) -> Mapping[str, Any]:
    """RFT with a loss that also learns from wrong answers; `negative_weight` 0 is RFT to the bit."""
    return {"terms.policy.objectives.policy.loss": piece(losses.policy.negative_aware_likelihood)}
