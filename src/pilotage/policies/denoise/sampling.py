"""Samplers: from noise (or from any start) to a clean sample, along an explicit list of levels.

They know no network: `denoise(noisy, level)` gives the predicted clean sample, level being a tensor of one entry (all
rows stand at the same level). Randomness comes in as noise tensors, one for each step that can use it. `guide`, where
given, may change every predicted clean sample; after it, `clip` holds predictions within ±clip.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.policies.denoise.process import Levels

Denoise = Callable[[Tensor, Tensor], Tensor]  # noisy [n, …], level [1] → predicted clean sample [n, …]
Guide = Callable[[Tensor, Tensor, Tensor], Tensor]  # predicted clean sample, noisy, level → another prediction
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Move:
    """One denoising step as a Gaussian decision: N(mean, std²), with one std for all entries."""

    mean: Tensor
    std: float

    def sample(self, noise: Tensor | None) -> Tensor:
        """mean + std · noise; the mean itself where std is 0 or no noise is given."""
        return self.mean if self.std == 0 or noise is None else self.mean + self.std * noise

    def logp(self, following: Tensor, reduce: str = "sum") -> Tensor:
        """[n] log-density of what followed [n, …], as the "sum" or the "mean" over a sample's entries.

        Raises ValueError where std is 0: there is no density.
        """
        if self.std == 0:
            raise ValueError("a deterministic denoising step has no density")
        if reduce not in ("sum", "mean"):
            raise ValueError(f"log-densities are reduced by sum or mean, not {reduce!r}")
        each = -0.5 * ((following - self.mean) / self.std).square() - math.log(self.std) - 0.5 * LOG_2PI
        return each.flatten(1).sum(1) if reduce == "sum" else each.flatten(1).mean(1)


def posterior(levels: Levels, noisy: Tensor, clean: Tensor, level: int, following: int | None = None) -> Move:
    """DDPM's step from a level to the next lower one (`following`, by default level - 1; -1 is clean).

        mean = [√ᾱ_p β x̂ + √α (1 - ᾱ_p) x] / (1 - ᾱ_k),  var = β (1 - ᾱ_p) / (1 - ᾱ_k),  α = ᾱ_k / ᾱ_p, β = 1 - α

    Ho et al. 2020, eqs. 6 and 7. At level 0 the mean is x̂ and the variance 0.
    """
    to_clean, to_noisy, std = _posterior(levels, level, level - 1 if following is None else following)
    if to_noisy == 0:
        return Move(clean, std)
    return Move(to_clean * clean + to_noisy * noisy, std)


def _posterior(levels: Levels, level: int, following: int) -> tuple[float, float, float]:
    """Coefficients of the clean and of the noisy sample, and the deviation."""
    here, after = levels.kept(level), levels.kept(following)
    alpha = here / after
    if following < 0:
        return 1.0, 0.0, 0.0
    left = 1 - here
    variance = (1 - alpha) * (1 - after) / left
    return math.sqrt(after) * (1 - alpha) / left, math.sqrt(alpha) * (1 - after) / left, math.sqrt(variance)


def contraction(levels: Levels, level: int) -> float:
    """√α_k (1 - ᾱ_{k-1}) / (1 - ᾱ_k): how much of an error in the noisy sample one posterior step leaves where the
    clean sample is known for certain."""
    return _posterior(levels, level, level - 1)[1]


def implicit(
    levels: Levels, noisy: Tensor, clean: Tensor, level: int, following: int, eta: float, epsilon: Tensor | None = None
) -> Move:
    """DDIM's step between any two levels. Song et al. 2020, arXiv 2010.02502, eqs. 12 and 16.

        std = η √((1 - ᾱ_p) / (1 - ᾱ_k)) √(1 - ᾱ_k / ᾱ_p),  mean = √ᾱ_p x̂ + √(1 - ᾱ_p - std²) ε̂

    epsilon: the noise predicted; by default the one that x and x̂ imply, which after clipping is not the network's.
    """
    here, after = levels.kept(level), levels.kept(following)
    if following < 0:
        return Move(clean, 0.0)
    std = eta * math.sqrt((1 - after) / (1 - here) * (1 - here / after))
    towards = math.sqrt(max(1 - after - std**2, 0.0))
    if epsilon is None:
        epsilon = (noisy - math.sqrt(here) * clean) / math.sqrt(1 - here)
    return Move(math.sqrt(after) * clean + towards * epsilon, std)


def predicted(
    denoise: Denoise, noisy: Tensor, level: Tensor, clip: float | None = None, guide: Guide | None = None
) -> Tensor:
    """The clean sample predicted at a level, guided and clipped as asked."""
    clean = denoise(noisy, level)
    if guide is not None:
        clean = guide(clean, noisy, level)
    return clean if clip is None else clean.clamp(-clip, clip)


def ddpm(
    levels: Levels,
    denoise: Denoise,
    start: Tensor,
    steps: Sequence[int],
    noise: Tensor | None,
    *,
    clip: float | None = None,
    guide: Guide | None = None,
    strided: bool = False,
) -> Tensor:
    """One posterior step for each level of a decreasing list; noise: [steps, n, …], or None for means throughout.

    Every step goes down one level, whatever the next in the list is: a gap only relabels the sample's level. With
    `strided` a step goes to the next level of the list instead (and from the last to clean), as in a sampler of fewer
    steps. A list of all levels with a start from N(0, I) is the ordinary sampler.
    """
    sample = start
    for i, level in enumerate(steps):
        clean = predicted(denoise, sample, torch.tensor([level]), clip, guide)
        following = (steps[i + 1] if i + 1 < len(steps) else -1) if strided else level - 1
        sample = posterior(levels, sample, clean, level, following).sample(None if noise is None else noise[i])
    return sample


def ddim(
    levels: Levels,
    denoise: Denoise,
    start: Tensor,
    steps: Sequence[int],
    noise: Tensor | None = None,
    *,
    eta: float = 0.0,
    clip: float | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """DDIM from each level of a decreasing list to the next and from the last to clean; noise [steps, n, …] only
    counts where eta is above 0."""
    sample = start
    for i, level in enumerate(steps):
        clean = predicted(denoise, sample, torch.tensor([level]), clip, guide)
        following = steps[i + 1] if i + 1 < len(steps) else -1
        move = implicit(levels, sample, clean, level, following, eta)
        sample = move.sample(None if noise is None else noise[i])
    return sample


def euler(
    denoise: Denoise,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    clip: float | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """First order, deterministic, between σ that decrease to 0: x ← (σ' / σ) x + (1 - σ' / σ) D(x; σ).

    Euler's step on dx/dσ = (x - D) / σ and DDIM's step are this same step. The last one gives D itself.
    """
    sample = start
    for sigma, following in itertools.pairwise(sigmas):
        clean = predicted(denoise, sample, torch.tensor([sigma]), clip, guide)
        sample = towards(sample, clean, sigma, following)
    return sample


def towards(noisy: Tensor, clean: Tensor, sigma: float, following: float) -> Tensor:
    """Euler's step from σ to σ'."""
    if following == 0:
        return clean
    share = following / sigma
    return share * noisy + (1 - share) * clean


def ancestral(sigma: float, following: float) -> tuple[float, float]:
    """(σ_down, σ_up) of a step from σ to σ': Euler goes to σ_down, and noise of σ_up restores σ'."""
    if following == 0:
        return 0.0, 0.0
    up = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
    return math.sqrt(following**2 - up**2), up


def euler_ancestral(
    denoise: Denoise,
    start: Tensor,
    sigmas: Sequence[float],
    noise: Tensor,
    *,
    clip: float | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Euler's step to σ_down, then fresh noise of σ_up (none where σ_down is 0); noise [steps, n, …]."""
    sample = start
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        clean = predicted(denoise, sample, torch.tensor([sigma]), clip, guide)
        down, up = ancestral(sigma, following)
        sample = towards(sample, clean, sigma, down)
        if down > 0:
            sample = sample + up * noise[i]
    return sample


def heun(
    denoise: Denoise,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    clip: float | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Second order, deterministic: Euler's step, corrected by the slope where it arrives; the last step, to 0, is
    Euler's. Two calls a step but for the last. Karras et al. 2022, algorithm 1 without churn."""
    sample = start
    for sigma, following in itertools.pairwise(sigmas):
        clean = predicted(denoise, sample, torch.tensor([sigma]), clip, guide)
        arrived = towards(sample, clean, sigma, following)
        if following > 0:
            slope = (sample - clean) / sigma
            clean = predicted(denoise, arrived, torch.tensor([following]), clip, guide)
            slope = (slope + (arrived - clean) / following) / 2
            arrived = sample + (following - sigma) * slope
        sample = arrived
    return sample
