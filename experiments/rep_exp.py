"""RepExp, picking from pools and training (Tuyls et al. 2025, arXiv 2510.11686).

A: a character model that answers one sum in seven rightly, and is not trained, answers each of 60 held-out sums 256
times; picks are made by novelty and verified in that order. B: the same model trained by GRPO and with the bonus.
Tried on seed 100 only: temperatures 1, 0.6 and 0.4 of the pools (at 1 novel answers are mostly incoherent, and picking
them is worse than chance), λ = 0.01 and 10 in training, both with 200 steps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments import language
from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import POINT, in_points
from pilotage.data.piece import piece
from pilotage.run import experiment
from pilotage.run.pools import Pools
from pilotage.run.recipe import Recipe
from pilotage.run.statistics import mean_interval
from pilotage.run.wording import signed

LARGE, POOLS = "pools/pass@64", "evaluation.measures.pools"


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "world.settings.max_digits": 2,
        "world.settings.max_terms": 4,
        "evaluation.every": 0,
        "evaluation.tasks": 50 if quick else 300,
        "steps": 5 if quick else 200,
        **({"start.steps": 300} if quick else {}),  # fewer leave hardly a right answer in the pools
    }
    tasks, samples = (12, 64) if quick else (60, 128)
    trained = piece(Pools, tasks=tasks, samples=samples)
    wanted: dict[str, tuple[str, Mapping[str, object]]] = {
        "grpo": ("grpo", {POOLS: trained}),
        "rep-exp": ("rep-exp", {POOLS: trained}),
    }
    for label, temperature in (("start", 0.5), ("start-at-1", 1.0)):
        larger = trained.having(samples=2 * samples, temperature=temperature)
        wanted[label] = ("grpo", {"steps": 0, POOLS: larger})
    return language.arms(wanted, settings)


def times(runs: Runs, arm: str, part: str, other: str) -> str:
    """How many times more answers are verified in another order than by novelty, in the mean over seeds."""
    ends = [[experiment.end(run, f"pools/{part}_{how}") for run in runs[arm]] for how in (other, "novel")]
    return f"{sum(ends[0]) / sum(ends[1]):.2f}"


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    saved = {
        how: mean_interval(
            [
                experiment.end(run, f"pools/hard_{how}") - experiment.end(run, "pools/hard_novel")
                for run in runs["start"]
            ]
        )
        for how in ("random", "last")
    }
    large = experiment.gap(runs["rep-exp"], runs["grpo"], LARGE)
    small = comparisons["rep-exp", "grpo"].difference
    fall = {arm: experiment.rise(runs[arm], LARGE) for arm in ("grpo", "rep-exp")}
    said = "; ".join(
        (
            f"A, hard third: {signed(saved['random'], 1, ' answers')} fewer than in random order, "
            f"{signed(saved['last'], 1)} than by the last token's state",
            f"answers in random order for each by novelty: hard third {times(runs, 'start', 'hard', 'random')}, middle "
            f"{times(runs, 'start', 'middle', 'random')}, easy {times(runs, 'start', 'easy', 'random')}; hard third "
            f"with equal texts taken once {times(runs, 'start', 'hard', 'distinct')}, at temperature 1 "
            f"{times(runs, 'start-at-1', 'hard', 'random')}",
            f"B: RepExp minus GRPO, pass@64 {in_points(large)}, accuracy {in_points(small)}",
            f"pass@64 moved by {in_points(fall['grpo'])} under GRPO and by {in_points(fall['rep-exp'])} under RepExp",
        )
    )
    picks = all(one.low > 0 for one in saved.values())
    no_picks = any(one.high < 0 for one in saved.values())
    return Judged.by(picks and large.low > 0, no_picks or large.high < 2 * POINT, said)


EXPERIMENT = Experiment(
    name="rep-exp",
    claim=(
        "Picking novel answers needs over 50 % fewer verifications than chance (14B; 3 to 6 times on MATH, 7B), hard "
        "problems gaining most and the last token's state less than half as much; training with the bonus keeps pass@k "
        "up where GRPO's falls (AIME 2024: pass@80 equals GRPO's pass@256)."
    ),
    criterion=(
        "3 paired seeds, chain_sum of 3 or 4 numbers up to 99, one start of 11 to 15 % accuracy. A: pools of 256 at "
        "temperature 0.5, 60 held-out sums. B: 200 steps, pass@64 from 128 samples at temperature 1 on 60 held-out "
        "sums, the last policies. Reproduced if on the hard third of the sums fewer answers are verified by novelty "
        "than in random order and than by the last token's state (both intervals above 0), and RepExp's pass@64 is "
        "above GRPO's (the interval of the difference above 0). Not reproduced if more answers are verified on the "
        "hard third than in one of the other orders (an interval below 0), or the interval of the difference in "
        "pass@64 lies below +2 points. Otherwise inconclusive. The other thirds, equal texts taken once, pools at "
        "temperature 1 and accuracies are stated and decide nothing. No arm generates more than another for a step."
    ),
    arms=arms,
    pairs=(("rep-exp", "grpo"),),
    judge=judge,
    seeds=(0, 1, 2),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
