"""Losses of denoisers."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.terms import Terms


def denoising_error(said: Tensor, asked: Tensor, level_weight: Tensor | None = None) -> Terms:
    """w · mean over a sample's entries of (what the network says - what it was asked)², per decision [S]; w [S] as the
    noise process weighs the level, where the policy says so.

    Asked for the noise it is the simple loss of Ho et al. 2020, eq. 14; Karras et al. 2022, eq. 8.
    """
    error = (said - asked).square().flatten(1).mean(-1)
    return Terms(error if level_weight is None else level_weight * error)
