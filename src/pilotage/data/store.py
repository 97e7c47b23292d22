"""Stores: what the learner draws its batches from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pilotage.data.batch import Batch
from pilotage.data.rng import Streams


class Fresh:
    """On-policy: the batch of this step, once."""

    def __init__(self) -> None:
        self.held: Batch | None = None

    def add(self, batch: Batch) -> None:
        """Takes a step's groups."""
        self.held = batch

    def batches(self, streams: Streams, step: int) -> Iterator[Batch]:
        """What to learn from in this step."""
        if self.held is not None:
            yield self.held
        self.held = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing outlives a step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""
