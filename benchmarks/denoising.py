"""Sampling: the same denoising network taken through all levels by our sampler and by diffusers' scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import arithmetic
from benchmarks.measure import Measured
from benchmarks.timing import clock, since
from pilotage.policies.denoise import sampling
from pilotage.policies.denoise.networks import MLPDenoiser, TimeFeatures
from pilotage.policies.denoise.process import Levels

WINDOW, ACTIONS, SEEN = 16, 4, 32


def _network(hidden: Sequence[int]) -> MLPDenoiser:
    """Weights as they are initialised, but for the last layer, which would say 0."""
    torch.manual_seed(0)
    made = MLPDenoiser((WINDOW, ACTIONS), SEEN, hidden)
    torch.nn.init.normal_(made.layers[-1].weight, std=0.02)  # type: ignore[arg-type]
    return made.eval()


def _needed(hidden: Sequence[int], rows: int, levels: int, plans: int) -> int:
    size = WINDOW * ACTIONS
    return plans * levels * rows * arithmetic.network([size + SEEN + TimeFeatures.width, *hidden, size])


def sample_ours(*, hidden: Sequence[int], rows: int, levels: int, plans: int) -> Callable[[], Measured]:
    """DDPM's posterior steps, predictions clipped, noise drawn as it is used."""
    network, process, seen = _network(hidden), Levels(levels), torch.randn(rows, SEEN)

    def denoise(noisy: Tensor, level: Tensor) -> Tensor:
        return process.clean(noisy, level, network(noisy, process.time(level), seen))

    @torch.inference_mode()
    def repeat() -> Measured:
        torch.manual_seed(1)
        began, total = clock(), 0.0
        for _ in range(plans):
            start, noise = torch.randn(rows, WINDOW, ACTIONS), torch.randn(levels, rows, WINDOW, ACTIONS)
            made = sampling.ddpm(process, denoise, start, process.spaced(levels), noise, clip=1.0)
            total += float(made.abs().mean())
        seconds, processor = since(began)
        return Measured(plans, seconds, processor, _needed(hidden, rows, levels, plans), {"size": total / plans})

    return repeat


def sample_peer(*, hidden: Sequence[int], rows: int, levels: int, plans: int) -> Callable[[], Measured]:
    """diffusers' DDPMScheduler with the same betas, clipping and variance."""
    from diffusers import DDPMScheduler

    network, process, seen = _network(hidden), Levels(levels), torch.randn(rows, SEEN)
    scheduler = DDPMScheduler(levels, beta_schedule="squaredcos_cap_v2", variance_type="fixed_small", clip_sample=True)
    scheduler.set_timesteps(levels)

    @torch.inference_mode()
    def repeat() -> Measured:
        torch.manual_seed(1)
        began, total = clock(), 0.0
        for _ in range(plans):
            sample = torch.randn(rows, WINDOW, ACTIONS)
            for level in scheduler.timesteps:
                said = network(sample, process.time(level.reshape(1)), seen)
                sample = scheduler.step(said, level, sample).prev_sample
            total += float(sample.abs().mean())
        seconds, processor = since(began)
        return Measured(plans, seconds, processor, _needed(hidden, rows, levels, plans), {"size": total / plans})

    return repeat
