"""A world and a policy whose settings lead to the edges: prompts that do not fit, rewards that are all alike, answers
that end at once or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from pilotage.data.tasks import Task, Text, Verdict
from pilotage.policies.characters import Characters
from pilotage.policies.language import TinyLanguageModel
from pilotage.worlds import phrases
from pilotage.worlds.text import TextWorld

DIGITS = "0123456789"


class Edges(TextWorld):
    """Say the digit back. reward: "mixed"; "nothing" or "all", the same for every answer; "broken": some verdicts fail.

    tokens: most of an answer. long: share of the prompts that are 40 characters longer.
    """

    phrases = phrases.COMPACT
    observation = Text(max_tokens=64, alphabet=DIGITS + "=")

    def __init__(self, *, reward: str = "mixed", tokens: int = 3, long: float = 0.0) -> None:
        super().__init__(time_limit=None)
        self.reward, self.long = reward, long
        self.action = Text(max_tokens=tokens, alphabet=DIGITS + "=")

    def make(self, rng: np.random.Generator) -> Task:
        number, padding = str(rng.integers(1000)), "0" * (40 * int(rng.random() < self.long))
        return Task(prompt=f"{padding}{number}=", answer=number[0], category=str(int(number) % 2))

    def verify(self, task: Task, answer: str) -> Verdict | float:
        if self.reward == "broken" and len(answer) % 2:
            raise RuntimeError("the judge is out")
        if self.reward in ("nothing", "all"):
            return float(self.reward == "all")
        return 0.5 * (answer[:1] > "4") + 0.5 * (len(answer) > 1)

    def demonstrate(self, task: Task, rng: np.random.Generator) -> str:
        return task.answer


class ManyEnds(Characters):
    """Characters of which some close a message too: none, a few, or all."""

    closing = 0

    @property
    def ends(self) -> tuple[int, ...]:
        others = [*range(self.end + 1, self.size), self.begin, self.separator]
        return (self.end, *others[: self.closing])


class Closing(TinyLanguageModel):
    """A tiny model with `closing` more end tokens."""

    untrained = False  # no start: what an untrained model says is odd enough

    def __init__(self, observation: Any, action: Any, *, closing: int = 0, critic: bool = False, seed: int) -> None:
        super().__init__(observation, action, hidden=8, layers=1, heads=2, context=32, critic=critic, seed=seed)
        self.tokenizer = ManyEnds(observation.alphabet + action.alphabet)
        self.tokenizer.closing = closing
