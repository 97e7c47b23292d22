"""How a policy chooses among the modes of a world, and what the choice is worth."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy, score
from pilotage.rollouts.messages import Transcript, recorded, speaking
from pilotage.rollouts.modes import Modes, of_modes, use
from pilotage.run.evaluate import distinct
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import World
from pilotage.worlds.modes import ModeWorld


class Routing:
    """Of each of the first `tasks` held-out tasks, `samples` answers in the mode that the policy chooses and as many in
    each mode that it is forced into, at the evaluation's temperature.

    `mode/NAME` and `mode/CATEGORY/NAME`: the mean probability that the policy begins like the mode (exact, not
    counted). `router/entropy`: of the choice, in nats, averaged over tasks; `router/none`: the probability of no mode.
    `cost/mean` and `cost/per_right` (all cost over all right answers) of chosen modes; `mode/formed`; `forced/NAME` and
    `forced/CATEGORY/NAME`: accuracy in each mode. Raises UsageError for fewer than one task
    or answer, and a world without modes.
    """

    def __init__(self, *, tasks: int = 200, samples: int = 1) -> None:
        if tasks < 1 or samples < 1:
            raise UsageError(f"at least one answer to one task, not {samples} to {tasks}")
        self.count, self.samples = tasks, samples
        self.tasks: list[Task] = []

    def __call__(self, policy: Policy, world: World, recipe: Recipe, step: int, streams: Streams) -> dict[str, float]:
        modes, speaker = of_modes(world), speaking(policy)
        self.tasks = self.tasks or distinct(world, self.count)
        names = list(modes.modes)
        plan = Modes(forced=self.samples, temperature=recipe.evaluation.temperature)
        size = self.samples * (len(names) + 1)
        batch = plan.in_modes(policy, world, self.tasks, size, streams, "routing", step)
        found = use(batch, modes)
        chances = router(speaker, modes, self.tasks)
        levels = {task.category for task in self.tasks}
        for level in sorted(levels):
            here = torch.tensor([task.category == level for task in self.tasks])
            inside = batch["forced"] & here.repeat_interleave(size) & batch.valid
            for i, name in enumerate(names):
                found[f"mode/{level}/{name}"] = float(chances[here, i].mean())
                found[f"forced/{level}/{name}"] = float(batch.returns[inside & (batch["mode"] == i)].mean())
        found |= {f"mode/{name}": float(chances[:, i].mean()) for i, name in enumerate(names)}
        total = chances.sum(1)
        found["router/entropy"] = float(torch.special.entr(chances / total[:, None]).sum(1).mean())
        found["router/none"] = 1 - float(total.mean())
        found.pop("mode/entropy")  # of the shares over all tasks; the policy's own is told above
        return found


def router(policy: SpeakingPolicy, world: ModeWorld, tasks: list[Task]) -> Tensor:
    """[tasks, modes] the probability that an answer to a task begins like each mode."""
    prefixes = [policy.encode(prefix, prompt=False) for prefix in world.modes.values()]
    asked = [policy.encode(task.shown, prompt=True) for task in tasks]
    scripts = []
    for task, question in zip(tasks, asked, strict=True):
        for prefix in prefixes:
            script = Transcript(task, question)
            script.say(torch.tensor(prefix), torch.zeros(len(prefix)), 0)
            scripts.append(script)
    batch = recorded(scripts)
    return batch.total(score(batch, policy, "logp").double()).exp().view(len(tasks), len(prefixes))
