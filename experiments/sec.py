"""A curriculum that a bandit makes (SEC) against random order and easy to hard (Chen et al. 2025, arXiv 2505.14970).

Sums of six sizes, two of which the start hardly ever gets right, and a longer one that nobody trains on. Tried on seed
100 only: learning rates of 1e-4, 2e-4 and 5e-4; starts of 600 and 1500 steps with half and three tenths of their
demonstrations wrong; τ of 0.2, and of 0.1 with the unnormalised signal. These trials took 200 and 300 steps; the
recorded runs are shorter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api, samplers
from pilotage.data.piece import piece
from pilotage.run import experiment
from pilotage.run.categories import ByCategory
from pilotage.run.recipe import Recipe
from pilotage.run.wording import Wording

WORLD, CATEGORIES, HARDER = "mixed:sums", 6, "category/6x1"
POINT = 0.01
PROMPTS = 32


@dataclass(frozen=True)
class Size:
    """Steps, steps between evaluations, and held-out problems that these ask: of all trained sizes, of each size."""

    steps: int
    every: int
    tasks: int
    of_each: int


SHORT, QUICK = Size(120, 60, 400, 200), Size(10, 0, 100, 20)


def settings(quick: bool, size: Size = SHORT) -> dict[str, object]:
    """What all experiments on this mixture share: a start that is right from seven times in ten to hardly ever."""
    size = QUICK if quick else size
    return {
        "steps": size.steps,
        "prompts_per_step": PROMPTS,
        "start.steps": 60 if quick else 1500,
        "start.world.wrong_share": 0.3,
        "evaluation.every": size.every,
        "evaluation.tasks": size.tasks,
    }


def told_apart(quick: bool, size: Size = SHORT) -> tuple[Recipe, Recipe]:
    """SEC and random order, whose evaluations tell sizes of problems apart."""
    told = {"evaluation.measures": {"categories": piece(ByCategory, tasks=(QUICK if quick else size).of_each)}}
    sec, random = (api.recipe(n, WORLD, settings=settings(quick, size)).vary("sec", told) for n in ("sec", "grpo"))
    return api.set_path(sec, "sampler.temperature", 0.2), random


def by_hand(random: Recipe, *, reverse: bool = False) -> Recipe:
    """The sizes in equal parts of the run, easiest first or last."""
    each = -(-random.steps * PROMPTS // CATEGORIES)
    order = piece(samplers.categories.Ordered, each=each)
    return random.vary("sec", {"sampler": order.having(reverse=True) if reverse else order})


def arms(quick: bool) -> Mapping[str, Recipe]:
    sec, random = told_apart(quick)
    return {"sec": sec, "random": random, "easy-to-hard": by_hand(random)}


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    return judged(runs, comparisons, "easy-to-hard")


def judged(runs: Runs, comparisons: Comparisons, order: str) -> Judged:
    """The criterion; the difference from an order by hand, the arm of that name, is said too and decides nothing."""
    same, ordered = comparisons["sec", "random"], comparisons["sec", order]
    harder = experiment.gap(runs["sec"], runs["random"], HARDER)
    at_tokens = experiment.gap_at_equal_tokens(runs["sec"], runs["random"])
    say = Wording(same.metric)
    said = (
        f"SEC minus random order: accuracy {say.change(same.difference)}, at equal generated tokens "
        f"{say.change(at_tokens)}, on six terms {say.change(harder)}; SEC minus {order.replace('-', ' ')}: accuracy "
        f"{say.change(ordered.difference)}"
    )
    if same.kind == "better" and harder.low > 0:
        return Judged("reproduced", said)
    if same.difference.high < POINT or harder.high < POINT:
        return Judged("not reproduced", said)
    return Judged("inconclusive", said)


EXPERIMENT = Experiment(
    name="sec",
    claim=(
        "SEC beats random order, most on harder held-out problems (third-party summary: up to 33 % relative), and an "
        "order by hand is no match for it."
    ),
    criterion=(
        "4 paired seeds, mixed:sums (2 to 5 terms of one digit, 2 or 3 of two), one start for all, 120 steps of 32 "
        "groups of 8, α = 0.5, τ = 0.2, normalised signal, no decay; sampled accuracy of the last policies on 400 "
        "held-out problems of the same six sizes, and on 200 of six terms of one digit, which nobody trains on. "
        "Reproduced if SEC is better than random order on the same sizes (the intervals over seeds, and over seeds and "
        "items, lie above 0) and on six terms (the interval over seeds lies above 0). Not reproduced if either "
        "difference's interval over seeds lies below +1 point. Otherwise inconclusive. The difference at equal "
        "generated tokens, and that from easy to hard in six equal parts, are stated and decide nothing."
    ),
    arms=arms,
    pairs=(("sec", "random"), ("sec", "easy-to-hard")),
    judge=judge,
    seeds=(0, 1, 2, 3),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
