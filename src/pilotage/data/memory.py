"""A store with a short memory, whose rewards come late: the last generations of which the rewards are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pilotage.data.batch import Batch, concatenate
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams

KEPT = ("observation", "action", "reward", "behaviour_logp", "regret", "copy")


class Memory:
    """Each step is a generation. The learner gets the last `generations` of those that are known (None: all), once for
    each generation that becomes known.

    delay: steps until a generation's rewards come in. late: the share of rewards of the newest known generation that
    are still missing then; such rounds are left out, which is not the same as a reward of 0.
    """

    def __init__(self, *, generations: int | None = 1, delay: int = 0, late: float = 0.0) -> None:
        if (generations is not None and generations < 1) or delay < 0 or not 0 <= late < 1:
            raise UsageError("generations are at least 1 (or none), delay at least 0, and late from 0 to below 1")
        self.generations, self.delay, self.late = generations, delay, late
        self.count = 0
        self.held: list[Batch] = []  # the newest last

    def add(self, batch: Batch) -> None:
        """Takes a step's rounds; forgets those that nobody will ask for again."""
        usable = batch.select(batch.valid) if not bool(batch.valid.all()) else batch
        columns = {name: usable.columns[name] for name in KEPT if name in usable.columns}
        self.held.append(Batch(usable.offsets, columns))
        self.count += 1
        if self.generations is not None:
            self.held = self.held[-(self.generations + self.delay) :]

    def batches(self, streams: Streams, step: int) -> Iterator[Batch]:
        """The window as one batch, if a generation has become known."""
        known = self.held[: len(self.held) - self.delay] if self.delay else list(self.held)
        if not known:
            return
        if self.generations is not None:
            known = known[-self.generations :]
        if self.late:
            missing = streams.generator("late", self.count - 1 - self.delay).random(len(known[-1])) < self.late
            known[-1] = known[-1].select(torch.from_numpy(~missing))
        yield known[0] if len(known) == 1 else concatenate(known)

    def state_dict(self) -> dict[str, Any]:
        """The rounds themselves, generation by generation."""
        return {"count": self.count, "held": [dict(batch.columns) for batch in self.held]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])
        self.held = [Batch(torch.arange(len(c["action"]) + 1), dict(c)) for c in state["held"]]
