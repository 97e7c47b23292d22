"""Roots: what a recipe is before any method, by the kind of world. Sizes suit two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotage import data, learn, losses, rollouts, samplers
from pilotage.data.piece import Piece, UsageError, piece
from pilotage.data.tasks import Text
from pilotage.learn.terms import Objective, Term
from pilotage.run.recipe import Evaluation, Recipe


def root(world: Piece, policy: Piece, action: Any, seed: int = 0, kind: str = "") -> Recipe:
    """The bare recipe on a world whose action space is `action`: plays, and has a policy-gradient term without
    credit. kind: that of the world, where sizes depend on more than the actions."""
    speaking = isinstance(action, Text)
    drawing = kind == "denoise"
    term = Term(
        objectives={"policy": Objective(piece(losses.policy.policy_gradient))},
        parameters="actor",
        optimiser=piece(learn.optimisers.adam, learning_rate=rate_of(policy, "learning_rate")),
        schedule=piece(learn.schedules.constant, warmup=0.05 if speaking or drawing else 0.0),
    )
    return Recipe(
        name="root",
        world=world,
        policy=policy,
        sampler=piece(samplers.uniform.Uniform),
        rollout=piece(rollouts.messages.Messages) if speaking else piece(rollouts.episodes.Episodes),
        credit={},
        terms={"policy": term},
        store=piece(data.store.Fresh),
        prompts_per_step=32 if speaking or drawing else 8,
        samples_per_prompt=4 if drawing else 8,
        steps=300 if speaking else 100,
        seed=seed,
        evaluation=Evaluation(every=25, tasks=400) if speaking or drawing else Evaluation(every=10, tasks=20),
    )


def rate_of(policy: Piece, name: str) -> float:
    """A policy class's own `learning_rate` or `imitation_rate`. Raises UsageError if the piece is not a policy
    class."""
    found = getattr(policy.target, name, None)
    if not isinstance(found, float):
        raise UsageError(f"{policy.use!r} is not a policy: it does not derive from pilotage.Policy")
    return found


def speaks(recipe: Recipe) -> bool:
    """Whether the recipe's world is one of texts."""
    return isinstance(target := recipe.rollout.target, type) and issubclass(target, rollouts.messages.Messages)


def plays(recipe: Recipe) -> bool:
    """Whether the recipe goes on from what its policy does already: with its own whole episodes, or with pairs of
    answers that it is to choose between."""
    target = recipe.rollout.target
    going_on = (rollouts.messages.Messages, rollouts.episodes.Episodes, rollouts.pairs.Given)
    return isinstance(target, type) and issubclass(target, going_on)


def critics_then_actor(
    optimiser: Piece, actor: Mapping[str, Objective], *, every: int = 1, **more: Objective
) -> dict[str, Term]:
    """Terms of methods with critics of actions: the critics' error (and `more` of theirs), then the actor's objectives,
    on every `every`-th batch."""
    error = {"error": Objective(piece(losses.actor.bellman_error)), **more}
    return {
        "critic": Term(error, "critic", optimiser, max_grad_norm=None),
        "actor": Term(actor, "actor", optimiser, max_grad_norm=None, every=every),
    }


def off_policy(base: Recipe, actor: Mapping[str, Objective], *, every: int = 1) -> dict[str, Any]:
    """What methods share that replay their decisions: one update a decision, in windows of 8, after 1,000 random
    decisions."""
    optimiser = piece(learn.optimisers.adam, learning_rate=base.get("terms.policy.optimiser.learning_rate"))
    return {
        "rollout": piece(rollouts.window.Window, lanes=1, steps=8, random_decisions=1000),
        "store": piece(data.replay.Replay),
        "terms": critics_then_actor(optimiser, actor, every=every),
        "steps": 2500,
        "evaluation.every": 250,
        "checkpoint_every": 500,
    }


def warm_start(base: Recipe, forms: Mapping[str, float]) -> Recipe:
    """Supervised training on what the world shows. One start serves all seeds, as a published base model would.

    forms: shares of the demonstrations that are asked in other forms, see `pilotage.rollouts.demonstrations`.
    Texts: its worked solutions, half of them wrong where the world can err: a model that is right about as often as not
    has something to learn. Pictures: its examples, whatever is rewarded later.
    """
    from pilotage.methods.stacks import stacked  # which finds methods that are built on roots

    if "wrong_share" in base.world.defaults():
        base = replace(base, world=base.world.having(wrong_share=0.5))
    if not speaks(base):
        apart = {name: value for name, value in base.world.settings.items() if name != "reward"}
        base = replace(base, world=replace(base.world, settings=apart))
    slug = "sft" if speaks(base) else "denoising"
    made = stacked(slug, replace(base, seed=0, evaluation=replace(base.evaluation, every=200)))
    return made.vary(slug, {"rollout.variants": dict(forms)}) if forms else made
