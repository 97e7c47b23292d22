"""Losses of denoisers."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.terms import Terms


def denoising_error(said: Tensor, asked: Tensor) -> Terms:
    """Mean over a sample's entries of (what the network says - what it was asked)², per decision [S].

    Asked for the noise it is the simple loss of Ho et al. 2020, eq. 14.
    """
    return Terms((said - asked).square().flatten(1).mean(-1))
