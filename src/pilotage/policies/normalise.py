"""A running normaliser of observations, part of the policy's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normaliser(nn.Module):
    """(x - mean) / std over everything observed so far, clipped to ±limit; statistics are buffers, in float64."""

    def __init__(self, width: int, *, limit: float = 10.0, eps: float = 1e-8) -> None:
        super().__init__()
        self.limit, self.eps = limit, eps
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor

    def forward(self, values: Tensor) -> Tensor:
        """[n, width] → [n, width] float32."""
        deviation = (self.squares / self.count.clamp(min=1)).sqrt() if self.count > 1 else torch.ones_like(self.mean)
        scaled = (values - self.mean.float()) / (deviation.float() + self.eps)
        return scaled.clamp(-self.limit, self.limit)

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Adds observations [n, width] to the statistics (Chan et al. 1979, pairwise)."""
        new = values.double()
        count, mean = len(new), new.mean(0)
        gap, total = mean - self.mean, self.count + count
        self.squares += (new - mean).square().sum(0) + gap.square() * self.count * count / total
        self.mean += gap * count / total
        self.count += count
