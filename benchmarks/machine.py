"""What the machine is, and how fast it multiplies float32 matrices right now."""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

# (rows, inputs, outputs): large square products, and those of the networks here at the rows they are given
SHAPES = ((1024, 1024, 1024), (512, 512, 512), (4096, 128, 512), (4096, 64, 256), (256, 128, 384), (256, 64, 64))


def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def matrix_gigaflops(seconds: float = 0.15) -> float:
    """The best rate over SHAPES with one thread, 10^9 operations a second (a multiply-add is two)."""
    torch.set_num_threads(1)
    best = 0.0
    with torch.inference_mode():
        for rows, inputs, outputs in SHAPES:
            a, b, out = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.empty(rows, outputs)
            torch.mm(a, b, out=out)
            count, began = 0, time.perf_counter()
            while (taken := time.perf_counter() - began) < seconds / len(SHAPES) or count < 3:
                torch.mm(a, b, out=out)
                count += 1
            best = max(best, 2e-9 * rows * inputs * outputs * count / taken)
    return best


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions by distribution name."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
