"""Single-turn worlds of text: a problem, one answer, a verdict.

A world of one's own says what its texts are, how a problem is drawn, and what an answer is worth:

    class Echo(TextWorld):
        observation = Text(max_tokens=5, alphabet="0123456789=")
        action = Text(max_tokens=4, alphabet="0123456789")

        def make(self, rng):
            number = str(rng.integers(1000))
            return Task(prompt=f"{number}=", answer=number)

        def verify(self, task, answer):
            return float(answer == task.answer)

Tasks by number, disjoint splits, and a verifier that can neither hang nor crash the run come with the base class.
Imports no torch: verifier processes load this.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task, Text, Verdict
from pilotage.worlds import phrases
from pilotage.worlds.base import Outcome, World
from pilotage.worlds.guard import Guard

CACHED_TASKS = 4096
Answer = str | Sequence[str]  # one message, or a conversation: what is said and what the world replies, in turn


@runtime_checkable
class Demonstrates(Protocol):
    """A world that can work its own problems."""

    def demonstrate(self, task: Task, rng: np.random.Generator) -> Answer:
        """A worked solution, as a policy would have answered; it may be wrong where a setting says so."""


class _KeepsSettings:
    """Remembers what it was constructed with, also where a subclass's `__init__` calls no other: the verifier process
    makes the same world again. It stands apart so that a world's signature is that of its `__init__`."""

    _given: Mapping[str, Any]

    def __new__(cls, **settings: Any) -> _KeepsSettings:
        made = super().__new__(cls)
        made._given = settings
        return made


class TextWorld(_KeepsSettings, World):
    """Problems drawn by `make`, answers judged by `verify` in a process of its own.

    seed: of the problems. A problem is held out if a hash of its prompt falls in `held_out_share`, whatever its number
    and the seed, so no prompt is ever in both splits.
    time_limit: seconds for one answer, after which it is invalid; None verifies in this process, without a limit.
    phrases: how it puts a problem in other words, see `pilotage.worlds.phrases`.
    """

    phrases: Mapping[str, str] = phrases.ENGLISH

    metric: ClassVar[str] = "accuracy"
    reward_range = (0.0, 1.0)
    observation: Any = Text()
    action: Any = Text()
    seed: int = 0
    held_out_share: float = 1 / 8
    time_limit: float | None = 5.0

    def __init__(self, *, seed: int = 0, held_out_share: float = 1 / 8, time_limit: float | None = 5.0) -> None:
        if not 0 < held_out_share < 1:
            raise UsageError(f"held_out_share is a share between 0 and 1, not {held_out_share}")
        if time_limit is not None and not 0 < time_limit < math.inf:
            raise UsageError(f"time_limit is in seconds, or None for no limit; not {time_limit}")
        self.seed, self.held_out_share, self.time_limit = seed, held_out_share, time_limit

    @abstractmethod
    def make(self, rng: np.random.Generator) -> Task:
        """One problem, drawn with this generator only. `key` and `split` are filled in afterwards."""

    @abstractmethod
    def verify(self, task: Task, answer: str) -> Verdict | float:
        """What an answer is worth, in `reward_range`. Runs elsewhere; may raise or hang, which makes it invalid."""

    def phrase(self, kind: str, task: Task, **parts: str) -> str:
        """A problem in other words, or with `prompt` among the parts, what is asked in a later turn. Raises UsageError
        for a kind of phrase that the world lacks."""
        return phrases.fill(self.phrases, kind, **{"prompt": task.prompt, **parts})

    def solution(self, task: Task) -> str:
        """A worked solution that is right, the answer last in it; the answer alone where a world does not work its
        problems. Raises UsageError where there is none."""
        if not task.answer:
            raise UsageError(f"{type(self).__name__} stores no answers, so it has no solutions")
        return task.answer

    def rewrite(self, kind: str, task: Task, rng: np.random.Generator) -> str:
        """The problem as another that has the same answer: one that is easier ("simplify") or only different
        ("diversify"). Raises UsageError where the world has no rule for it."""
        raise UsageError(f"{type(self).__name__} has no rules to rewrite its problems by; let the policy do it")

    def preserves(self, task: Task, text: str) -> bool | None:
        """Whether a problem in other words has the same answer; None where the world cannot tell."""
        return None

    def holds_out(self, prompt: str) -> bool:
        """Whether a problem of this prompt would be held out."""
        return place(prompt) < self.held_out_share

    def task(self, index: int, split: Split) -> Task:
        """Raises UsageError if problems of this split are too rare, and where a payload is no JSON."""
        cache = self.__dict__.setdefault("_cache", {})
        if (index, split) not in cache:
            if len(cache) >= CACHED_TASKS:
                cache.clear()
            cache[index, split] = self._draw(index, split)
        found: Task = cache[index, split]
        return found

    def _draw(self, index: int, split: Split) -> Task:
        streams, share = Streams(self.seed), self.held_out_share
        limit = math.ceil(30 / min(share, 1 - share))  # a fair draw misses a split this often once in 10^13
        for attempt in range(limit):
            made = self.make(streams.generator(f"problem {split}", attempt, index))
            if self.holds_out(made.prompt) == (split == "held_out"):
                return replace(made, key=index, split=split, payload=_as_json(made.payload))
        raise UsageError(
            f"{type(self).__name__} has too few distinct problems: {limit} draws gave none that is "
            f"{'held out' if split == 'held_out' else 'for training'} (held_out_share={share})"
        )

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> list[str]:
        """What the policy is asked: the prompts, or other words for them."""
        self._open().update(zip(lanes, tasks, strict=True))
        return [task.shown for task in tasks]

    def step(self, actions: Sequence[str], lanes: Sequence[int]) -> Outcome:
        """One answer a lane; every episode ends here. Raises ValueError for a lane that was not reset."""
        verdicts = self.judge(list(zip(self.running(lanes), actions, strict=True)))
        for lane in lanes:
            del self._open()[lane]
        count = len(verdicts)
        return Outcome(
            observation=[""] * count,
            reward=np.array([v.reward if v.valid else 0.0 for v in verdicts], np.float32),
            terminated=np.ones(count, np.bool_),
            truncated=np.zeros(count, np.bool_),
            invalid={i: v.reason for i, v in enumerate(verdicts) if not v.valid},
        )

    def running(self, lanes: Sequence[int]) -> list[Task]:
        """The tasks of the episodes on these lanes. Raises ValueError for a lane that was not reset."""
        found = self._open()
        missing = [lane for lane in lanes if lane not in found]
        if missing:
            raise ValueError(f"lane {missing[0]} has no running episode: reset it first")
        return [found[lane] for lane in lanes]

    def judge(self, answers: Sequence[tuple[Task, str]]) -> list[Verdict]:
        """A verdict on each (task, answer), through the guard."""
        guard = self.__dict__.get("_guard")
        if guard is None:
            guard = self.__dict__["_guard"] = Guard(self, self._given, self.time_limit)
        found: list[Verdict] = guard.judge(answers)
        return found

    def close(self) -> None:
        guard = self.__dict__.pop("_guard", None)
        if guard is not None:
            guard.close()

    def _open(self) -> dict[int, Task]:
        # made on demand, as the cache and the guard are: a subclass's __init__ need not call ours
        found: dict[int, Task] = self.__dict__.setdefault("_running", {})
        return found


def again(world: World, task: Task, talk: Sequence[str], kind: str, variant: str = "") -> Task:
    """What the last message of a talk answered, asked again with that message shown, as the world's phrase of a kind
    ("improve", "diverge"); what lies before it, messages and replies in turn, stays as it was.

    Raises UsageError for a world that has no phrases.
    """
    if not isinstance(world, TextWorld):
        raise UsageError(f"{type(world).__name__} cannot ask a problem in other words: it is no TextWorld")
    *said, answer = talk
    if not said:
        return task.put(world.phrase(kind, task, answer=answer), variant or kind)
    return task.after(said, world.phrase(kind, task, prompt=said[-1], answer=answer), variant or kind)


def begin(world: World, tasks: Sequence[Task], lanes: Sequence[int]) -> tuple[list[str], list[list[float]]]:
    """Starts episodes on these lanes and gives the world again what was said in them before: what it asks first, and
    for each episode the rewards of the messages that were given again.

    Raises UsageError where the world replies otherwise than it did: a partial history can be restored only where the
    task and the messages decide what comes.
    """
    fresh = [replace(task, said=(), now="") if task.said else task for task in tasks]
    opening, paid = list(world.reset(fresh, lanes)), [list[float]() for _ in tasks]
    for turn in range(max((len(task.said) // 2 for task in tasks), default=0)):
        rows = [i for i, task in enumerate(tasks) if len(task.said) > 2 * turn]
        outcome = world.step([tasks[i].said[2 * turn] for i in rows], [lanes[i] for i in rows])
        for j, i in enumerate(rows):
            over = outcome.terminated[j] or outcome.truncated[j] or j in outcome.invalid
            if over or outcome.observation[j] != tasks[i].said[2 * turn + 1]:
                raise UsageError(
                    f"{type(world).__name__} does not reply to the same messages as it did before: a partial history "
                    "can be restored only in a world that task and answers decide"
                )
            paid[i].append(float(outcome.reward[j]))
    return opening, paid


def turns_of(answer: Answer) -> list[str]:
    """What is said and replied, in turn."""
    return [answer] if isinstance(answer, str) else list(answer)


def place(prompt: str) -> float:
    """Where a prompt falls in [0, 1): the same on every machine and for every seed."""
    return int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def _as_json(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload as the verifier process will see it. Raises UsageError if it is no JSON."""
    if not payload:
        return payload
    try:
        found: dict[str, Any] = json.loads(json.dumps(payload))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the payload of a task has to be JSON: {error}") from None
    return found
