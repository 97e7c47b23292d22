"""What is said of a batch before anything is learnt from it."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.reduce import Sum, alone, moments


def explained_variance(value: Tensor, target: Tensor, over_ranks: Sum = alone) -> float | None:
    """1 - Var(G - V) / Var(G) of what a critic said, V [S], and what it is to learn, G [S], over all processes; None
    where all of G is the same. 1 is a critic that knows, 0 one that might as well say the mean."""
    _, _, left = moments(target.double() - value.double(), over_ranks).tolist()
    _, _, all_of_it = moments(target.double(), over_ranks).tolist()
    return 1 - left / all_of_it if all_of_it > 0 else None
