"""What a record of thinking under budgets says: see `pilotage.rollouts.budgets`, which makes it."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.batch import Batch


def by_budget(batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean score of each thought's valid episodes at each budget [T, S], and where there is one [T, S]; thoughts in
    the order of their numbers."""
    _, thought = torch.unique(batch["thought"], return_inverse=True)
    stands = batch["stands_for"].double() * batch.valid.double().unsqueeze(-1)
    returns = torch.where(batch.valid, batch.returns.double(), 0.0)
    empty = stands.new_zeros(int(thought.max()) + 1 if len(thought) else 0, stands.shape[1])
    count = empty.index_add(0, thought, stands)
    total = empty.index_add(0, thought, stands * returns.unsqueeze(-1))
    return total / count.clamp(min=1), count > 0
