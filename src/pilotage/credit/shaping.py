"""Links that change rewards. They come before all others, in whatever order a stack of methods names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from pilotage.data.batch import Batch

Link = TypeVar("Link", bound=Callable[..., Any])


def shaping(link: Link) -> Link:
    """Marks a link (a function or a class) that changes rewards."""
    link.shapes_rewards = True  # type: ignore[attr-defined]
    return link


def with_returns(batch: Batch, returns: Tensor) -> Batch:
    """The batch with these returns [E] in place of its own: what is missing is added at each episode's last decision.

    The column `verdict` [D] keeps the rewards as the world gave them. Invalid episodes stay as they are, and so do
    rewards where nothing is missing, to the bit.
    """
    reward = batch["reward"].clone()
    missing = torch.where(batch.valid & (batch.lengths > 0), (returns - batch.returns).to(reward.dtype), 0.0)
    rows = (missing != 0).nonzero().squeeze(-1)
    reward[batch.offsets[1:][rows] - 1] += missing[rows]
    return batch.with_columns(reward=reward, verdict=batch.columns.get("verdict", batch["reward"]))
