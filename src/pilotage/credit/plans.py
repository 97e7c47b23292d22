"""What windows get as they are drawn: goals in hindsight, and which of them to leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.policies.denoise.guidance import kept


def hindsight(batch: Batch, generator: np.random.Generator, policy: Any, store: Any, *, separation: int = 0) -> Batch:
    """Per episode `goal` [E, 1, G]: what was achieved later in the same logged episode, after the window.

    The policy says which entries of an observation are achieved (`policy.achieved`). `separation` decisions at least
    lie between the window and its goal. Near the end of an episode the goal is its last observations: released code of
    BESO takes zeros there, which also stand for "no goal". Reuss et al. 2023, section IV."""
    place = batch["place"][batch.offsets[1:] - 1]
    uniform = torch.from_numpy(generator.random(len(batch)))
    seen = store.later(place, uniform, 1, separation)
    return batch.with_episode(goal=seen[..., list(policy.achieved)])


def drop_goals(batch: Batch, generator: np.random.Generator, *, share: float = 0.1) -> Batch:
    """Per episode `goal_kept` [E] bool: whole goals are left out for a share of the windows, which is what lets one
    network act without a goal too. Ho & Salimans 2022."""
    return batch.with_episode(goal_kept=kept(torch.from_numpy(generator.random(len(batch))), share))
