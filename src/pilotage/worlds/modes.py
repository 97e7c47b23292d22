"""Problems that can be answered in several modes: at once, worked through, or by asking a tool.

A message begins with the tag of its mode. Sums, in the three modes that this world has:

    3+4-5=    I2                        instant: the answer
    3+4-5=    R3;7;2                    reasoning: the totals so far, then the answer
    3+4-5=    T[3+4-5]  →  2  →  2      tool: a call in brackets ends the message, the world replies, an answer follows

Imports no torch: verifier processes load this.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import ClassVar

import numpy as np

from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task, Text
from pilotage.worlds import phrases
from pilotage.worlds.arithmetic import terms_of
from pilotage.worlds.base import Outcome
from pilotage.worlds.text import TextWorld

INTEGER = r"-?[0-9]{1,12}"
CALL = re.compile(r"[IRT]?\[([^\[\]]*)\]")
SUM = re.compile(r"[+-]?[0-9]{1,9}(?:[+-][0-9]{1,9})*")
ALONE = {"instant": re.compile(f"I{INTEGER}"), "reasoning": re.compile(f"R{INTEGER}(?:;{INTEGER})+")}
LONGEST_CALL = 64  # characters of an expression that the tool reads
NO_REPLY = "?"  # what a call that failed is answered with


class ModeWorld(TextWorld):
    """A world whose answers are of one of several modes, told by how the first message begins; a mode may take turns.

    modes: name → the text that a message of the mode begins with; none begins another. instant: the mode that costs
    least. call_cost: what a reply of the world costs, in generated tokens.
    """

    kind = "modes"
    modes: Mapping[str, str]
    instant: str
    call_cost: float

    @abstractmethod
    def reply(self, task: Task, messages: Sequence[str]) -> str | None:
        """What the world says to the last of an episode's messages; None if that ends the episode. It has to be None
        from some number of messages on."""

    @abstractmethod
    def obeys(self, mode: str, messages: Sequence[str]) -> bool:
        """Whether an episode's messages have the form of this mode."""

    def mode_of(self, message: str) -> str:
        """The mode of an episode's first message; empty if it has none."""
        return next((name for name, prefix in self.modes.items() if message.startswith(prefix)), "")

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> list[str]:
        self._messages().update({lane: [] for lane in lanes})
        return super().reset(tasks, lanes)

    def step(self, actions: Sequence[str], lanes: Sequence[int]) -> Outcome:
        """One message a lane; the last one of an episode is judged. Raises ValueError for a lane that was not reset."""
        count, said = len(lanes), self._messages()
        observation, last = [""] * count, []
        for i, (lane, task) in enumerate(zip(lanes, self.running(lanes), strict=True)):
            said[lane].append(actions[i])
            reply = self.reply(task, said[lane])
            if reply is None:
                del said[lane]
                last.append(i)
            else:
                observation[i] = reply
        over = super().step([actions[i] for i in last], [lanes[i] for i in last])
        reward, terminated = np.zeros(count, np.float32), np.zeros(count, np.bool_)
        reward[last], terminated[last] = over.reward, True
        invalid = {last[i]: reason for i, reason in over.invalid.items()}
        return Outcome(observation, reward, terminated, np.zeros(count, np.bool_), invalid)

    def _messages(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = self.__dict__.setdefault("_said", {})
        return found


class Sums(ModeWorld):
    """Sums of different lengths, each of which may be answered instantly, by running totals, or with a tool that adds.

    terms: how many a sum may have; every length is as frequent as any other and is a problem's category. digits: of
    each term. failing: how often a call gets `?` in place of a number, drawn with the problem. max_calls: a message
    after so many replies is the last, whatever it is. call_cost: of a call, in generated tokens.

    Accuracy asks for the right number after the last `;` and nothing more; whether a mode's form is kept is another
    question (`obeys`). Worked solutions are of a mode drawn uniformly. Raises UsageError for sizes out of range.
    """

    metric: ClassVar[str] = "accuracy"
    modes: Mapping[str, str] = {"instant": "I", "reasoning": "R", "tool": "T"}
    instant = "instant"
    phrases = phrases.COMPACT

    def __init__(
        self,
        *,
        terms: Sequence[int] = (2, 3, 4, 5),
        digits: int = 1,
        failing: float = 0.05,
        max_calls: int = 2,
        call_cost: float = 30.0,
        seed: int = 0,
        held_out_share: float = 1 / 8,
        time_limit: float | None = 5.0,
    ) -> None:
        super().__init__(seed=seed, held_out_share=held_out_share, time_limit=time_limit)
        if not terms or min(terms) < 2 or not 1 <= digits <= 6 or max(terms) * (digits + 1) > LONGEST_CALL:
            raise UsageError(
                f"sums have at least two terms of 1 to 6 digits, and {LONGEST_CALL} characters at most; not "
                f"{list(terms)} of {digits}"
            )
        if not 0 <= failing < 1 or max_calls < 1 or call_cost < 0:
            raise UsageError(
                f"calls fail with a probability from 0 up to 1, at least one is allowed and costs 0 or more; not "
                f"{failing}, {max_calls} and {call_cost}"
            )
        self.terms, self.digits, self.failing = tuple(terms), digits, failing
        self.max_calls, self.call_cost = max_calls, float(call_cost)
        question = max(terms) * (digits + 1)
        total = len(str(max(terms) * 10**digits)) + 1  # and a sign
        longest = max(max(terms) * (total + 1), question + 2)
        self.observation = Text(question + 2, "0123456789+-=" + NO_REPLY)
        self.action = Text(longest + 2, "".join(self.modes.values()) + "0123456789+-;[]")

    def make(self, rng: np.random.Generator) -> Task:
        count = int(rng.choice(self.terms))
        numbers = rng.integers(10 ** (self.digits - 1) if self.digits > 1 else 0, 10**self.digits, size=count)
        signs = rng.choice(["+", "-"], size=count - 1)
        asked = str(numbers[0]) + "".join(f"{s}{n}" for s, n in zip(signs, numbers[1:], strict=True))
        fails = [bool(fate < self.failing) for fate in rng.random(self.max_calls)]
        return Task(
            prompt=f"{asked}=", answer=str(calculate(asked)), category=f"{count} terms", payload={"fails": fails}
        )

    def verify(self, task: Task, answer: str) -> float:
        """1 if what follows the last `;`, or the tag, is the number as it is usually written."""
        bare = answer.removeprefix(self.modes.get(self.mode_of(answer), ""))
        return float(bare.rpartition(";")[2] == task.answer)

    def reply(self, task: Task, messages: Sequence[str]) -> str | None:
        call, calls = CALL.fullmatch(messages[-1]), len(messages)
        if call is None or calls > self.max_calls:
            return None
        found = None if task.payload["fails"][calls - 1] else calculate(call[1])
        return NO_REPLY if found is None else str(found)

    def obeys(self, mode: str, messages: Sequence[str]) -> bool:
        *calls, last = messages
        if mode in ALONE:
            return not calls and ALONE[mode].fullmatch(last) is not None
        asked = [CALL.fullmatch(call.removeprefix("T") if i == 0 else call) for i, call in enumerate(calls)]
        well = all(found is not None and found[0][0] == "[" and calculate(found[1]) is not None for found in asked)
        return bool(calls) and calls[0][:1] == "T" and well and re.fullmatch(INTEGER, last) is not None

    def demonstrate(self, task: Task, rng: np.random.Generator) -> list[str]:
        return self.worked(task, str(rng.choice(list(self.modes))))

    def solution(self, task: Task) -> str:
        """The answer, instantly."""
        return self.worked(task, self.instant)[0]

    def worked(self, task: Task, mode: str) -> list[str]:
        """What is said and replied, in turn, where a problem is solved in this mode."""
        asked, tag = task.prompt.removesuffix("="), self.modes[mode]
        if mode == "instant":
            return [tag + task.answer]
        if mode == "reasoning":
            return [tag + ";".join(map(str, accumulate(terms_of(asked))))]
        said = [f"{tag}[{asked}]"]
        while (reply := self.reply(task, said[::2])) is not None:
            said += [reply, f"[{asked}]" if reply == NO_REPLY else task.answer]
        return [*said[:-1], task.answer]  # the last call that is allowed may fail as well


def calculate(expression: str) -> int | None:
    """The value of a sum of whole numbers of at most nine digits; None for anything else, and for what is too long."""
    if len(expression) > LONGEST_CALL or not SUM.fullmatch(expression):
        return None
    return sum(terms_of(expression))


__all__ = ["ModeWorld", "Sums", "calculate"]
