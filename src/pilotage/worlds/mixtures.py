"""Mixtures of worlds that come with the library, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.data.piece import UsageError, nearest

Parts = Mapping[str, Mapping[str, Any]]


def _sums(terms: int, digits: int) -> dict[str, Any]:
    size = {"min_terms": terms, "max_terms": terms, "min_digits": digits, "max_digits": digits}
    return {"world": "reasoning:chain_sum", "settings": size}


def _sizes(*sizes: tuple[int, int]) -> dict[str, Any]:
    return {f"{terms}x{digits}": _sums(terms, digits) for terms, digits in sizes}


# by name: the parts, easiest first, and harder ones that are only judged
MIXTURES: Mapping[str, Mapping[str, Parts]] = {
    "sums": {
        "parts": _sizes((2, 1), (3, 1), (4, 1), (5, 1), (2, 2), (3, 2)),
        "beyond": _sizes((6, 1), (4, 2)),
    },
}


def mixture(name: str) -> Mapping[str, Parts]:
    """The parts of a mixture that comes with the library. Raises UsageError with the nearest."""
    if name not in MIXTURES:
        raise UsageError(f"there is no mixture {name!r}; {nearest(name, MIXTURES)}")
    return MIXTURES[name]
