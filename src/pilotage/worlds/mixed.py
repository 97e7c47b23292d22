"""Several worlds of texts as one: each part is a category, and a problem says which it is of.

Imports no torch: verifier processes load this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task, Text
from pilotage.worlds.mixtures import Parts
from pilotage.worlds.registry import resolve
from pilotage.worlds.text import Answer, Demonstrates, TextWorld


class MixedWorld(TextWorld):
    """Problems of several worlds, each a category; answers are judged, and problems worked, by the world they are of.

    parts: for each category the name of its world under `world`, such as "reasoning:chain_sum", and its settings; the
    easiest first, where there is an order. A task by its number alone is of any of them, all as likely. beyond: more of
    the same, which only evaluations ask for (`task_of`). All characters of all parts are one alphabet, so one policy
    reads them all. wrong_share, held_out_share: those of every part; a held-out prompt is held out in all of them.

    Raises UsageError where there are no parts, one name stands for two, and for a part that is no world of texts.
    """

    metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        *,
        parts: Parts,
        beyond: Parts | None = None,
        wrong_share: float = 0.0,
        seed: int = 0,
        held_out_share: float = 1 / 8,
        time_limit: float | None = 5.0,
    ) -> None:
        super().__init__(seed=seed, held_out_share=held_out_share, time_limit=time_limit)
        further = beyond or {}
        twice = sorted(set(parts) & set(further))
        if not parts or twice:
            raise UsageError(f"{twice[0]!r} is a part and beyond them" if twice else "a mixture needs parts")
        self.categories, self.beyond = tuple(parts), tuple(further)
        shared = {"wrong_share": wrong_share, "held_out_share": held_out_share, "time_limit": None}
        self.worlds = {
            name: _part(name, settings, {**shared, "seed": Streams(seed).number(f"part {name}") % 2**32})
            for name, settings in {**parts, **further}.items()
        }
        tables = [world.phrases for world in self.worlds.values()]
        self.phrases = tables[0] if all(table == tables[0] for table in tables) else self.phrases
        ranges = [world.reward_range for world in self.worlds.values()]
        self.reward_range = (min(low for low, _ in ranges), max(high for _, high in ranges))

    def make(self, rng: np.random.Generator) -> Task:
        category = self.categories[int(rng.integers(len(self.categories)))]
        return replace(self.worlds[category].make(rng), category=category)

    def task_of(self, category: str, index: int, split: Split) -> Task:
        """Task number `index` of a category, of those beyond too. Raises UsageError for one that there is not."""
        if category not in self.worlds:
            raise UsageError(f"there is no category {category!r}; {nearest(category, self.worlds)}")
        return replace(self.worlds[category].task(index, split), category=category)

    def verify(self, task: Task, answer: str) -> Any:
        """What the world that the task is of says."""
        return self.worlds[task.category].verify(task, answer)

    def demonstrate(self, task: Task, rng: np.random.Generator) -> Answer:
        """How the world that the task is of works it. Raises UsageError where it cannot."""
        world = self.worlds[task.category]
        if not isinstance(world, Demonstrates):
            raise UsageError(f"{task.category} has no worked solutions (a method demonstrate(task, rng))")
        return world.demonstrate(task, rng)

    def solution(self, task: Task) -> str:
        """What the world that the task is of says, as do the following."""
        return self.worlds[task.category].solution(task)

    def rewrite(self, kind: str, task: Task, rng: np.random.Generator) -> str:
        return self.worlds[task.category].rewrite(kind, task, rng)

    def preserves(self, task: Task, text: str) -> bool | None:
        return self.worlds[task.category].preserves(task, text)

    @cached_property
    def observation(self) -> Text:
        """The longest of all parts, in the characters of all."""
        return _together([world.observation for world in self.worlds.values()])

    @cached_property
    def action(self) -> Text:
        return _together([world.action for world in self.worlds.values()])


def _part(name: str, settings: Mapping[str, Any], shared: Mapping[str, Any]) -> TextWorld:
    own = dict(settings)
    piece = resolve(str(own.pop("world", "")))
    takes = piece.defaults()
    made = piece.having(**{key: value for key, value in shared.items() if key in takes}, **own).build()
    if not isinstance(made, TextWorld):
        raise UsageError(f"{name} is no world of problems in text: {type(made).__name__} cannot be mixed")
    made.held_out_share = shared["held_out_share"]  # also where the part has no such setting
    return made


def _together(spaces: list[Text]) -> Text:
    alphabet = "".join(dict.fromkeys("".join(space.alphabet for space in spaces)))
    return Text(max(space.max_tokens for space in spaces), alphabet if all(s.alphabet for s in spaces) else "")
