"""A task space that grows out of what the policy answered: earlier answers come back, to be improved or left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task
from pilotage.samplers.base import ended
from pilotage.samplers.uniform import Uniform
from pilotage.worlds.text import again


@dataclass(frozen=True)
class Item:
    """A starting point: a task's number, and what was said and replied so far, in turn, the last turn's answer at its
    end. Without a history it is the task itself.

    depths: for each turn, how many answers there were before this one, each made of the one before it.
    """

    task: int
    history: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()

    def prefixes(self) -> list[Item]:
        """This starting point cut after the answer of each of its turns, the whole of it last."""
        turns = range(1, len(self.depths))
        return [*(Item(self.task, self.history[: 2 * turn - 1], self.depths[:turn]) for turn in turns), self]

    def grown(self, talk: Sequence[str]) -> Item:
        """What an episode makes of it, whose talk (messages and replies in turn) has its earlier turns, another answer
        in place of its last one, and what came after; a reply at the end, which nobody answered, is left out."""
        turns, begun = (len(talk) + 1) // 2, max(len(self.depths), 1)
        return Item(
            self.task,
            tuple(talk[: 2 * turns - 1]),
            (*self.depths[: begun - 1], self.next_depth, *[0] * (turns - begun)),
        )

    @property
    def next_depth(self) -> int:
        """How many answers come before one that is made from it."""
        return self.depths[-1] + 1 if self.depths else 0


@dataclass
class Entry:
    """What the buffer knows of an item: its score, what the episode that it is of was worth, and whether it was
    played."""

    score: float
    worth: float = 0.0
    played: bool = False


class Buffer:
    """At most `capacity` scored starting points, each once."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.entries: dict[Item, Entry] = {}  # in the order of their coming

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def scores(self) -> NDArray[np.float64]:
        """[items] in order."""
        return np.array([entry.score for entry in self.entries.values()], np.float64)

    def insert(self, item: Item, entry: Entry) -> bool:
        """Takes an item in, at capacity in place of the first of those with the least score, if its own is not below
        that. One that is there already stays as it is. Whether it was taken in."""
        if item in self.entries:
            return False
        if len(self.entries) >= self.capacity:
            least = min(self.entries, key=lambda one: self.entries[one].score)
            if entry.score < self.entries[least].score:
                return False
            del self.entries[least]
        self.entries[item] = entry
        return True

    def draw(self, temperature: float, uniform: float) -> Item:
        """The item that a number in [0, 1) falls on, see `chances`."""
        below = chances(self.scores, temperature).cumsum()
        return list(self.entries)[min(int((below <= uniform * below[-1]).sum()), len(below) - 1)]


def chances(scores: NDArray[np.float64] | Sequence[float], temperature: float) -> NDArray[np.float64]:
    """[items] exp(temperature · score), normalised: the temperature is an inverse one, κ in the paper."""
    heights = temperature * np.asarray(scores, np.float64)
    heights = np.exp(heights - heights.max())
    found: NDArray[np.float64] = heights / heights.sum()
    return found


class TaskSpace(Uniform):
    """Fresh tasks, and with probability `share` a starting point out of a buffer, once that holds `least_items`.

    The buffer holds answers that the policy gave: one of each group, drawn uniformly from the valid ones, with the
    group's score S, the variance of its members' quality (their return in the world's range, in [0, 1]). One is drawn
    with probability ∝ exp(kappa S), and asked as the world's phrase `diverge` with probability `diverge`, else as
    `improve`, with nothing but the problem and that answer; what comes of it scores it anew, and becomes a starting
    point in turn. At `capacity` the one with the least score goes. Tasks so asked have the variant "improve W" or
    "diverge W", W the quality of the answer that is shown.

    Where episodes have several turns, an item holds all of them; so do items cut after each turn, with the same score.
    What is drawn is cut after one of its turns, uniformly, and that turn's answer is asked for anew, with the earlier
    turns as they were, and the episode played on from there; W is the quality of the episode that the answer is of.

    expand: off, the buffer holds the tasks themselves, which come back as they were. pool: as in Uniform.

    Jiang et al. 2025, arXiv 2509.04575, algorithm 1. It does not say which of a group's answers become starting points,
    nor κ; both are our choice. To restore a later turn the world is given the earlier answers again, which asks for a
    world whose replies are decided by task and answers (`pilotage.worlds.text.begin` raises UsageError elsewhere).
    Raises UsageError where an episode goes on in the next step.
    """

    def __init__(
        self,
        *,
        pool: int | None = None,
        capacity: int = 512,
        least_items: int = 128,
        share: float = 0.5,
        diverge: float = 0.2,
        kappa: float = 10.0,
        expand: bool = True,
    ) -> None:
        super().__init__(pool=pool)
        if not 1 <= least_items <= capacity:
            raise UsageError(f"least_items is from 1 to capacity ({capacity}), not {least_items}")
        if not (0 <= share <= 1 and 0 <= diverge <= 1):
            raise UsageError(f"share and diverge are probabilities, not {share:g} and {diverge:g}")
        self.least_items, self.share, self.diverge, self.kappa, self.expand = least_items, share, diverge, kappa, expand
        self.buffer = Buffer(capacity)
        self.drawn = 0  # tasks handed out
        self.instances = 0  # distinct ones, but for fresh tasks that a pool gives again
        self.handed: list[Item] = []  # this step's, by group
        self.told: dict[str, float] = {}

    def next(self) -> Task:
        chance, place, way, cut = self.streams.generator("space", self.drawn).random(4).tolist()
        self.drawn += 1
        if len(self.buffer) < self.least_items or chance >= self.share:
            task = super().next()
            self.instances += 1
            self.handed.append(Item(task.key))
            return task
        drawn = self.buffer.draw(self.kappa, place)
        item = drawn.prefixes()[int(cut * max(len(drawn.depths), 1))]
        # a prefix that the buffer has let go is known by the episode that it is of
        entry = self.buffer.entries.get(item) or replace(self.buffer.entries[drawn], played=False)
        self.instances += not entry.played and bool(item.history)
        entry.played = True
        self.handed.append(item)
        task = self.world.task(item.task, "train")
        if not item.history:
            return task
        kind = "diverge" if way < self.diverge else "improve"
        return again(self.world, task, item.history, kind, f"{kind} {entry.worth!r}")

    def observe(self, batch: Batch) -> None:
        if len(ended(batch)) < len(batch):
            raise UsageError("a task space needs the whole of each group in one step: this rollout goes on in the next")
        quality = self.world.quality(batch.returns.double())
        scores = []
        for group, item in enumerate(self.handed):
            members = ((batch["group"] == group) & batch.valid).nonzero().squeeze(-1)
            if not len(members):
                continue
            scores.append(float(quality[members].var(correction=0)))
            if item in self.buffer.entries:
                self.buffer.entries[item].score = scores[-1]
            if not self.expand:
                self.buffer.insert(item, Entry(scores[-1]))
                continue
            chosen = int(members[int(self.streams.generator("space/expand", self.drawn, group).integers(len(members)))])
            for start in item.grown(batch.talk(chosen)).prefixes():
                self.buffer.insert(start, Entry(scores[-1], float(quality[chosen])))
        self.told = self._facts(scores, [variant.partition(" ")[0] for variant in batch.notes["variant"]])
        self.handed = []

    def metrics(self) -> dict[str, float]:
        """Under `space/`: starting points held and their scores' mean and least, distinct tasks handed out so far, and
        of this step the mean score of its groups, how many answers lay before theirs, and the shares asked to improve
        and to diverge."""
        return self.told

    def _facts(self, scores: list[float], kinds: list[str]) -> dict[str, float]:
        held = self.buffer.scores
        return {
            "space/items": float(len(held)),
            "space/instances": float(self.instances),
            **({"space/held_score": float(held.mean()), "space/least_score": float(held.min())} if len(held) else {}),
            **({"space/score": float(np.mean(scores))} if scores else {}),
            **({"space/depth": float(np.mean([item.next_depth for item in self.handed]))} if self.handed else {}),
            **{f"space/{kind}": kinds.count(kind) / max(len(kinds), 1) for kind in ("improve", "diverge")},
        }

    def state_dict(self) -> dict[str, Any]:
        items = [
            [item.task, list(item.history), list(item.depths), entry.score, entry.worth, entry.played]
            for item, entry in self.buffer.entries.items()
        ]
        return {**super().state_dict(), "drawn": self.drawn, "instances": self.instances, "items": items}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.drawn, self.instances = int(state["drawn"]), int(state["instances"])
        self.buffer.entries = {
            Item(task, tuple(history), tuple(depths)): Entry(score, worth, played)
            for task, history, depths, score, worth, played in state["items"]
        }
