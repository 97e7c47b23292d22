"""The most memory that log-probs of a large vocabulary take, forwards and backwards: ours against the plain way.

Both sides have the same weights and tokens, and a process each. What is measured is how far the process's resident
memory rose above what it held once it had those, by the kernel's high-water mark (Linux only). It never falls, so
repeats of one process tell one number, or a higher one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import Measured
from benchmarks.timing import clock, since
from pilotage.policies.language import chosen_scores

ROOT = Path(__file__).resolve().parent.parent


def resident(name: str) -> int:
    """Bytes of `VmRSS`, resident now, or `VmHWM`, the most so far. Raises OSError where the kernel tells neither."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"the kernel does not tell {name}")


def problem(vocabulary: int, tokens: int, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states [tokens, hidden], a head [vocabulary, hidden], both with gradients, and the tokens chosen."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, hidden, generator=generator).requires_grad_()
    head = (torch.randn(vocabulary, hidden, generator=generator) * hidden**-0.5).requires_grad_()
    return states, head, torch.randint(vocabulary, (tokens,), generator=generator)


def plain(states: Tensor, head: Tensor, action: Tensor) -> Tensor:
    """Log-probs as they are usually written."""
    return functional.linear(states, head).log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def ours(states: Tensor, head: Tensor, action: Tensor) -> Tensor:
    """What language policies do."""
    return chosen_scores(states, head, None, action, False)[0]


def gradients(logp: Callable[[Tensor, Tensor, Tensor], Tensor], given: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """Of the mean log-prob, with respect to the states and the head."""
    return list(torch.autograd.grad(logp(*given).mean(), given[:2]))


def apart(vocabulary: int, tokens: int, hidden: int) -> float:
    """How far our gradients are from the plain ones, over their norm: the larger of both."""
    given = problem(vocabulary, tokens, hidden)
    pairs = zip(gradients(ours, given), gradients(plain, given), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def _side(
    logp: Callable[[Tensor, Tensor, Tensor], Tensor], facts: dict[str, float], sizes: dict[str, int]
) -> Callable[[], Measured]:
    given = problem(**sizes)
    before = resident("VmRSS")

    def repeat() -> Measured:
        began = clock()
        gradients(logp, given)
        seconds = since(began)
        return Measured((resident("VmHWM") - before) / 2**20, *seconds, facts={**facts, "seconds": seconds[0]})

    return repeat


def logprob_ours(**sizes: int) -> Callable[[], Measured]:
    """Ours; its fact is how far its gradients are from the plain ones, which another process finds out."""
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps(sizes)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return _side(ours, {"gradient_difference": float(found.stdout)}, sizes)


def logprob_peer(**sizes: int) -> Callable[[], Measured]:
    """The plain computation."""
    return _side(plain, {}, sizes)


if __name__ == "__main__":
    print(apart(**json.loads(sys.argv[1])))
