"""Noise processes: how a clean sample is noised, what a network is asked to say of it, and the clean sample that its
answer means.

A process works on samples [n, …] with one level per row (or one for all rows). `Levels` are the numbered levels of
DDPM; `Sigmas` (in `karras`) the continuous ones of EDM. Networks see `scaled(noisy, level)` and `time(level)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pilotage.data.piece import UsageError, nearest

ASKED = ("epsilon", "clean")
WEIGHTS = ("uniform", "snr")


@dataclass(frozen=True)
class Pair:
    """What one denoising loss needs, of n samples.

    inputs: [n, …] what the network is given. time: [n] what it is told of the level. target: [n, …] what it should say.
    weight: [n] of the squared error.
    """

    inputs: Tensor
    time: Tensor
    target: Tensor
    weight: Tensor


class Process(Protocol):
    """What losses, samplers and policies need of a noise process."""

    def draw_level(self, uniform: Tensor) -> Tensor:
        """Levels to train at, from uniforms in [0, 1) of any shape."""

    def noised(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """The sample at a level."""

    def pair(self, clean: Tensor, level: Tensor, noise: Tensor) -> Pair:
        """Input, target and weight of the loss at a level."""

    def scaled(self, noisy: Tensor, level: Tensor) -> Tensor:
        """What the network is given of a noisy sample."""

    def time(self, level: Tensor) -> Tensor:
        """What the network is told of a level."""

    def clean(self, noisy: Tensor, level: Tensor, said: Tensor) -> Tensor:
        """The clean sample that the network's answer means."""


def spread_over(values: Tensor, like: Tensor) -> Tensor:
    """[n] or [1] → a shape that broadcasts over samples [n, …]."""
    return values.reshape(-1, *([1] * (like.dim() - 1)))


def linear_betas(count: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """[K] evenly spaced variances (float64). Ho et al. 2020, arXiv 2006.11239: 1000 levels from 1e-4 to 0.02."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def cosine_betas(count: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """[K] variances (float64) of the squared-cosine schedule. Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17:
    β_k = 1 - f(k + 1) / f(k), f(k) = cos²((k / K + s) / (1 + s) · π / 2), at most `largest`."""
    grid = torch.arange(count + 1, dtype=torch.float64) / count
    kept = ((grid + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=largest)


SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


@dataclass(frozen=True)
class Levels:
    """K numbered levels, 0 the least noisy: x_k = √ᾱ_k x + √(1 - ᾱ_k) ε. Ho et al. 2020, eq. 4.

    schedule: "cosine" or "linear". asks: what the network says, "epsilon" or "clean". weighting: of the squared error,
    "uniform" or "snr" (ᾱ / (1 - ᾱ): with asks="clean" this is the uniform loss of epsilon, to rounding).
    Coefficients are float64 until they meet a sample. Raises UsageError for other names and fewer than one level.
    """

    count: int = 100
    schedule: str = "cosine"
    asks: str = "epsilon"
    weighting: str = "uniform"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"a noise process has at least one level, not {self.count}")
        for said, known in ((self.schedule, SCHEDULES), (self.asks, ASKED), (self.weighting, WEIGHTS)):
            if said not in known:
                raise UsageError(f"a noise process has no {said!r}; {nearest(said, known)}")

    @cached_property
    def betas(self) -> Tensor:
        """[K] float64: β_k."""
        return SCHEDULES[self.schedule](self.count)

    @cached_property
    def signal(self) -> Tensor:
        """[K] float64: ᾱ_k, the share of the clean sample's variance that is left."""
        return (1 - self.betas).cumprod(0)

    @cached_property
    def coefficients(self) -> Tensor:
        """[2, K] float32: √ᾱ_k and √(1 - ᾱ_k)."""
        return torch.stack([self.signal.sqrt(), (1 - self.signal).sqrt()]).float()

    def kept(self, level: int) -> float:
        """ᾱ of one level; 1 for the level -1, which is clean. Raises ValueError for any other."""
        if not -1 <= level < self.count:
            raise ValueError(f"there is no level {level} of {self.count}")
        return 1.0 if level < 0 else float(self.signal[level])

    def draw_level(self, uniform: Tensor) -> Tensor:
        """All levels the same chance; integers."""
        return (uniform * self.count).long().clamp(max=self.count - 1)

    def noised(self, clean: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        keeps, adds = (spread_over(c[level], clean) for c in self.coefficients)
        return keeps * clean + adds * noise

    def pair(self, clean: Tensor, level: Tensor, noise: Tensor) -> Pair:
        noisy = self.noised(clean, level, noise)
        weight = torch.ones(len(level))
        if self.weighting == "snr":
            weight = (self.signal / (1 - self.signal)).float()[level]
        target = noise if self.asks == "epsilon" else clean
        return Pair(self.scaled(noisy, level), self.time(level), target, weight)

    def scaled(self, noisy: Tensor, level: Tensor) -> Tensor:
        """As it is: its variance is 1 at every level where the clean one's is."""
        return noisy

    @cached_property
    def told(self) -> Tensor:
        """[K] float32: log √((1 - ᾱ_k) / ᾱ_k) / 4."""
        return (((1 - self.signal) / self.signal).log() / 8).float()

    def time(self, level: Tensor) -> Tensor:
        """A quarter of the log of noise over signal, as for continuous levels: the same network fits both."""
        return self.told[level]

    def clean(self, noisy: Tensor, level: Tensor, said: Tensor) -> Tensor:
        if self.asks == "clean":
            return said
        keeps, adds = (spread_over(c[level], noisy) for c in self.coefficients)
        return (noisy - adds * said) / keeps

    def epsilon(self, noisy: Tensor, level: Tensor, clean: Tensor) -> Tensor:
        """The noise that a noisy and a clean sample imply."""
        keeps, adds = (spread_over(c[level], noisy) for c in self.coefficients)
        return (noisy - keeps * clean) / adds

    def spaced(self, steps: int) -> tuple[int, ...]:
        """`steps` levels from the noisiest to 0, as evenly as whole numbers allow. Raises UsageError."""
        if not 1 <= steps <= self.count:
            raise UsageError(f"between 1 and {self.count} denoising steps, not {steps}")
        if steps == 1:
            return (self.count - 1,)
        return tuple(round(float(k)) for k in torch.linspace(self.count - 1, 0, steps, dtype=torch.float64))
