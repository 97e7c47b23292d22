"""How reasoning problems are put to a chat model: after worked ones, as earlier turns of a conversation.

A small model that is only told how to answer talks about the problem; one that has seen two answers gives a third. Sums
are answered with the whole equation, which a small model gets right far more often than the bare result.
Imports no torch: verifier processes load this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilotage.data.tasks import TURN


@dataclasses.dataclass(frozen=True)
class Chat:
    """How an answer is worded (from the entry's metadata and the answer), what precedes its judged part, and a size for
    small models."""

    worded: Callable[[Mapping[str, Any], str], str] = lambda _, answer: answer
    marker: str = ""
    size: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of its configuration


def _equation(metadata: Mapping[str, Any], answer: str) -> str:
    return f"{metadata['expression']} = {answer}"


PAIRS = {"min_terms": 2, "max_terms": 2, "min_digits": 1}
PLAIN = Chat()
CHAT = {
    "basic_arithmetic": Chat(_equation, "=", {**PAIRS, "max_digits": 1}),
    "chain_sum": Chat(_equation, "=", {**PAIRS, "max_digits": 2}),
    "products": Chat(_equation, "=", {**PAIRS, "max_digits": 1}),
}


def conversation(worked: Sequence[tuple[str, str]], question: str, instruction: str) -> str:
    """A question after worked ones (question, answer); the instruction follows each question."""
    below = f"\n{instruction}" if instruction else ""
    turns = [part for asked, answer in worked for part in (asked + below, answer)]
    return TURN.join([*turns, question + below])
