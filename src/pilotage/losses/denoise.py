"""The loss of denoisers."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.terms import Terms


def denoising_error(said: Tensor, wanted: Tensor, level_weight: Tensor) -> Terms:
    """w · mean over dimensions of (F(x) - target)², per decision [S]; F and target [S, …], w [S] as the noise process
    weighs the level. Ho et al. 2020, eq. 14; Karras et al. 2022, eq. 8."""
    return Terms(level_weight * (said - wanted).square().flatten(1).mean(1))
