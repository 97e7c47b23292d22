"""Tasks, verdicts and the spaces that worlds speak in. Imports no torch: verifier processes load this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Split = Literal["train", "held_out"]
TURN = "\x1e"  # parts a text that is a conversation: a question, its answer, a question …


@dataclass(frozen=True)
class Text:
    """A space of texts; `alphabet` is every character that can occur (empty: any), `max_tokens` bounds one message."""

    max_tokens: int = 64
    alphabet: str = ""


@dataclass(frozen=True)
class Task:
    """One problem: what `World.reset` starts from. `key` is its number in the split; `payload` is JSON-able.

    asked: what the policy is shown in place of `prompt`: a hint appended, an earlier answer, other words. variant: what
    was done to it, such as "hint 0.25"; empty for the problem as it is. Answers are judged by `prompt` all the same.
    said: messages and the world's replies to them, in turn, that an episode goes on from: it begins with the next
    message, and the world is given the earlier ones again. now: what is shown in place of the last of these replies.
    """

    key: int = 0
    split: Split = "train"
    prompt: str = ""
    answer: str = ""  # the gold answer, where there is one; never shown to the policy
    category: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    asked: str = ""
    variant: str = ""
    said: tuple[str, ...] = ()
    now: str = ""

    @property
    def shown(self) -> str:
        """What the policy reads first."""
        return self.asked or self.prompt

    @property
    def heard(self) -> tuple[str, ...]:
        """What was said and replied before, as the policy reads it."""
        return (*self.said[:-1], self.now or self.said[-1]) if self.said else ()

    def put(self, asked: str, variant: str) -> Task:
        """The same problem, asked in other words."""
        return replace(self, asked=asked, variant=variant)

    def after(self, said: Sequence[str], now: str, variant: str) -> Task:
        """The same problem gone on with after these messages and replies, the last reply in other words."""
        return replace(self, said=tuple(said), now=now, variant=variant)


@dataclass(frozen=True)
class Verdict:
    """What a verifier found: a reward, or *invalid* with a reason (never to be read as 0)."""

    reward: float = 0.0
    reason: str = ""  # non-empty: invalid

    @property
    def valid(self) -> bool:
        return not self.reason

    @staticmethod
    def value(reward: float) -> Verdict:
        """A verdict that counts. NaN and infinities become invalid."""
        number = float(reward)
        if number != number or number in (float("inf"), float("-inf")):
            return Verdict(reason=f"the verifier returned {number}")
        return Verdict(number)

    @staticmethod
    def invalid(reason: str) -> Verdict:
        """A verdict that says nothing about the answer: the verifier failed."""
        return Verdict(reason=reason or "no reason given")
