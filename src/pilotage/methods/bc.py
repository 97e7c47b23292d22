"""BC: behaviour cloning, the mean squared error of a deterministic policy on logged actions.

    L = mean over decisions and action dimensions of (π(s) - a)²

Pomerleau 1991. The root of all offline methods: a store that is full from the start, and no play. The loss is in the
world's units of action, as TD3+BC's released code has it; `policy.normalise=true` standardises observations over the
data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import data, learn, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective, Term
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "bc",
    family="offline control",
    paper="behaviour cloning: Pomerleau 1991",
    line="squared error of a deterministic policy on logged actions",
    baseline=None,
    parts=("rollout", "store", "loss", "policy"),
    kind="baseline",
    policy="deterministic",
    worlds=("box",),
)
def bc(base: Recipe) -> Mapping[str, Any]:
    """A full store in place of play, and one term; a step is 100 batches of 256 decisions."""
    optimiser = piece(learn.optimisers.adam, learning_rate=base.get("terms.policy.optimiser.learning_rate"))
    imitation = Objective(piece(losses.imitation.squared_error))
    return {
        "rollout": piece(rollouts.idle.Idle),
        "store": piece(data.offline.Offline),
        "terms": {"actor": Term({"imitation": imitation}, "actor", optimiser, max_grad_norm=None)},
        "steps": 100,
        "evaluation.every": 25,
        "evaluation.greedy": True,
    }
