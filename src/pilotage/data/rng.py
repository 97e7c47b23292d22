"""Randomness by counter: (seed, stream name, step, index) gives each draw, so nothing random is ever saved."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np


@functools.lru_cache(maxsize=256)
def _key(seed: int, name: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A stream's key, two words."""
    return np.frombuffer(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:16], dtype=np.uint64)


@dataclass(frozen=True)
class Streams:
    """Independent named streams of random numbers under one seed."""

    seed: int

    def generator(self, name: str, step: int = 0, index: int = 0) -> np.random.Generator:
        """The generator of a stream at a step and index: the same at every call, on every machine (Philox 4x64).

        Raises ValueError for a negative step or index.
        """
        if step < 0 or index < 0:
            raise ValueError("step and index are counted from 0")
        key = _key(self.seed, name)
        # the two low words are left to the draws themselves: 2^128 of them before streams could meet
        return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, index, step], dtype=np.uint64)))

    def number(self, name: str, step: int = 0, index: int = 0) -> int:
        """One integer in [0, 2^63): a seed for something that takes a seed."""
        return int(self.generator(name, step, index).integers(2**63))
