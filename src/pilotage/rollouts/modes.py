"""Groups of which some episodes are told their mode and the others choose it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask
from pilotage.rollouts.messages import Messages, opened, recorded, speaking
from pilotage.worlds.base import World
from pilotage.worlds.modes import ModeWorld


class Modes(Messages):
    """`samples` answers to each of `prompts` tasks: `forced` in each of the world's modes, the rest as the policy
    likes.

    In a forced episode the mode's prefix is put at the start of the first message and not trained; the policy goes on
    from there, with as many tokens fewer. A group has its forced episodes first, mode by mode. With 0 it is `Messages`,
    to the bit. Per-episode columns besides the usual: `mode` (its number in `world.modes`, -1 where the message begins
    like none), `instant` (whether it is the one that costs least), `forced`, `formed` (whether the mode's form was
    kept), `cost` (generated tokens, and the world's charge for each of its replies).

    Raises UsageError for a world without modes, and where a group has no room for all forced episodes.
    """

    def __init__(self, *, forced: int = 3, temperature: float = 1.0, max_turns: int = 8) -> None:
        super().__init__(temperature=temperature, max_turns=max_turns)
        if forced < 0:
            raise UsageError(f"forced is 0 or more episodes of each mode, not {forced}")
        self.forced = forced
        self.told: dict[str, float] = {}

    def check(self, policy: Policy, world: World) -> None:
        of_modes(world)

    def check_sizes(self, world: World, prompts: int, samples: int) -> None:
        self.free(of_modes(world), samples)

    def free(self, world: ModeWorld, samples: int) -> int:
        """How many of a group's episodes choose their mode. Raises UsageError where the others do not fit."""
        free = samples - self.forced * len(world.modes)
        if free < 0:
            raise UsageError(
                f"{self.forced} forced episodes of each of {len(world.modes)} modes do not fit a group of {samples}; "
                "set samples_per_prompt or rollout.forced"
            )
        return free

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        said, decisions = super().says(prompts, samples, most)
        return f"{said}, {self.forced} of each group forced into each mode", decisions

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        tasks = [next_task() for _ in range(prompts)]
        batch = self.in_modes(policy, world, tasks, samples, streams, "rollout", step)
        self.told = use(batch, of_modes(world))
        return batch

    def in_modes(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        """The groups of these tasks, `samples` episodes each, the forced ones among them."""
        modes, policy = of_modes(world), speaking(policy)
        free = self.free(modes, samples)
        prefixes = [prefix for prefix in modes.modes.values() for _ in range(self.forced)] + [""] * free
        scripts = opened(policy, world, [task for task in tasks for _ in range(samples)])
        self.talk(
            policy, world, scripts, streams, stream, step,
            repeats=math.gcd(self.forced, free), prefixes=prefixes * len(tasks),
        )  # fmt: skip
        told = torch.arange(samples).repeat(len(tasks)) < samples - free
        return _described(recorded(scripts, samples), modes, [script.answers for script in scripts], told)

    def metrics(self) -> dict[str, float]:
        return self.told


def of_modes(world: World) -> ModeWorld:
    """The world, which has to have modes. Raises UsageError."""
    if not isinstance(world, ModeWorld):
        raise UsageError(f"{type(world).__name__} has no modes to choose from (see pilotage.worlds.modes:ModeWorld)")
    return world


def _described(batch: Batch, world: ModeWorld, said: Sequence[Sequence[str]], forced: Tensor) -> Batch:
    """The record with each episode's mode, form and cost."""
    names = list(world.modes)
    modes = [world.mode_of(messages[0]) if messages else "" for messages in said]
    replies = batch["turn"][batch.offsets[1:] - 1]
    return batch.with_episode(
        mode=torch.tensor([names.index(mode) if mode else -1 for mode in modes]),
        instant=torch.tensor([mode == world.instant for mode in modes]),
        forced=forced,
        formed=torch.tensor([bool(mode) and world.obeys(mode, text) for mode, text in zip(modes, said, strict=True)]),
        cost=batch.total(batch.sampled.float()) + world.call_cost * replies,
    )


def use(batch: Batch, world: ModeWorld) -> dict[str, float]:
    """What the episodes that chose their mode say: `mode/CATEGORY/NAME` and `mode/NAME`, the shares of the modes;
    `mode/entropy` of those shares, in nats; `mode/formed`, how often a form was kept; `cost/mean`; `cost/per_right`,
    all cost over all right answers. `forced/NAME` is the mean reward of the episodes that were told their mode."""
    chosen, forced = ~batch["forced"] & batch.valid, batch["forced"] & batch.valid
    category = batch.notes["category"]
    levels = {level: torch.tensor([one == level for one in category]) for level in sorted(set(category))}
    found: dict[str, float | None] = {}
    for i, name in enumerate(world.modes):
        inside = batch["mode"] == i
        found[f"forced/{name}"] = _mean(batch.returns, inside & forced)
        found |= {f"mode/{level}/{name}": _mean(inside, chosen & here) for level, here in levels.items()}
        found[f"mode/{name}"] = _mean(inside, chosen)
    if bool(chosen.any()):
        shares = torch.tensor([found[f"mode/{name}"] for name in world.modes], dtype=torch.float64)
        cost, right = float(batch["cost"][chosen].sum()), float(batch.returns[chosen].sum())
        found |= {
            "mode/entropy": float(torch.special.entr(shares).sum()),
            "mode/formed": _mean(batch["formed"], chosen),
            "cost/mean": _mean(batch["cost"], chosen),
            "cost/per_right": cost / right if right > 0 else None,
        }
    return {name: value for name, value in found.items() if value is not None}


def _mean(values: Tensor, where: Tensor) -> float | None:
    """The mean of some entries [E]; None where there are none."""
    return float(values[where].double().mean()) if bool(where.any()) else None
