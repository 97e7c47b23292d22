"""Windows of decisions around a present one, cut from a logged data set: what plans of actions are learnt from.

Where "now" is in a window is said here and nowhere else. A window of `history` observations and `horizon` actions has
history - 1 + horizon decisions, and index history - 1 is now:

    index         0      …   history - 1   …   history + horizon - 2
    observation   o_0    …   o_now             (later ones are not known when acting)
    action        a_0    …   a_now         …   the last one planned

So a plan covers the past decisions too, its entry `now` is the action to take, and those after it are the ones to come.
Shifting a plan by a decision drops index 0. (Chi et al. 2023 lay out horizons in the same way.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.offline import Offline
from pilotage.data.piece import UsageError


@dataclass(frozen=True)
class Span:
    """How far a window reaches: `history` observations up to now, `horizon` actions from now on, each at least 1."""

    history: int
    horizon: int

    def __post_init__(self) -> None:
        if self.history < 1 or self.horizon < 1:
            raise UsageError(f"history and horizon are at least 1, not {self.history} and {self.horizon}")

    @property
    def now(self) -> int:
        """The index of the present decision."""
        return self.history - 1

    @property
    def length(self) -> int:
        """Decisions in a window."""
        return self.history - 1 + self.horizon


def shifted(plan: Tensor) -> Tensor:
    """[n, W, …] a plan one decision later: its first entry dropped, its last one repeated."""
    return torch.cat([plan[:, 1:], plan[:, -1:]], dim=1)


class Windows(Offline):
    """As Offline, but each of the `decisions_per_batch` draws is an episode of a whole window around the drawn
    decision, which is its now.

    Where a window reaches over an end of its episode, the first or the last decision is repeated; such places have
    `sampled` false, so that no loss counts them, unless `learn_padding` (then a plan learns to go on as it ended).
    Columns: `observation`, `action`, `reward`, `sampled`, and `place` [D], the decision's number in the record. Per
    episode: `now`, the same for all; `terminated`, whether the window's episode had its end in it.
    """

    def __init__(
        self,
        *,
        data: str = "",
        digest: str = "",
        decisions_per_batch: int = 256,
        batches_per_step: int = 100,
        history: int = 1,
        horizon: int = 1,
        learn_padding: bool = False,
    ) -> None:
        super().__init__(
            data=data, digest=digest, decisions_per_batch=decisions_per_batch, batches_per_step=batches_per_step
        )
        self.span, self.learn_padding = Span(history, horizon), learn_padding

    def draw(self, generator: np.random.Generator, count: int) -> Batch:
        """`count` windows, their nows drawn with replacement."""
        record, span = self._filled(), self.span
        now = self.rows(generator, count)
        episode = torch.searchsorted(record.offsets, now, right=True) - 1
        first, last = record.offsets[episode].unsqueeze(1), record.offsets[episode + 1].unsqueeze(1) - 1
        asked = now.unsqueeze(1) + torch.arange(span.length) - span.now
        places = asked.clamp(min=first, max=last)
        inside = torch.full_like(places, True, dtype=torch.bool) if self.learn_padding else asked == places
        flat = places.flatten()
        columns = {name: record[name][flat] for name in ("observation", "action", "reward")}
        return Batch(
            torch.arange(count + 1) * span.length,
            {**columns, "sampled": inside.flatten(), "place": flat},
            {
                "now": torch.full((count,), span.now),
                "terminated": record["terminated"][episode] & (asked[:, -1] >= last[:, 0]),
            },
        )

    def later(self, place: Tensor, uniform: Tensor, count: int, separation: int = 0) -> Tensor:
        """[n, count, …] observations that follow decisions `place` [n] in their episodes: `count` in a row, the first
        at least 1 + `separation` decisions later and drawn evenly by `uniform` [n] from [0, 1).

        Near an end, where there is no such row, they are the last ones there are: never a made-up one. The observation
        after an episode's last decision counts.
        """
        record = self._filled()
        episode = torch.searchsorted(record.offsets, place, right=True) - 1
        # numbers within the episode; T decisions have T + 1 observations
        at, decisions = place - record.offsets[episode], record.lengths[episode]
        highest = (decisions + 1 - count).clamp(min=0)
        lowest = torch.minimum(at + 1 + separation, highest)
        begin = lowest + (uniform * (highest - lowest + 1)).long().clamp(max=highest - lowest)
        wanted = torch.minimum(begin.unsqueeze(1) + torch.arange(count), decisions.unsqueeze(1))
        final = wanted == decisions.unsqueeze(1)
        rows = record.offsets[episode].unsqueeze(1) + wanted - final.long()
        seen: Tensor = record["observation"][rows]
        seen[final] = record["final_observation"][episode.unsqueeze(1).expand_as(final)[final]]
        return seen


def of_window(batch: Batch, span: Span, name: str) -> Tensor:
    """[E, W, …] a column of windows. Raises UsageError where the windows are not as the policy wants them."""
    found: Any = batch.episode.get("now")
    if batch.decisions != len(batch) * span.length or found is None or int(found[0]) != span.now:
        raise UsageError(
            f"the policy plans with history {span.history} and horizon {span.horizon}, the store cuts other windows: "
            "set store.history and policy.history, store.horizon and policy.horizon alike"
        )
    column = batch[name]
    return column.reshape(len(batch), span.length, *column.shape[1:])
