"""Losses of state values."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def squared_error(value: Tensor, rows: Minibatch, *, clip: float | None = None) -> Terms:
    """(V - G)², per decision [S], G the column `return`; with `clip`, the larger of it and that of V held within `clip`
    of the column `value`. Schulman et al. 2017, section 5; the clipped form is of its released code."""
    error = (value - rows["return"]).square()
    if clip is not None:
        held = rows["value"] + (value - rows["value"]).clamp(-clip, clip)
        error = torch.maximum(error, (held - rows["return"]).square())
    return Terms(error)
