"""Continuous noise levels σ with EDM's preconditioning, and the schedules from much noise to none.

Karras et al. 2022, arXiv 2206.00364, table 1: a noisy sample is x = clean + σ ε, and

    D(x; σ) = c_skip x + c_out F(c_in x; log(σ) / 4)
    c_skip = σ_d² / (σ² + σ_d²),  c_out = σ σ_d / √(σ² + σ_d²),  c_in = 1 / √(σ² + σ_d²)

so that the network F has inputs and targets of variance 1 where the data's deviation is σ_d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.data.piece import UsageError, nearest
from pilotage.policies.denoise.process import Pair, spread_over


@dataclass(frozen=True)
class Sigmas:
    """Levels are σ in [smallest, largest]; training draws them from a truncated log-logistic density whose median,
    without the truncation, is `data_scale`, and whose scale in log σ is `density_scale`.

    Raises UsageError unless 0 < smallest < largest and the scales are above 0.
    """

    smallest: float = 0.005
    largest: float = 1.0
    data_scale: float = 0.5
    density_scale: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.smallest < self.largest or self.data_scale <= 0 or self.density_scale <= 0:
            raise UsageError("noise levels need 0 < smallest < largest, data_scale and density_scale above 0")

    def preconditioning(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out and c_in of levels, each of their shape."""
        scale = self.data_scale
        total = level.square() + scale**2
        return scale**2 / total, level * scale / total.sqrt(), total.rsqrt()

    def draw_level(self, uniform: Tensor) -> Tensor:
        """The truncated log-logistic density, by the inverse of its distribution."""
        middle = math.log(self.data_scale)
        ends = [1 / (1 + math.exp(-(math.log(s) - middle) / self.density_scale)) for s in (self.smallest, self.largest)]
        share = ends[0] + uniform.double() * (ends[1] - ends[0])
        drawn = (middle + self.density_scale * torch.logit(share)).exp().to(uniform.dtype)
        return drawn.clamp(self.smallest, self.largest)  # rounding may step over an end

    def noised(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return clean + spread_over(level, clean) * noise

    def pair(self, clean: Tensor, level: Tensor, noise: Tensor) -> Pair:
        """Targets of F; a squared error of F is one of D with weight 1 / c_out²."""
        noisy = self.noised(clean, level, noise)
        skip, out, _ = (spread_over(c, clean) for c in self.preconditioning(level))
        target = (clean - skip * noisy) / out
        return Pair(self.scaled(noisy, level), self.time(level), target, torch.ones(len(level)))

    def scaled(self, noisy: Tensor, level: Tensor) -> Tensor:
        return spread_over(self.preconditioning(level)[2], noisy) * noisy

    def time(self, level: Tensor) -> Tensor:
        """log(σ) / 4."""
        return level.log() / 4

    def clean(self, noisy: Tensor, level: Tensor, said: Tensor) -> Tensor:
        skip, out, _ = (spread_over(c, noisy) for c in self.preconditioning(level))
        return skip * noisy + out * said


def exponential(steps: int, smallest: float, largest: float) -> tuple[float, ...]:
    """Geometric from `largest` to `smallest`, then 0."""
    return _ended([largest * (smallest / largest) ** share for share in _shares(steps)])


def linear(steps: int, smallest: float, largest: float) -> tuple[float, ...]:
    """Evenly spaced from `largest` to `smallest`, then 0."""
    return _ended([largest + share * (smallest - largest) for share in _shares(steps)])


def karras(steps: int, smallest: float, largest: float, rho: float = 7.0) -> tuple[float, ...]:
    """Evenly spaced in σ^(1/ρ) from `largest` to `smallest`, then 0. Karras et al. 2022, eq. 5."""
    high, low = largest ** (1 / rho), smallest ** (1 / rho)
    return _ended([(high + share * (low - high)) ** rho for share in _shares(steps)])


SCHEDULES = {"exponential": exponential, "linear": linear, "karras": karras}


def schedule(name: str, steps: int, smallest: float, largest: float) -> tuple[float, ...]:
    """The levels of a named schedule, ending with 0. Raises UsageError for another name or fewer than one step."""
    if name not in SCHEDULES:
        raise UsageError(f"there is no schedule {name!r}; {nearest(name, SCHEDULES)}")
    return SCHEDULES[name](steps, smallest, largest)


def _shares(steps: int) -> list[float]:
    if steps < 1:
        raise UsageError(f"at least one denoising step, not {steps}")
    return [i / (steps - 1) for i in range(steps)] if steps > 1 else [0.0]


def _ended(levels: list[float]) -> tuple[float, ...]:
    return (*levels, 0.0)
