"""Targets of action critics, worked out when a batch is drawn: what the next action is worth to a slow copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.policies.base import ActingPolicy


def noise(batch: Batch, policy: ActingPolicy, generator: np.random.Generator) -> Batch:
    """Fresh numbers `noise` [D, …] with which the policy draws an action at each observation."""
    return batch.with_columns(noise=policy.noise(generator, batch.decisions, 1)[0])


@torch.no_grad()
def soft_target(
    batch: Batch,
    policy: Any,
    targets: Mapping[str, Any],
    generator: np.random.Generator,
    *,
    discount: float = 0.99,
    subset: int | None = None,
) -> Batch:
    """SAC's target y = r + γ (1 - terminated) (min_i Q̄_i(s', a') - α log π(a'|s')), as `target` [D]; a' from the
    policy.

    Q̄ is the target named `critic`; `subset` takes the least of so many of its members, drawn anew each time (REDQ, Chen
    et al. 2021). Haarnoja et al. 2018, eq. 3.
    """
    following = policy.features(batch["final_observation"])
    action, logp = policy.drawn(following, policy.noise(generator, batch.decisions, 1)[0])
    worth = least(targets["critic"].action_values(following, action), generator, subset)
    return _bootstrapped(batch, worth - policy.log_temperature.exp() * logp, discount)


@torch.no_grad()
def smoothed_target(
    batch: Batch,
    targets: Mapping[str, Any],
    generator: np.random.Generator,
    *,
    discount: float = 0.99,
    smoothing: float = 0.2,
    limit: float = 0.5,
) -> Batch:
    """TD3's target y = r + γ (1 - terminated) min_i Q̄_i(s', π̄(s') + clipped noise), as `target` [D].

    Noise has deviation `smoothing` and is clipped at `limit`, both of half the action range. π̄ and Q̄ are the target
    named `slow`. Fujimoto et al. 2018, eq. 14.
    """
    slow = targets["slow"]
    following = slow.features(batch["final_observation"])
    jitter = (smoothing * slow.noise(generator, batch.decisions, 1)[0]).clamp(-limit, limit)
    unit = (slow.to_unit(slow.chosen(following)) + jitter).clamp(-1, 1)
    worth = slow.action_values(following, slow.to_world(unit)).amin(-1)
    return _bootstrapped(batch, worth, discount)


@torch.no_grad()
def state_target(batch: Batch, targets: Mapping[str, Any], *, discount: float = 0.99) -> Batch:
    """y = r + γ (1 - terminated) V̄(s'), as `target` [D]; V̄ is the state critic of the target named `critic`."""
    slow = targets["critic"]
    return _bootstrapped(batch, slow.state_values(slow.features(batch["final_observation"])), discount)


def least(values: Tensor, generator: np.random.Generator, subset: int | None) -> Tensor:
    """[S, N] → [S]: the least over members, or over a random subset of them."""
    if subset is not None and subset < values.shape[1]:
        members = generator.choice(values.shape[1], size=subset, replace=False)
        values = values[:, torch.from_numpy(members)]
    return values.amin(-1)


def _bootstrapped(batch: Batch, worth: Tensor, discount: float) -> Batch:
    going = (~batch["terminated"]).float()
    return batch.with_columns(target=batch["reward"] + discount * going * worth)
