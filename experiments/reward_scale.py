"""A link of one's own in the credit chain: rewards over the running deviation of their discounted sums.

Critics of small networks cannot follow returns in the hundreds with steps of 3e-4; released code of PPO and MDPO for
MuJoCo divides rewards so. Statistics start anew at each piece of an episode, which released code does only where an
episode ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pilotage.credit.groups import merged, moments
from pilotage.credit.returns import discounted
from pilotage.data.batch import Batch
from pilotage.losses.reduce import Sum, alone


class RewardScale:
    """Divides `reward` [D] by the deviation of all discounted returns-to-go seen so far, and clips it to ±limit."""

    def __init__(self, *, discount: float = 0.99, limit: float = 10.0) -> None:
        self.discount, self.limit = discount, limit
        self.seen = torch.zeros(3, dtype=torch.float64)

    def __call__(self, batch: Batch, over_ranks: Sum = alone) -> Batch:
        to_go = discounted(batch["reward"], batch.offsets, self.discount)
        self.seen = merged(self.seen, moments(to_go, over_ranks))
        deviation = (self.seen[2] / (self.seen[0] - 1).clamp(min=1)).sqrt() + 1e-8
        return batch.with_columns(reward=(batch["reward"] / deviation).clamp(-self.limit, self.limit).float())

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]
