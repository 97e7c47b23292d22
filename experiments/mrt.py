"""MRT against GRPO, with and without a penalty on length, where thinking makes detours (Qu et al. 2025, arXiv
2503.07572)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.credit.shaping import shaping, with_returns
from pilotage.data.batch import Batch
from pilotage.data.piece import Piece, piece
from pilotage.run import experiment
from pilotage.run.recipe import Recipe

WORLD = "reasoning:chain_sum"
SCRATCHPAD = {"world.marker": "=", "world.detours": 0.5}
AREA, TIME = "regret/area", "regret/tokens_to_solve"


@shaping
def shorter(batch: Batch, *, weight: float = 0.2, bound: int = 39) -> Batch:
    """Rewards less `weight` times the share of the bound on tokens that a message has used."""
    return with_returns(batch, batch.returns - weight * batch.total(batch.sampled.float()) / bound)


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        **SCRATCHPAD,
        "steps": 10 if quick else 200,
        "evaluation.every": 0 if quick else 40,
        "evaluation.tasks": 100 if quick else 400,
    }
    sizes = {"prompts_per_step": 28, "rollout.answer_tokens": 6}  # about as many tokens a step as the baseline's 32
    grpo = api.recipe("grpo", WORLD, settings=shared)
    found = {
        "grpo": grpo,
        "grpo-length": grpo.vary("experiment", {"credit.shorter": piece(shorter)}),
        "mrt": api.recipe("mrt", WORLD, settings={**shared, **sizes}),
        "mrt-term": api.recipe("mrt", WORLD, settings={**shared, **sizes, "credit.progress.baseline": "term"}),
    }
    plan = Piece("pilotage.run.budgets:Regret").having(stops=4, tasks=200, answer_tokens=6)
    return {name: recipe.vary("experiment", {"evaluation.measures.regret": plan}) for name, recipe in found.items()}
