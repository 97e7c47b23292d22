"""In which order numbers of tasks come: a walk without end, or a shuffled pool."""

from __future__ import annotations

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams


def walk_start(streams: Streams) -> int:
    """Where the walk 0, 1, 2, … through a world's tasks starts under a seed: runs of different seeds see different
    tasks."""
    return streams.number("tasks/start") % 2**40


def check_pool(pool: int | None) -> None:
    """Raises UsageError for a pool without tasks."""
    if pool is not None and pool < 1:
        raise UsageError(f"a pool has at least one task, not {pool}")


class Shuffled:
    """Numbers 0 … pool - 1, each once before any comes again; `reshuffle`: in another order each time round.

    The place is all there is to remember: an order is drawn from the named stream at the count of rounds before it.
    """

    def __init__(self, streams: Streams, name: str, pool: int, *, reshuffle: bool) -> None:
        self.streams, self.name, self.pool, self.reshuffle = streams, name, pool, reshuffle
        self.round = -1
        self.order: list[int] = []

    def at(self, place: int) -> int:
        """The number at a place, counted from 0 without end."""
        found, within = divmod(place, self.pool)
        found = found if self.reshuffle else 0
        if found != self.round:
            self.round, self.order = found, self.streams.generator(self.name, found).permutation(self.pool).tolist()
        return self.order[within]
