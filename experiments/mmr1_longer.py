"""MMR1 against GRPO again: three times as long, on twice as many seeds and more held-out problems.

The first experiment (experiments/mmr1.py: 120 steps, seeds 0 to 3, 400 problems) was seen before this one was written
and could not tell: MMR1 minus GRPO was -0.1 points (-3.9 to 3.6). Settings and criterion are those of that file; the
seeds are ones that nobody has looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from experiments import mmr1
from experiments.common import main
from experiments.sec_longer import LONG
from pilotage.run.recipe import Recipe


def arms(quick: bool) -> Mapping[str, Recipe]:
    return mmr1.of(quick, LONG)


EXPERIMENT = replace(
    mmr1.EXPERIMENT,
    name="mmr1.longer",
    criterion=(
        "Written when the result of 120 steps on seeds 0 to 3 was known (inconclusive). 8 paired seeds not used before "
        "(10 to 17), 512 prompts of mixed:sums, one start for all, 360 steps of 32 groups of 8, λ = 0.5, α = 0.8, "
        "β = 0.2, distinct-3, N = 8, scored every 35 steps; sampled accuracy of the last policies on 1,000 different "
        "held-out problems, and the share of answers in groups of equal rewards over the run. Reproduced if MMR1 has "
        "fewer of these (the interval over seeds lies below 0) and is better in accuracy at equal training roll-outs "
        "(the intervals over seeds, and over seeds and items, lie above 0). Not reproduced if the interval of the "
        "difference in accuracy lies below +1 point, or that in groups of equal rewards at or above 0. Otherwise "
        "inconclusive. The difference at equal generated tokens, scoring included (evaluations every 90 steps), is "
        "stated and decides nothing: it is not claimed."
    ),
    arms=arms,
    seeds=tuple(range(10, 18)),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
