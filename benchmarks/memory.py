"""The most memory that log-probs of a large vocabulary take, forwards and backwards: ours against the plain way.

Both sides have the same weights and tokens. What is measured is how far this process's resident memory rose above what
it held before, by the kernel's high-water mark, which is set back before each repeat (Linux only).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import Measured
from benchmarks.timing import clock, since
from pilotage.policies.language import chosen_scores

ITSELF = Path("/proc/self")
SET_BACK = "5"  # what clear_refs takes to set the high-water mark to what is resident now


def resident(name: str) -> int:
    """Bytes of `VmRSS`, resident now, or `VmHWM`, the most so far."""
    for line in (ITSELF / "status").read_text().splitlines():
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


def _side(
    logp: Callable[[Tensor, Tensor, Tensor], Tensor], vocabulary: int, tokens: int, hidden: int
) -> Callable[[], Measured]:
    given = problem(vocabulary, tokens, hidden)
    pairs = zip(gradients(logp, given), gradients(plain, given), strict=True)
    apart = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    del pairs

    def repeat() -> Measured:
        gc.collect()
        (ITSELF / "clear_refs").write_text(SET_BACK)
        before, began = resident("VmRSS"), clock()
        found = gradients(logp, given)
        seconds = since(began)
        most = resident("VmHWM") - before
        del found
        return Measured(most / 2**20, *seconds, facts={"gradient_difference": apart})

    return repeat


def logprob_ours(*, vocabulary: int, tokens: int, hidden: int) -> Callable[[], Measured]:
    """Ours; its fact is how far its gradients are from the plain computation's, relative to their norm."""
    return _side(ours, vocabulary, tokens, hidden)


def logprob_peer(*, vocabulary: int, tokens: int, hidden: int) -> Callable[[], Measured]:
    """The plain computation."""
    return _side(plain, vocabulary, tokens, hidden)
