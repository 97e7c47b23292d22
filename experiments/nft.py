"""NFT against RFT, GRPO and DAPO at equal samples (Chen et al. 2025, arXiv 2505.18116)."""

from __future__ import annotations

import sys
from functools import partial

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import POINT, defaults, points

MARGIN = 3 * POINT  # what still counts as on par
PAIRS = (("nft", "rft"), ("nft", "grpo"), ("nft", "dapo"))


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    said = "; ".join(points(comparisons, pair) for pair in PAIRS)
    over_rft, *others = (comparisons[pair] for pair in PAIRS)
    on_par = [found.difference.low > -MARGIN for found in others]
    below = [found.difference.high < -MARGIN for found in others]
    return Judged.by(over_rft.kind == "better" and all(on_par), over_rft.difference.high <= 0 or any(below), said)


EXPERIMENT = Experiment(
    name="nft",
    claim="NFT beats RFT, and is on par with or better than GRPO and DAPO (7B: 51.7 against 48.3, 49.5, 51.2).",
    criterion=(
        "5 paired seeds, chain_sum, default sizes, 300 steps, equal samples; held-out sampled accuracy of the last "
        "policies. Reproduced if NFT is better than RFT (the interval of the difference over seeds, and that over "
        "seeds and items, lie above 0) and the intervals of NFT minus GRPO and of NFT minus DAPO lie above -3 points. "
        "Not reproduced if the interval of NFT minus RFT does not reach above 0, or one of the others lies below -3 "
        "points. Otherwise inconclusive."
    ),
    arms=partial(defaults, ("nft", "rft", "grpo", "dapo")),
    pairs=PAIRS,
    judge=judge,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
