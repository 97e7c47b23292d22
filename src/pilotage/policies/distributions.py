"""Distributions over one decision, flat in their parameters so that yesterday's can be stored as a column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class Distribution(Protocol):
    """S independent distributions. `parameters` [S, P] says all; `like` makes the same kind from such a tensor."""

    @property
    def parameters(self) -> Tensor: ...
    def like(self, parameters: Tensor) -> Distribution: ...
    def logp(self, action: Tensor) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def kl(self, other: Distribution) -> Tensor: ...


@dataclass(frozen=True)
class Categorical:
    """Over K classes; logits [S, K], normalised or not."""

    logits: Tensor

    @property
    def parameters(self) -> Tensor:
        return self.logits

    def like(self, parameters: Tensor) -> Categorical:
        return Categorical(parameters)

    def logp(self, action: Tensor) -> Tensor:
        """[S] log-probability of classes [S]."""
        chosen = self.logits.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)
        return chosen - self.logits.logsumexp(-1)

    def entropy(self) -> Tensor:
        """[S] in nats."""
        log_probabilities = self.logits.log_softmax(-1)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)

    def kl(self, other: Distribution) -> Tensor:
        """[S] KL(self || other), exact."""
        mine, theirs = self.logits.log_softmax(-1), other.parameters.log_softmax(-1)
        return (mine.exp() * (mine - theirs)).sum(-1)


@dataclass(frozen=True)
class Gaussian:
    """Diagonal normal over A dimensions; mean and log_std [S, A]. Log-probs are sums over dimensions."""

    mean: Tensor
    log_std: Tensor

    @property
    def parameters(self) -> Tensor:
        return torch.cat([self.mean, self.log_std.expand_as(self.mean)], dim=-1)

    def like(self, parameters: Tensor) -> Gaussian:
        mean, log_std = parameters.chunk(2, dim=-1)
        return Gaussian(mean, log_std)

    def logp(self, action: Tensor) -> Tensor:
        """[S] log-density of actions [S, A]."""
        scaled = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std).sum(-1) - 0.5 * LOG_2PI * action.shape[-1]

    def entropy(self) -> Tensor:
        """[S] differential entropy in nats."""
        return (self.log_std.expand_as(self.mean) + 0.5 * (LOG_2PI + 1)).sum(-1)

    def kl(self, other: Distribution) -> Tensor:
        """[S] KL(self || other), exact."""
        mean, log_std = other.parameters.chunk(2, dim=-1)
        ratio = (2 * (self.log_std - log_std)).exp()
        gap = ((self.mean - mean) * (-log_std).exp()).square()
        return 0.5 * (ratio + gap - 1 - 2 * (self.log_std - log_std)).sum(-1)
