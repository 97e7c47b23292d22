"""A replay store: transitions in flat circular arrays, each observation kept once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.weighted import Rows, Weighted

GOES_ON, TERMINATED, CUT, LAST = range(4)  # of a row: what followed; LAST rows hold a final observation and no decision
KEPT = ("observation", "action", "reward")


class Replay:
    """The last `capacity` decisions; for each new one, `updates_per_decision` batches of `decisions_per_batch`.

    A row is followed by the row of its next observation, so none is stored twice: an episode costs one row more than
    its decisions. Rows are drawn with replacement by the step's own stream: in proportion to the column `draw_weight`
    where the recipe's credit chain writes one, which batches then have too, else uniformly. Nothing is drawn before
    `start_after` decisions. Batches are episodes of one decision: columns `observation`, `action`, `reward`, and per
    episode `terminated` and `final_observation`, the next observation.
    """

    def __init__(
        self,
        *,
        capacity: int = 1_000_000,
        decisions_per_batch: int = 256,
        updates_per_decision: float = 1.0,
        start_after: int = 1000,
    ) -> None:
        if capacity < 2 or decisions_per_batch < 1 or updates_per_decision <= 0:
            raise UsageError("capacity is at least 2, decisions_per_batch at least 1, updates_per_decision above 0")
        self.capacity, self.decisions_per_batch = capacity, decisions_per_batch
        self.updates_per_decision, self.start_after = updates_per_decision, start_after
        self.rows: dict[str, Tensor] = {}
        self.weighted: Weighted | None = None
        self.heads: list[int] = []  # per lane: rows ever written
        self.seen = 0
        self.owed = 0.0  # batches that new decisions have earned and that were not drawn yet

    def __len__(self) -> int:
        """Decisions held."""
        return int((self.rows["kind"] != LAST).sum()) if self.rows else 0

    def add(self, batch: Batch) -> None:
        """Takes the valid episodes of a step; those of one lane must come in the order in which they were played."""
        lanes = batch["lane"].tolist() if "lane" in batch else [0] * len(batch)
        if not self.rows:
            self._allocate(batch, max(lanes) + 1)
        elif max(lanes) >= len(self.heads):
            raise ValueError(f"the store was made for {len(self.heads)} lanes; this batch has more")
        valid, bounds = batch.valid.tolist(), batch.offsets.tolist()
        for episode, lane in enumerate(lanes):
            if valid[episode]:
                self._write(batch, episode, lane, bounds[episode], bounds[episode + 1])
        fresh = int(batch.lengths[batch.valid].sum())
        self.seen += fresh
        if self.seen >= self.start_after:
            self.owed += fresh * self.updates_per_decision

    def _allocate(self, batch: Batch, lanes: int) -> None:
        self.heads = [0] * lanes
        each = self.capacity // lanes + 1
        shapes = {name: batch[name] for name in KEPT}
        # untouched pages cost nothing, so the whole capacity can be asked for at once; zeros, since the action and the
        # reward of a LAST row are never written, and a checkpoint is to be the same whatever memory held before
        self.rows = {n: torch.zeros((lanes, each, *c.shape[1:]), dtype=c.dtype) for n, c in shapes.items()}
        self.rows["kind"] = torch.full((lanes, each), LAST, dtype=torch.uint8)
        if "draw_weight" in batch:
            self.rows["draw_weight"] = torch.zeros((lanes, each))
        self._weigh()

    def _weigh(self) -> None:
        held = self.rows.get("draw_weight")
        self.weighted = None if held is None else Weighted(held.view(-1).numpy())

    def _write(self, batch: Batch, episode: int, lane: int, start: int, end: int) -> None:
        """An episode's rows and its final observation, over the oldest; one that goes on from the last replaces it."""
        size = self.rows["kind"].shape[1]
        head = self.heads[lane]
        if head and torch.equal(self.rows["observation"][lane, (head - 1) % size], batch["observation"][start]):
            previous = (head - 2) % size
            if head > 1 and self.rows["kind"][lane, previous] == CUT:
                self.rows["kind"][lane, previous] = GOES_ON
                head -= 1
        count = end - start
        if count + 1 > size:
            raise UsageError(f"an episode of {count} decisions does not fit a store of {size - 1} a lane")
        places = torch.arange(head, head + count + 1) % size
        for name in KEPT:
            self.rows[name][lane, places[:-1]] = batch[name][start:end]
        self.rows["observation"][lane, places[-1]] = batch["final_observation"][episode]
        self.rows["kind"][lane, places[:-1]] = GOES_ON
        self.rows["kind"][lane, places[-2]] = TERMINATED if batch["terminated"][episode] else CUT
        self.rows["kind"][lane, places[-1]] = LAST
        if self.weighted is not None:
            self.rows["draw_weight"][lane, places[:-1]] = batch["draw_weight"][start:end].float()
            self.rows["draw_weight"][lane, places[-1]] = 0.0
            self.weighted.changed(lane * size + places.numpy())
        self.heads[lane] = head + count + 1

    def batches(self, streams: Streams, step: int) -> Iterator[Batch]:
        """As many batches as the decisions added have earned."""
        index = 0
        while self.owed >= 1:
            self.owed -= 1
            yield self.draw(streams.generator("replay", step, index), self.decisions_per_batch)
            index += 1

    def draw(self, generator: np.random.Generator, count: int) -> Batch:
        """`count` decisions, with replacement."""
        kinds = self.rows["kind"].flatten(0, 1).numpy()
        chosen = self._chosen(generator, count, kinds)
        size = self.rows["kind"].shape[1]
        following = chosen + 1
        following[following % size == 0] -= size  # a lane's rows are circular
        return Batch(
            torch.arange(count + 1),
            {name: self._taken(name, chosen) for name in self.rows if name != "kind"},
            {
                "terminated": torch.from_numpy(kinds[chosen] == TERMINATED),
                "final_observation": self._taken("observation", following),
            },
        )

    def _chosen(self, generator: np.random.Generator, count: int, kinds: Any) -> Rows:
        if self.weighted is not None:
            return self.weighted.draw(generator, count)
        chosen = self._uniform(generator, count)
        while len(bad := np.flatnonzero(kinds[chosen] == LAST)):  # rows that hold no decision: drawn again
            chosen[bad] = self._uniform(generator, len(bad))
        return chosen

    def _taken(self, name: str, rows: Rows) -> Tensor:
        return self.rows[name].flatten(0, 1).index_select(0, torch.from_numpy(rows))

    def _uniform(self, generator: np.random.Generator, count: int) -> Rows:
        """[count] numbers of rows, counted over all lanes."""
        size = self.rows["kind"].shape[1]
        filled = np.minimum(self.heads, size)
        drawn = generator.integers(filled.sum(), size=count)
        if len(filled) == 1:
            return drawn
        bounds = filled.cumsum()
        lane = np.searchsorted(bounds, drawn, side="right")
        rows: Rows = lane * size + drawn - (bounds - filled)[lane]
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The rows written so far, and where each lane stands."""
        most = max((min(head, self.capacity + 1) for head in self.heads), default=0)
        return {
            "rows": {name: column[:, :most].clone() for name, column in self.rows.items()},
            "heads": list(self.heads),
            "seen": self.seen,
            "owed": self.owed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.heads, self.seen, self.owed = [int(h) for h in state["heads"]], int(state["seen"]), float(state["owed"])
        if self.heads:
            each = self.capacity // len(self.heads) + 1
            self.rows = {}
            for name, kept in state["rows"].items():
                whole = torch.zeros((len(self.heads), each, *kept.shape[2:]), dtype=kept.dtype)
                if name == "kind":
                    whole.fill_(LAST)
                whole[:, : kept.shape[1]] = kept
                self.rows[name] = whole
            self._weigh()
