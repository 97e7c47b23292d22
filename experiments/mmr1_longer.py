"""MMR1 against GRPO again: three times as long, on twice as many seeds and more held-out problems.

The first experiment (experiments/mmr1.py: 120 steps, seeds 0 to 3, 400 problems) was seen before this one was written
and could not tell: MMR1 minus GRPO was -0.1 points (-3.9 to 3.6). Settings and criterion are those of that file; the
seeds are ones that nobody has looked at. The first one also showed that the diversity term flattens the weights, so one
arm is without it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from experiments import mmr1
from experiments.common import Comparisons, Judged, Runs, main
from experiments.sec_longer import LONG
from pilotage import api
from pilotage.run.recipe import Recipe
from pilotage.run.wording import Wording

OUTCOMES = "outcomes-alone"


def arms(quick: bool) -> Mapping[str, Recipe]:
    found = mmr1.of(quick, LONG)
    return {**found, OUTCOMES: api.set_path(found["mmr1"], "sampler.diversity", 0.0)}


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    """As without the third arm, whose differences from GRPO are added to what is said."""
    found, alone = mmr1.judge(runs, comparisons), comparisons[OUTCOMES, "grpo"]
    say, equal = Wording(alone.metric), mmr1.without_signal(runs, OUTCOMES)
    return replace(
        found,
        because=f"{found.because}; without diversity: groups of equal rewards {say.change(equal)}, accuracy at equal "
        f"training roll-outs {say.change(alone.difference)}",
    )


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
        "inconclusive. The difference at equal generated tokens, scoring included (evaluations every 90 steps), and "
        "those of an arm without the diversity term (β = 0, on seeds 10 to 13) from GRPO are stated and decide nothing."
    ),
    arms=arms,
    pairs=(("mmr1", "grpo"), (OUTCOMES, "grpo")),
    judge=judge,
    seeds=tuple(range(10, 18)),
    fewer={OUTCOMES: (10, 11, 12, 13)},
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
