"""What a learner is told to do: terms of objectives, each term with its parameters, optimiser and passes over the
data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from pilotage.data.piece import Piece, UsageError, piece
from pilotage.losses.reduce import check_reduction


@dataclass(frozen=True)
class Objective:
    """One loss, how it is reduced over an optimiser step, and its weight in the term's sum."""

    loss: Piece
    reduction: str = "token"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_reduction(self.reduction)


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


def constant(progress: float) -> float:
    """A factor of 1 throughout."""
    return 1.0


def linear(progress: float, *, final: float = 0.0) -> float:
    """A factor that falls on a line from 1 to `final` as progress goes from 0 to 1."""
    return 1.0 + (final - 1.0) * progress


def cosine(progress: float, *, final: float = 0.0, warmup: float = 0.0) -> float:
    """A factor that rises from 0 over the share `warmup` of the run, then falls along half a cosine to `final`."""
    if progress < warmup:
        return progress / warmup
    phase = (progress - warmup) / max(1.0 - warmup, 1e-12)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * phase))


@dataclass(frozen=True)
class Term:
    """Objectives that share an optimiser.

    parameters: "" all, "actor", "critic", or a prefix of parameter names. epochs: passes over the step's data.
    minibatches: optimiser steps a pass (1: the whole batch each). minibatch_decisions: instead, decisions an optimiser
    step (only where policies score single decisions). max_grad_norm: global clip, None for none. schedule: factor on
    the learning rate from progress in [0, 1).
    """

    objectives: Mapping[str, Objective]
    parameters: str = ""
    optimiser: Piece = field(default_factory=lambda: piece(adam))
    schedule: Piece = field(default_factory=lambda: piece(constant))
    epochs: int = 1
    minibatches: int = 1
    minibatch_decisions: int | None = None
    max_grad_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minibatches < 1:
            raise UsageError("epochs and minibatches are at least 1")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise UsageError("max_grad_norm is above 0, or none")
