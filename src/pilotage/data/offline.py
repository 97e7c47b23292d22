"""A store that is full from the start: a logged data set, from which the learner draws decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data import dataset
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.weighted import Weighted


class Offline:
    """`batches_per_step` batches a step of `decisions_per_batch` decisions of the data set `data`, with replacement.

    Rows are drawn in proportion to the column `draw_weight` where the recipe's credit chain wrote one, else uniformly,
    each batch by the step's own stream. Batches are as those of `Replay`: episodes of one decision, columns
    `observation`, `action`, `reward`, per episode `terminated` and `final_observation`, the next observation.

    digest: of the data set when the recipe was made; empty: any. Nothing of the data goes into a checkpoint: a resumed
    run reads them again, and refuses others. Raises UsageError.
    """

    def __init__(
        self, *, data: str = "", digest: str = "", decisions_per_batch: int = 256, batches_per_step: int = 100
    ) -> None:
        if decisions_per_batch < 1 or batches_per_step < 1:
            raise UsageError("decisions_per_batch and batches_per_step are at least 1")
        self.data, self.digest = data, digest
        self.decisions_per_batch, self.batches_per_step = decisions_per_batch, batches_per_step
        self.record: Batch | None = None
        self.weighted: Weighted | None = None
        self.spread: float | None = None

    def open(self, world: Any) -> Batch:
        """Reads the data, for the credit chain to go over before `fill`. Raises UsageError for data that are not those
        of the recipe, or whose spaces are not the world's."""
        found = dataset.load(self.data)
        if self.digest and found.about.digest != self.digest:
            raise UsageError(
                f"the recipe was made for data of digest {self.digest}; {found.about.name} now has {found.about.digest}"
            )
        dataset.check_fits(found.record, found.about.name, world)
        self.spread = dataset.positive_variance(found.record.returns)  # before a link scales rewards
        return found.record

    def fill(self, record: Batch) -> None:
        """Takes the record as the credit chain left it; invalid episodes are left out."""
        record = record if bool(record.valid.all()) else record.select(record.valid)
        self.record, self.weighted = record, None
        if "draw_weight" in record:
            weight = record["draw_weight"].double()
            weighted = Weighted(weight.numpy())
            if not weighted.total > 0:
                raise UsageError("draw weights are finite, at least 0, and not all 0")
            if bool((weight != weight[0]).any()):  # equal weights are none, and draw as without
                self.weighted = weighted

    def facts(self) -> dict[str, float]:
        """What a run logs of its data: the positive-sided variance of returns (as on disk, where they were read), and
        how many decisions the draws are worth, 1 / Σ p²."""
        record = self._filled()
        spread = dataset.positive_variance(record.returns) if self.spread is None else self.spread
        worth = float(record.decisions)
        if self.weighted is not None:
            p = record["draw_weight"].double() / self.weighted.total
            worth = float(1 / p.square().sum())
        return {"data/positive_variance": spread, "data/effective_decisions": worth}

    def _filled(self) -> Batch:
        if self.record is None:
            raise ValueError("the offline store was not filled")
        return self.record

    def add(self, batch: Batch) -> None:
        """Raises UsageError: what is played has no place here."""
        raise UsageError("an offline store takes no new episodes; its rollout is pilotage.rollouts.idle:Idle")

    def batches(self, streams: Streams, step: int) -> Iterator[Batch]:
        """The batches of a step."""
        for index in range(self.batches_per_step):
            yield self.draw(streams.generator("offline", step, index), self.decisions_per_batch)

    def draw(self, generator: np.random.Generator, count: int) -> Batch:
        """`count` decisions, with replacement."""
        record = self._filled()
        chosen = self.rows(generator, count)
        episode = record.owner[chosen]
        last = record.offsets[episode + 1] - 1 == chosen
        following = record["observation"].index_select(0, (chosen + 1).clamp_(max=record.decisions - 1))
        if bool(last.any()):
            following[last] = record["final_observation"][episode[last]]
        return Batch(
            torch.arange(count + 1),
            {name: record[name].index_select(0, chosen) for name in ("observation", "action", "reward")},
            {"terminated": record["terminated"][episode] & last, "final_observation": following},
        )

    def rows(self, generator: np.random.Generator, count: int) -> Tensor:
        """[count] numbers of decisions of the record."""
        if self.weighted is None:
            return torch.from_numpy(generator.integers(self._filled().decisions, size=count))
        return torch.from_numpy(self.weighted.draw(generator, count))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the data are on disk, and draws have their own streams."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""
