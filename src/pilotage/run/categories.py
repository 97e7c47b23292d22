"""How well a policy does on each category of a world's tasks, those beyond training too."""

from __future__ import annotations

import torch

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy
from pilotage.rollouts.messages import Messages
from pilotage.run.evaluate import distinct
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import Categorised, World


class ByCategory:
    """Mean return on up to `tasks` held-out tasks of each category, one sampled answer each: `category/NAME`; over the
    categories that are trained on, each counting the same, `category/within`; over those beyond, `category/beyond`.

    Raises UsageError for a world without categories.
    """

    def __init__(self, *, tasks: int = 100) -> None:
        if tasks < 1:
            raise UsageError(f"at least one task of each category, not {tasks}")
        self.tasks = tasks
        self.held: list[Task] = []

    def __call__(self, policy: Policy, world: World, recipe: Recipe, streams: Streams, step: int) -> dict[str, float]:
        if not isinstance(world, Categorised):
            raise UsageError(f"{type(world).__name__} has no categories to be told apart")
        names = (*world.categories, *world.beyond)
        if not self.held:
            self.held = [task for name in names for task in distinct(world, self.tasks, name)]
        talk = Messages(temperature=recipe.evaluation.temperature)
        batch = talk.converse(policy, world, self.held, 1, streams, "evaluate by category", step)
        found: dict[str, float] = {}
        for name in names:
            of_it = torch.tensor([task.category == name for task in self.held]) & batch.valid
            found[name] = float(batch.returns[of_it].mean())
        sides = {"within": world.categories, "beyond": world.beyond}
        means = {side: sum(found[name] for name in names) / len(names) for side, names in sides.items() if names}
        return {f"category/{name}": value for name, value in {**found, **means}.items()}
