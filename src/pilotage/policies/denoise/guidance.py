"""Steering a denoiser: classifier-free guidance, and dropping conditions in training so that there is something to
steer by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Said = Callable[[], Tensor]


def classifier_free(conditional: Said, unconditional: Said, weight: float) -> Tensor:
    """D(x; ∅) + λ (D(x; c) - D(x; ∅)). Ho & Salimans 2022, arXiv 2207.12598.

    Each side is called only where it counts: λ = 1 is the conditional answer to the bit and λ = 0 the unconditional
    one, for one network call instead of two.
    """
    if weight == 1:
        return conditional()
    free = unconditional()
    return free if weight == 0 else free + weight * (conditional() - free)


def kept(uniform: Tensor, drop: float) -> Tensor:
    """[n] bool: which samples keep their condition, from one uniform in [0, 1) for each; `drop` is the share without.

    One draw decides on a whole condition. Released code of BESO draws one for each of its numbers, so that the
    condition "none" of sampling is hardly ever seen in training; not repeated here.
    """
    return torch.ge(uniform, drop)
