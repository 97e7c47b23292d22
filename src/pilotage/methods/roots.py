"""Roots: what a recipe is before any method, by the kind of world. Sizes suit two CPU cores."""

from __future__ import annotations

from typing import Any

from pilotage.data.piece import Piece, piece
from pilotage.data.store import Fresh
from pilotage.data.tasks import Text
from pilotage.learn.terms import Objective, Term, adam
from pilotage.losses.policy import policy_gradient
from pilotage.rollouts.episodes import Episodes
from pilotage.rollouts.messages import Messages
from pilotage.run.recipe import Evaluation, Recipe
from pilotage.samplers.uniform import Uniform


def root(world: Piece, policy: Piece, action: Any, seed: int = 0) -> Recipe:
    """The bare recipe on a world whose action space is `action`: plays, and has a policy-gradient term without
    credit."""
    rate = float(getattr(policy.target, "learning_rate", 3e-4))
    term = Term(
        objectives={"policy": Objective(piece(policy_gradient))},
        parameters="actor",
        optimiser=piece(adam, learning_rate=rate),
    )
    speaking = isinstance(action, Text)
    return Recipe(
        name="root",
        world=world,
        policy=policy,
        sampler=piece(Uniform),
        rollout=piece(Messages) if speaking else piece(Episodes),
        credit={},
        terms={"policy": term},
        store=piece(Fresh),
        prompts_per_step=32 if speaking else 8,
        samples_per_prompt=8,
        steps=100,
        seed=seed,
        evaluation=Evaluation() if speaking else Evaluation(every=10, tasks=20),
    )


def speaks(recipe: Recipe) -> bool:
    """Whether the recipe's world is one of texts."""
    return recipe.rollout.target is Messages
