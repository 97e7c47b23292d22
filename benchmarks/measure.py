"""What a repeat measured, and what repeats say together. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One repeat: an amount of work done, in wall seconds and in processor seconds (children included).

    multiply_adds: the least that the work needs (see `arithmetic`); 0 where it is not counted. facts: what else came
    out, to judge that both sides did the same.
    """

    amount: float
    seconds: float
    cpu_seconds: float
    multiply_adds: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """Ours over the peer's: of the medians, and the smallest and largest of the alternating pairs."""

    value: float
    low: float
    high: float


def values(repeats: Sequence[Measured], kind: str, *, cpu: bool = False) -> list[float]:
    """What a row of this kind tells of each repeat: seconds for a unit of work, an amount of memory, else a rate."""
    if kind == "memory":
        return [r.amount for r in repeats]
    found = rates(repeats, cpu=cpu)
    return [1 / rate for rate in found] if kind == "seconds" else found


def rates(repeats: Sequence[Measured], *, cpu: bool = False) -> list[float]:
    """Amount per second of each repeat."""
    return [r.amount / (r.cpu_seconds if cpu else r.seconds) for r in repeats]


def ratio(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """Of rates that were measured in alternation. Raises ValueError unless there are as many of each, at least one."""
    pairs = [a / b for a, b in zip(ours, peer, strict=True)]
    if not pairs:
        raise ValueError("a ratio needs at least one pair of repeats")
    return Ratio(statistics.median(ours) / statistics.median(peer), min(pairs), max(pairs))


def share_of_limit(repeats: Sequence[Measured], gigaflops: float) -> float | None:
    """Median share of the time that the multiply-adds alone would take at this rate (2 operations each)."""
    shares = [2e-9 * r.multiply_adds / gigaflops / r.seconds for r in repeats if r.multiply_adds]
    return statistics.median(shares) if shares else None


def mean_facts(repeats: Sequence[Measured]) -> dict[str, float]:
    """The mean over repeats of each fact."""
    names = repeats[0].facts if repeats else {}
    return {name: statistics.fmean(r.facts[name] for r in repeats) for name in names}


def summary(repeats: Sequence[Measured], gigaflops: float, kind: str) -> dict[str, Any]:
    """One side of the record of a row of this kind."""
    found = values(repeats, kind)
    return {
        "median": statistics.median(found),
        "median_by_processor_time": statistics.median(values(repeats, kind, cpu=True)),
        "repeats": found,
        "share_of_matrix_limit": share_of_limit(repeats, gigaflops),
        "facts": mean_facts(repeats),
    }
