"""The text world of the benchmarks: short prompts, and a reward that costs nothing. Imports no torch (see worlds)."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task, Text
from pilotage.worlds.text import TextWorld

ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n"  # 96 characters, 99 tokens
MOST_TOKENS = 128


def prompt(rng: np.random.Generator, terms: int | None = None) -> str:
    """A sum of so many numbers, or of two to four: 6 to 16 characters."""
    return "+".join(str(n) for n in rng.integers(10, 1000, size=terms or rng.integers(2, 5))) + "="


def reward(text: str) -> float:
    """The share of the characters that are letters: varies in every group, and nothing to parse."""
    return sum(character.isalpha() for character in text) / max(len(text), 1)


class Sums(TextWorld):
    """Prompts of sums; what is rewarded has nothing to do with them."""

    observation: Any = Text(max_tokens=32, alphabet=ALPHABET)
    action: Any = Text(max_tokens=MOST_TOKENS, alphabet=ALPHABET)

    def make(self, rng: np.random.Generator) -> Task:
        """One prompt."""
        return Task(prompt=prompt(rng))

    def verify(self, task: Task, answer: str) -> float:
        """See `reward`."""
        return reward(answer)


class Terms(Sums):
    """The same, each number of terms a category."""

    categories: tuple[str, ...] = ("2", "3", "4")
    beyond: tuple[str, ...] = ()

    def task_of(self, category: str, index: int, split: Split) -> Task:
        """Task number `index` of a category."""
        rng = Streams(self.seed).generator(f"{category} {split}", index)
        return Task(index, split, prompt(rng, int(category)), category=category)


class Thoughts(Sums):
    """Thinking ends at a semicolon, one character in 96 by chance."""

    marker = ";"


class Digits(Sums):
    """An answer is right if it begins with a digit: of eight by chance, none is in four groups of ten."""

    def make(self, rng: np.random.Generator) -> Task:
        """A prompt, and what it comes to."""
        asked = prompt(rng)
        return Task(prompt=asked, answer=str(sum(int(term) for term in asked.removesuffix("=").split("+"))))

    def verify(self, task: Task, answer: str) -> float:
        """Whether it begins with a digit."""
        return float(answer[:1].isdigit())
