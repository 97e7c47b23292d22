"""Tiny worlds for tests, by import path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from pilotage.data.tasks import Split, Task, Text, Verdict
from pilotage.worlds.base import Outcome, World
from pilotage.worlds.mixed import MixedWorld
from pilotage.worlds.modes import ModeWorld
from pilotage.worlds.phrases import COMPACT
from pilotage.worlds.text import TextWorld

DIGITS = "0123456789"


class Echo(TextWorld):
    """Say the digit back; a right length is worth something too, so that untrained policies get mixed rewards."""

    phrases = COMPACT
    observation = Text(max_tokens=3, alphabet=DIGITS + "=")
    action = Text(max_tokens=4, alphabet=DIGITS)

    def __init__(self) -> None:
        super().__init__(time_limit=None)

    def make(self, rng: np.random.Generator) -> Task:
        number = f"{rng.integers(100):02d}"
        return Task(prompt=f"{number}=", answer=number)

    def verify(self, task: Task, answer: str) -> Verdict | float:
        right = sum(a == b for a, b in zip(answer, task.answer, strict=False))
        return min(1.0, 0.25 * right + 0.5 * (len(answer) < 4))

    def demonstrate(self, task: Task, rng: np.random.Generator) -> str:
        return task.answer


class Tagged(Echo, ModeWorld):
    """Echo in three modes, of which C takes a second turn; without a tag an answer is worth the same."""

    observation = Text(max_tokens=3, alphabet=DIGITS + "=")
    action = Text(max_tokens=5, alphabet=DIGITS + "ABC")
    modes: ClassVar[dict[str, str]] = {"at once": "A", "slowly": "B", "asking": "C"}
    instant, call_cost = "at once", 10.0

    def make(self, rng: np.random.Generator) -> Task:
        made = super().make(rng)
        return replace(made, category="low" if made.prompt < "5" else "high")

    def verify(self, task: Task, answer: str) -> Verdict | float:
        return super().verify(task, answer.lstrip("ABC"))

    def reply(self, task: Task, messages: Sequence[str]) -> str | None:
        return task.answer if len(messages) == 1 and messages[0][:1] == "C" else None

    def obeys(self, mode: str, messages: Sequence[str]) -> bool:
        return len(messages) == (2 if mode == "asking" else 1)

    def demonstrate(self, task: Task, rng: np.random.Generator) -> list[str]:  # type: ignore[override]
        return ["C", task.answer, task.answer]


class Dialled(Echo):
    """A number's two digits, one message each: a right one pays a half at once, and the world says which came."""

    observation = Text(max_tokens=3, alphabet=DIGITS + "=?")
    action = Text(max_tokens=2, alphabet=DIGITS)

    def step(self, actions: Sequence[str], lanes: Sequence[int]) -> Outcome:
        count, places = len(lanes), self.__dict__.setdefault("_places", {})
        tasks, at = self.running(lanes), [places.pop(lane, 0) for lane in lanes]
        places |= {lane: 1 for lane, place in zip(lanes, at, strict=True) if place == 0}
        right = [a == task.answer[place] for a, task, place in zip(actions, tasks, at, strict=True)]
        replies = [self.replied(a) if place == 0 else "" for a, place in zip(actions, at, strict=True)]
        never = np.zeros(count, np.bool_)
        return Outcome(replies, np.array(right, np.float32) / 2, np.array(at) == 1, never)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> list[str]:
        places = self.__dict__.setdefault("_places", {})
        for lane in lanes:
            places.pop(lane, None)
        return super().reset(tasks, lanes)

    def replied(self, answer: str) -> str:
        return f"{answer}?"

    def demonstrate(self, task: Task, rng: np.random.Generator) -> list[str]:  # type: ignore[override]
        return [task.answer[0], f"{task.answer[0]}?", task.answer[1]]


class Moody(Dialled):
    """As Dialled, but it replies with how often it has replied."""

    def replied(self, answer: str) -> str:
        self.count = getattr(self, "count", 0) + 1
        return f"{self.count % 10}?"


class Flat(Echo):
    """Every answer is worth the same."""

    def verify(self, task: Task, answer: str) -> Verdict | float:
        return 0.3


class FirstDigit(Echo):
    """Only the first digit counts: of a few answers all are wrong more often than not."""

    def verify(self, task: Task, answer: str) -> Verdict | float:
        return float(answer[:1] == task.answer[0])


class Broken(Echo):
    """A verifier that fails on answers that begin with one of these characters, or on all of them."""

    def __init__(self, *, failing: str = "") -> None:
        super().__init__()
        self.failing = failing

    def verify(self, task: Task, answer: str) -> Verdict | float:
        if not self.failing or answer[:1] in self.failing:
            raise RuntimeError("the judge is out")
        return super().verify(task, answer)


class Line(World):
    """Walk on a line from 0; right pays. `poison`: the reward of step `at`, such as NaN, passed on unchecked."""

    metric: ClassVar[str] = "return"

    def __init__(self, *, poison: str = "", at: int = 0, invalid: bool = False, length: int = 5) -> None:
        self.observation = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action = spaces.Discrete(2)
        self.poison, self.at, self.invalid, self.length = poison, at, invalid, length
        self.place = np.zeros(0)
        self.time = np.zeros(0, np.int64)

    def task(self, index: int, split: Split) -> Task:
        return Task(index, split)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> Any:
        size = max(len(self.place), max(lanes) + 1)
        self.place, self.time = np.resize(self.place, size), np.resize(self.time, size)
        self.place[list(lanes)] = [0.1 * (task.key % 7) for task in tasks]
        self.time[list(lanes)] = 0
        return self._seen(lanes)

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        rows, count = list(lanes), len(lanes)
        reward = np.asarray(actions, np.float32) * 2 - 1
        self.place[rows] += reward
        if self.poison:
            reward = np.where(self.time[rows] == self.at, np.float32(self.poison), reward).astype(np.float32)
        self.time[rows] += 1
        over = self.time[rows] >= self.length
        wrong = dict.fromkeys(range(count), "the ground gave way") if self.invalid else {}
        return Outcome(self._seen(lanes), reward, over & (not self.invalid), np.zeros(count, np.bool_), wrong)

    def _seen(self, lanes: Sequence[int]) -> Any:
        rows = list(lanes)
        return np.stack([self.place[rows], self.time[rows] / self.length], axis=-1).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "time": self.time}

    def load_state_dict(self, state: Any) -> None:
        self.place, self.time = np.array(state["place"]), np.array(state["time"])


class Long(Echo):
    """Echo of four digits: harder."""

    observation = Text(max_tokens=5, alphabet=DIGITS + "=")
    action = Text(max_tokens=6, alphabet=DIGITS)

    def make(self, rng: np.random.Generator) -> Task:
        number = f"{rng.integers(10_000):04d}"
        return Task(prompt=f"{number}=", answer=number)


SIZES = {
    "one": {"world": "toy_worlds:Echo"},
    "two": {"world": "toy_worlds:Long"},
    "three": {"world": "toy_worlds:Flat"},
}


class Sizes(MixedWorld):
    """Three categories, of which the last says the same of every answer."""

    def __init__(self, *, parts: Mapping[str, Mapping[str, Any]] = SIZES) -> None:
        super().__init__(parts=parts, beyond={"four": {"world": "toy_worlds:Long"}}, time_limit=None)


class Telling(Line):
    """Says of each step whether the walker stands right of where most begin."""

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        return replace(super().step(actions, lanes), success=self.place[list(lanes)] > 0.5)
