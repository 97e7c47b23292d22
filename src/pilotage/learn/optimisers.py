"""Optimisers, as pieces of a term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def adam(
    parameters: Sequence[nn.Parameter],
    *,
    learning_rate: float = 3e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW, fused. Kingma & Ba 2015; Loshchilov & Hutter 2019."""
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay, fused=True
    )


def sgd(
    parameters: Sequence[nn.Parameter], *, learning_rate: float = 1e-2, momentum: float = 0.0
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with momentum if asked."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)
