"""Novelty of answers by a policy's own hidden states: features, leverages, and picking from a pool. Pure functions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.policies.base import Policy, score

POOLINGS = ("mean", "last")


def embeddings(batch: Batch, policy: Policy, pooling: str = "mean") -> Tensor:
    """[E, H] float64: each episode's last-layer hidden states, averaged over the tokens the policy sampled ("mean") or
    that of the last of them ("last"); 0 where it sampled none. Raises UsageError for a policy without such states."""
    if pooling not in POOLINGS:
        raise UsageError(f"pooling is {' or '.join(POOLINGS)}, not {pooling!r}")
    if "features" not in policy.gives:
        raise UsageError(f"{type(policy).__name__} gives no features: hidden states come from language policies")
    states = score(batch, policy, "features").double()
    if pooling == "mean":
        return batch.total(states) / batch.total(batch.sampled.double()).clamp(min=1).unsqueeze(-1)
    at, some = last_sampled(batch)
    found = states.new_zeros((len(batch), states.shape[-1]))
    found[some] = states[at]
    return found


def last_sampled(batch: Batch) -> tuple[Tensor, Tensor]:
    """The last decision that the policy sampled in each episode that has any, and [E] bool which episodes those are."""
    place = torch.where(batch.sampled, torch.arange(batch.decisions), -1)
    last = torch.full((len(batch),), -1).scatter_reduce_(0, batch.owner, place, "amax")
    some = last >= 0
    return last[some], some


def sparse_projection(generator: np.random.Generator, width: int, dimension: int) -> Tensor:
    """[width, dimension] a sparse random projection, float64: entries ±sqrt(1 / (s · dimension)), each sign with
    probability s/2, else 0, for s = 1/sqrt(width), so that lengths are kept on average. Li, Hastie & Church 2006."""
    density = width**-0.5
    drawn = generator.random((width, dimension))
    signs = (drawn < density / 2).astype(np.float64) - (drawn >= 1 - density / 2)
    return torch.from_numpy(signs * (density * dimension) ** -0.5)


def leverages(features: Tensor, ridge: float, scatter: Tensor | None = None) -> Tensor:
    """[k] h_i' (ridge I + Σ_j h_j h_j' + scatter)^-1 h_i of features [k, d] as they stand (centred by the caller), in
    [0, 1). The sum runs over i too, so equal answers share one unit."""
    covariance = ridge * torch.eye(features.shape[1], dtype=torch.float64) + features.T @ features
    if scatter is not None:
        covariance = covariance + scatter
    found: Tensor = (features * torch.linalg.solve(covariance, features.T).T).sum(1)
    return found


def coreset(features: Tensor, keep: int, *, ridge: float = 0.01, centre: bool = True) -> list[int]:
    """The `keep` answers of a pool that are picked greedily for novelty, in the order they are picked; features [N, d].

    Each pick has the largest h' Λ h of those left, the first of equals; then Λ ← Λ - Λhh'Λ / (1 + h'Λh), from
    Λ = I/ridge. `centre` takes the pool's mean away first. Sees nothing but features: no verdict can change a pick.
    """
    if ridge <= 0:
        raise UsageError(f"ridge is above 0, not {ridge:g}")
    pool: NDArray[np.float64] = features.double().numpy()
    if centre:
        pool = pool - pool.mean(0)
    inverse = np.eye(pool.shape[1]) / ridge
    novelty = np.square(pool).sum(1) / ridge
    picked: list[int] = []
    for _ in range(min(keep, len(pool))):
        novelty[picked[-1:]] = -np.inf
        picked.append(int(novelty.argmax()))
        direction = inverse @ pool[picked[-1]]
        shrunk = 1 + float(pool[picked[-1]] @ direction)
        inverse -= np.outer(direction, direction) / shrunk
        novelty -= np.square(pool @ direction) / shrunk
    return picked
