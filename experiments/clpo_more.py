"""CLPO with the world's rule as the rewriter against GRPO and the filter again, on eight seeds of its own (Zhang et al.
2025).

The first experiment (clpo) tells nothing with three seeds that are judged on 300 sums each, every 50 steps: the
intervals are 10 to 12 points wide, and at equal tokens most of the value is a line between two evaluations. What is
claimed, the problems, the steps and the start are the same.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial

from experiments import clpo, variants
from experiments.common import main

DECIDING = {arm: clpo.ARMS[arm] for arm in ("grpo", "filter", "clpo-rule")}

EXPERIMENT = dataclasses.replace(
    clpo.EXPERIMENT,
    name="clpo.more-seeds",
    criterion=(
        "8 paired seeds not used before (10 to 17), the problems, 150 steps and the start of the experiment clpo, "
        "whose result with 3 seeds was seen before (inconclusive, +3.9 points over GRPO from -2.0 to +9.8, +3.1 over "
        "the filter from -1.7 to +7.9); held-out sampled accuracy on 1,000 problems as they are, every 10 steps, of "
        "the last policies and when the side that generated fewer tokens had generated its last (on a line between "
        "evaluations). The rewriter is the world's rule; `filter` is CLPO without rewrites. Reproduced if CLPO with "
        "the rule is better than GRPO and than the filter at equal steps (the intervals of the differences over seeds, "
        "and over seeds and items, lie above 0) and at equal generated tokens neither interval lies below 0. Else not "
        "reproduced if either interval at equal steps lies below +2 points, far less than is claimed. Otherwise "
        "inconclusive. The filter against GRPO, and long sums (6 or 7 terms) are stated and decide nothing."
    ),
    arms=partial(variants.arms, DECIDING, clpo.PROBLEMS, every=10, tasks=1000),
    pairs=(*clpo.DECIDING, ("filter", "grpo")),
    seeds=tuple(range(10, 18)),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
