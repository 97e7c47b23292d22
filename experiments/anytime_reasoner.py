"""AnytimeReasoner against Dr.GRPO on a scratchpad that can be cut (Qi et al. 2025, arXiv 2505.13438)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.data.piece import Piece
from pilotage.run import experiment
from pilotage.run.recipe import Recipe
from pilotage.run.wording import Wording

WORLD = "reasoning:chain_sum"
SUMS = {"min_terms": 4, "max_terms": 4, "min_digits": 1, "max_digits": 1}
SCRATCHPAD = {"world.marker": "=", "world.detours": 0.5, "world.settings": SUMS}
BUDGETS = (4, 8, 12, 24)
CUTS = {"rollout.budgets": BUDGETS, "rollout.answers": 1, "rollout.answer_tokens": 6}
ANYTIME = "budgets/anytime"
FIRST, LAST = (f"budgets/accuracy_{budget}" for budget in (BUDGETS[1], BUDGETS[-1]))
PAIRS = (("uniform", "grpo"), ("base", "grpo"))


def measured(recipe: Recipe) -> Recipe:
    """Judged on 400 held-out items at each budget."""
    plan = Piece("pilotage.run.budgets:AccuracyByBudget").having(budgets=BUDGETS, answer_tokens=6, tasks=400)
    return recipe.vary("experiment", {"evaluation.measures.budgets": plan})


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        **SCRATCHPAD,
        "steps": 10 if quick else 200,
        "evaluation.every": 0 if quick else 40,
        "evaluation.tasks": 100 if quick else 400,
    }
    sizes = {"prompts_per_step": 20}  # about as many tokens a step as the baseline's 32 by 8
    found = {"grpo": api.recipe("dr-grpo", WORLD, settings=shared)}
    for prior in ("uniform", "base"):
        own = {**shared, **CUTS, **sizes, "credit.advantage.prior": prior}
        found[prior] = api.recipe("anytime-reasoner", WORLD, settings=own)
    return {label: measured(recipe) for label, recipe in found.items()}
