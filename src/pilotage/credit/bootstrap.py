"""What action critics learn from, worked out when a batch is drawn: targets, and actions to hold others against.

Targets read what stands in the batch: a link before them in the recipe's `drawn` may write `reward` anew, `discount`
for each decision in place of the setting, `following_action` (with `following_logp`, else 0) in place of the policy's,
and `weight`, which the critics' error is multiplied by.
"""

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


def importance(batch: Batch, *, share: float = 1.0) -> Batch:
    """`weight` [D] that undoes draws in proportion to `draw_weight`: (the batch's least of them / its own) ** share.

    Schaul et al. 2016, arXiv 1511.05952, section 3.4, where `share` is β.
    """
    drawn_by = batch["draw_weight"]
    return batch.with_columns(weight=(drawn_by.min() / drawn_by) ** share)


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
    if "following_action" in batch:
        action = batch["following_action"]
        logp = batch["following_logp"] if "following_logp" in batch else torch.zeros(batch.decisions)
    else:
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
    """TD3's target y = r + γ (1 - terminated) min_i Q̄_i(s', π̄(s') + clipped noise), as `target` [D], with the action in
    it as `following_action`.

    Noise has deviation `smoothing` and is clipped at `limit`, both of half the action range. π̄ and Q̄ are the target
    named `slow`. Fujimoto et al. 2018, eq. 14.
    """
    slow = targets["slow"]
    following = slow.features(batch["final_observation"])
    if "following_action" in batch:
        action = batch["following_action"]
    else:
        jitter = (smoothing * slow.noise(generator, batch.decisions, 1)[0]).clamp(-limit, limit)
        action = slow.to_world((slow.to_unit(slow.chosen(following)) + jitter).clamp(-1, 1))
    worth = slow.action_values(following, action).amin(-1)
    return _bootstrapped(batch.with_columns(following_action=action), worth, discount)


@torch.no_grad()
def sampled_target(
    batch: Batch, policy: Any, targets: Mapping[str, Any], generator: np.random.Generator, *, discount: float = 0.99
) -> Batch:
    """y = r + γ (1 - terminated) min_i Q̄_i(s', a'), as `target` [D]; a' from the policy, its entropy left out.

    Q̄ is the target named `critic`. Kumar et al. 2020, released code ("deterministic backup").
    """
    following = policy.features(batch["final_observation"])
    action, _ = policy.drawn(following, policy.noise(generator, batch.decisions, 1)[0])
    return _bootstrapped(batch, targets["critic"].action_values(following, action).amin(-1), discount)


@torch.no_grad()
def state_target(batch: Batch, targets: Mapping[str, Any], *, discount: float = 0.99) -> Batch:
    """y = r + γ (1 - terminated) V̄(s'), as `target` [D]; V̄ is the state critic of the target named `critic`."""
    slow = targets["critic"]
    return _bootstrapped(batch, slow.state_values(slow.features(batch["final_observation"])), discount)


def following(batch: Batch) -> Batch:
    """What came after each decision, as columns for losses: `following_observation` [D, …], and `going` [D], 0 where it
    terminated its episode, else 1. The batch is of episodes of one decision, as stores draw them."""
    return batch.with_columns(following_observation=batch["final_observation"], going=(~batch["terminated"]).float())


@torch.no_grad()
def slow_worth(batch: Batch, targets: Mapping[str, Any]) -> Batch:
    """min_i Q̄_i(s, a) of the stored actions as `slow_q` [D]; Q̄ is the target named `critic`."""
    slow = targets["critic"]
    values = slow.action_values(slow.features(batch["observation"]), batch["action"])
    return batch.with_columns(slow_q=values.amin(-1))


@torch.no_grad()
def contrast(batch: Batch, policy: Any, generator: np.random.Generator, *, samples: int = 10) -> Batch:
    """Actions to hold stored ones against, `contrast_action` [D, 3·samples, A], with log-densities `contrast_logp`.

    A third each is uniform over the action space, from the policy at the observation, and from the policy at the next
    observation, in this order. Kumar et al. 2020, appendix F.
    """
    count = batch.decisions * samples
    unit = torch.from_numpy(generator.uniform(-1, 1, (count, policy.width)).astype(np.float32))
    density = -(2 * policy.scale).log().sum()
    actions, logps = [policy.to_world(unit)], [density.expand(count)]
    for name in ("observation", "final_observation"):
        features = policy.features(batch[name]).repeat_interleave(samples, 0)
        action, logp = policy.drawn(features, policy.noise(generator, count, 1)[0])
        actions.append(action)
        logps.append(logp)
    shape = (batch.decisions, samples)
    return batch.with_columns(
        contrast_action=torch.cat([action.view(*shape, -1) for action in actions], 1),
        contrast_logp=torch.cat([logp.view(shape) for logp in logps], 1),
    )


def latents(batch: Batch, policy: Any, generator: np.random.Generator) -> Batch:
    """Fresh standard normal numbers for a policy's model of actions, `reconstruction_noise` and `projection_noise`
    [D, L]."""
    drawn = generator.standard_normal((2, batch.decisions, policy.latent), dtype=np.float32)
    made = torch.from_numpy(drawn)
    return batch.with_columns(reconstruction_noise=made[0], projection_noise=made[1])


def least(values: Tensor, generator: np.random.Generator, subset: int | None) -> Tensor:
    """[S, N] → [S]: the least over members, or over a random subset of them."""
    if subset is not None and subset < values.shape[1]:
        members = generator.choice(values.shape[1], size=subset, replace=False)
        values = values[:, torch.from_numpy(members)]
    return values.amin(-1)


def _bootstrapped(batch: Batch, worth: Tensor, discount: float) -> Batch:
    going = (~batch["terminated"]).float()
    factor = batch.columns.get("discount", discount)
    return batch.with_columns(target=batch["reward"] + factor * going * worth)
