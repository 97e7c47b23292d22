"""Variance-aware sampling (MMR1) against GRPO on the same pool (Leng et al. 2025, arXiv 2509.21268).

The mixture of sums of experiments/sec.py, of which 512 prompts are the pool. Settings are the method's defaults, and
the mixture's those of that file; no others were tried, and the quick version ran on seeds 100 and 101 before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.sec import POINT, SHORT, WORLD, Size, settings
from pilotage import api, samplers
from pilotage.data.piece import piece
from pilotage.run import experiment
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.statistics import Interval, paired_difference
from pilotage.run.wording import Wording

POOL = 512
EQUAL = "train/no_signal"


def arms(quick: bool) -> Mapping[str, Recipe]:
    return of(quick, SHORT)


def of(quick: bool, size: Size) -> dict[str, Recipe]:
    """MMR1 and GRPO on one pool."""
    pool = 32 if quick else POOL
    grpo, mmr1 = (api.recipe(name, WORLD, settings=settings(quick, size)) for name in ("grpo", "mmr1"))
    return {
        "mmr1": api.set_path(mmr1, "sampler.pool", pool),
        "grpo": grpo.vary("mmr1", {"sampler": piece(samplers.uniform.Round, pool=pool)}),
    }


def without_signal(runs: Runs) -> Interval:
    """MMR1 less GRPO: the share of answers in groups whose rewards are all equal, over the whole run, by seed."""
    known = {run.seed: _over(run, EQUAL) for run in runs["grpo"]}
    pairs = [(_over(run, EQUAL), known[run.seed]) for run in runs["mmr1"]]
    return paired_difference([mine for mine, _ in pairs], [theirs for _, theirs in pairs])


def _over(run: RunResult, name: str) -> float:
    return float(run.series(name)[1].mean())


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    accuracy, equal = comparisons["mmr1", "grpo"], without_signal(runs)
    at_tokens = experiment.gap_at_equal_tokens(runs["mmr1"], runs["grpo"])
    shares = {arm: sum(_over(run, EQUAL) for run in side) / len(side) for arm, side in runs.items()}
    say = Wording(accuracy.metric)
    said = (
        f"groups of equal rewards: {100 * shares['mmr1']:.0f} % under MMR1 and {100 * shares['grpo']:.0f} % under GRPO "
        f"(difference {say.change(equal)}); accuracy at equal training roll-outs {say.change(accuracy.difference)}, at "
        f"equal generated tokens, scoring included, {say.change(at_tokens)}"
    )
    if accuracy.kind == "better" and equal.high < 0:
        return Judged("reproduced", said)
    if accuracy.difference.high < POINT or equal.low >= 0:
        return Judged("not reproduced", said)
    return Judged("inconclusive", said)


EXPERIMENT = Experiment(
    name="mmr1",
    claim=(
        "Variance-aware sampling beats uniform sampling of the same prompts (3B: 52.9 against 51.8), since fewer "
        "groups have equal rewards; scoring roll-outs are not counted."
    ),
    criterion=(
        "4 paired seeds, 512 prompts of mixed:sums, one start for all, 120 steps of 32 groups of 8, λ = 0.5, α = 0.8, "
        "β = 0.2, distinct-3, N = 8, scored every 35 steps; sampled accuracy of the last policies on 400 held-out "
        "problems, and the share of answers in groups of equal rewards over the run. Reproduced if MMR1 has fewer of "
        "these (the interval over seeds lies below 0) and is better in accuracy at equal training roll-outs (the "
        "intervals over seeds, and over seeds and items, lie above 0). Not reproduced if the interval of the "
        "difference in accuracy lies below +1 point, or that in groups of equal rewards at or above 0. Otherwise "
        "inconclusive. The difference at equal generated tokens, scoring included, is stated and decides nothing: it "
        "is not claimed."
    ),
    arms=arms,
    pairs=(("mmr1", "grpo"),),
    judge=judge,
    seeds=(0, 1, 2, 3),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
