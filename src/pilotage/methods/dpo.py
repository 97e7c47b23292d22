"""DPO: a classifier of pairs whose logit is how much further the policy parts two answers than its start does.

    L = -mean[ log σ(β h) ],   h = log π(w)/π_ref(w) - log π(l)/π_ref(l)

Rafailov et al. 2023, arXiv 2305.18290, eq. 7. Log-probs are sums over an answer's tokens. The pairs are made once: they
are the world's own (`pairs:FILE`), or come from answers of the run's start, of which verdicts choose the best and worst
of each group; `credit.pairs` has the other rules, a share of wrong labels, and what is done with ties. There is no
dropout, so stored and trained log-probs agree; the run stops if h is not 0 before the first update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, learn, losses, rollouts
from pilotage.data.piece import Piece, piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe

# independent draws, labelled by the game itself: what the theory of mirror descent asks for
GAME = {"rule": "random", "by": "world", "ties": "random"}
MEASURES = "pilotage.run.measures"


@method(
    "dpo",
    family="preference",
    paper="Rafailov et al. 2023, arXiv 2305.18290",
    line="logistic regression on the margin of pairs that were made once",
    baseline=None,
    parts=("rollout", "credit", "loss", "reduction"),
    kind="baseline",
    worlds=("text",),
)
def dpo(base: Recipe) -> Mapping[str, Any]:
    """Pairs in place of play; a loss of pairs, whose term keeps them whole."""
    world = base.world.target
    game, given = hasattr(world, "win_probability"), hasattr(world, "pair")
    return {
        "rollout": piece(rollouts.pairs.Given if given else rollouts.once.Once),
        "prompts_per_step": 256 if game else 64,
        "samples_per_prompt": 2 if game or given else 8,
        "steps": 100,
        "credit.pairs": piece(credit.preference.Pairs, **GAME if game else {}),
        "credit.reference": piece(credit.reference.Reference),
        "terms.policy.objectives.policy": Objective(piece(losses.preference.logistic), reduction="sequence"),
        "terms.policy.unit": "group",
        "terms.policy.schedule": piece(learn.schedules.constant),
        "evaluation.samples": 200 if game else 1,
        "evaluation.measures": {"game": Piece(f"{MEASURES}:GameValue")}
        if game
        else {"held_out": Piece(f"{MEASURES}:HeldOutPairs")},
    }
