"""What diffusers' schedulers make of given samples and predictions; writes diffusers_schedulers.json beside itself.

Run where diffusers is installed: .venv-bench/bin/python tests/known/data/diffusers_schedulers.py
"""

import json
from pathlib import Path

import diffusers
import torch

SETTINGS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}


def main() -> None:
    sample = torch.linspace(-1.2, 1.1, 6).reshape(2, 3)
    said = torch.linspace(0.9, -0.8, 6).reshape(2, 3)
    cases = []
    for name, theirs in SETTINGS.items():
        ddpm = diffusers.DDPMScheduler(100, beta_schedule=theirs, variance_type="fixed_small", clip_sample=True)
        ddpm.set_timesteps(100)
        for level in (0, 1, 2, 7, 40, 99):
            mean = ddpm.step(said, level, sample, generator=None) if level == 0 else None
            variance = float(ddpm._get_variance(level)) if level else 0.0
            torch.manual_seed(0)
            moved = ddpm.step(said, level, sample).prev_sample
            torch.manual_seed(0)
            noise = torch.randn(sample.shape) if level else torch.zeros_like(sample)
            found = (moved - variance**0.5 * noise).tolist()
            assert mean is None or torch.allclose(mean.prev_sample, moved)
            cases.append({"sampler": "ddpm", "schedule": name, "level": level, "mean": found, "std": variance**0.5})
        ddim = diffusers.DDIMScheduler(
            100, beta_schedule=theirs, clip_sample=True, set_alpha_to_one=True, timestep_spacing="leading"
        )
        ddim.set_timesteps(10)  # levels 90, 80, …, 0
        for level in (0, 10, 90):
            for eta in (0.0, 1.0):
                std = eta * float(ddim._get_variance(level, level - 10)) ** 0.5
                zero = torch.zeros_like(sample)
                moved = ddim.step(
                    said, level, sample, eta=eta, use_clipped_model_output=True, variance_noise=zero if eta else None
                )
                cases.append(
                    {"sampler": "ddim", "schedule": name, "level": level, "following": max(level - 10, -1),
                     "eta": eta, "mean": moved.prev_sample.tolist(), "std": std}
                )  # fmt: skip
    record = {"diffusers": diffusers.__version__, "sample": sample.tolist(), "said": said.tolist(), "cases": cases}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
