"""A running normaliser of observations, part of the policy's state."""

from __future__ import annotations

import math

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
        self.made: tuple[tuple[int, int], Tensor, Tensor] | None = None  # of which statistics, and what they give

    def forward(self, values: Tensor) -> Tensor:
        """[n, width] → [n, width] float32."""
        mean, deviation = self._moments()
        scaled = (values - mean) / deviation
        return scaled if self.limit == math.inf else scaled.clamp(-self.limit, self.limit)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean, and deviation plus eps, as float32; worked out anew where the statistics were written to, or copied."""
        key = (self.squares.data_ptr(), self.squares._version)
        if self.made is None or self.made[0] != key:
            with torch.inference_mode(False):  # what acting makes has to serve training too
                alone = torch.ones_like(self.mean)
                deviation = (self.squares / self.count.clamp(min=1)).sqrt() if self.count > 1 else alone
                self.made = (key, self.mean.float(), deviation.float() + self.eps)
        return self.made[1:]

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Adds observations [n, width] to the statistics (Chan et al. 1979, pairwise)."""
        new = values.double()
        count, mean = len(new), new.mean(0)
        gap, total = mean - self.mean, self.count + count
        spread = (new - mean).square().sum(0) + gap.square() * self.count * count / total
        self.mean += gap * count / total
        self.count += count
        self.squares += spread  # last: what is made of all three is dated by it
