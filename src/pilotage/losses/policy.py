"""Policy objectives, one formula each, per decision; no reduction inside. All are to be minimised."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.losses.terms import Terms, over_episodes, silent_where_zero
from pilotage.policies.base import Minibatch
from pilotage.policies.distributions import Distribution


@silent_where_zero("advantage")
def policy_gradient(logp: Tensor, rows: Minibatch) -> Terms:
    """REINFORCE, -A · log π(a|s), per decision [S]. Williams 1992."""
    return Terms(-rows["advantage"] * logp)


@silent_where_zero("advantage")
def clipped_ratio(logp: Tensor, rows: Minibatch, *, low: float | None = 0.2, high: float | None = 0.2) -> Terms:
    """PPO's clipped surrogate, -min(ρA, clip(ρ, 1-low, 1+high) A), per decision [S], ρ = π / behaviour.

    `high` above `low` is DAPO's clip-higher; None for both leaves the ratio unclipped. Schulman et al. 2017, eq. 7.
    """
    advantage = rows["advantage"]
    ratio = (logp - rows["behaviour_logp"]).exp()
    if low is None and high is None:
        return Terms(-ratio * advantage)
    floor = None if low is None else 1 - low
    roof = None if high is None else 1 + high
    bounded = ratio.clamp(floor, roof)
    loss = -torch.minimum(ratio * advantage, bounded * advantage)
    return Terms(loss, lambda: {"clipped": (bounded * advantage < ratio * advantage).float()})


@silent_where_zero("advantage")
def dual_clipped_ratio(
    logp: Tensor, rows: Minibatch, *, low: float | None = 0.2, high: float | None = 0.28, dual: float | None = 10.0
) -> Terms:
    """`clipped_ratio`, and where A < 0 at most `dual` · |A|, however large the ratio (None: no such bound), per
    decision [S]. Where A >= 0 the loss is not above 0 anyway. Ye et al. 2020, arXiv 1912.09729, eq. 5.
    """
    found = clipped_ratio(logp, rows, low=low, high=high)
    if dual is None:
        return found
    return replace(found, loss=torch.minimum(found.loss, dual * rows["advantage"].abs()))


def mirror_descent(
    logp: Tensor,
    distribution: Distribution,
    rows: Minibatch,
    progress: float,
    *,
    floor: float = 0.05,
    pace: float = 1.0,
) -> Terms:
    """MDPO on-policy: -ρA + KL(π || π_k) / t, per decision [S], the KL exact and with the NEW policy first.

    t falls linearly from 1 with `progress` in [0, 1) and is floored: t = pace · max(1 - progress, floor). The old
    policy is read from the column `old_distribution` [S, P]. `pace` = inf leaves the KL out. Tomar et al. 2020, eq. 5.
    """
    ratio = (logp - rows["behaviour_logp"]).exp()
    surrogate = -ratio * rows["advantage"]
    if pace == float("inf"):
        return Terms(surrogate)
    divergence = distribution.kl(distribution.like(rows["old_distribution"]))
    return Terms(surrogate + divergence / (pace * max(1 - progress, floor)), lambda: {"kl_new_old": divergence})


def straight_through_max(value: Tensor, floor: float) -> Tensor:
    """max(value, floor) forward, gradient 1 with respect to value everywhere."""
    return value + (value.clamp(min=floor) - value).detach()


@over_episodes
def negative_aware_likelihood(
    logp: Tensor,
    rows: Minibatch,
    *,
    negative_weight: float = 1.0,
    positive_floor: float = 0.0,
    negative_floor: float = 1.0,
    ratio: str = "token",
    ratio_ceiling: float = 10.0,
) -> Terms:
    """NFT: likelihood of right decisions, and of wrong ones under the implied negative policy, per decision [S].

        L = w [ r · (-log max(R, positive_floor)) + (1-r) · negative_weight · (-log max((1 - q R)/(1 - q),
        negative_floor)) ]

    R = π / behaviour per decision (`ratio="token"`) or per episode (`"sequence"`); r the column `label`, q
    `success_rate` (the prompt's), w `weight`. Both maxima pass gradients straight through. Log-ratios are capped from
    above at `ratio_ceiling` before the exponential. Chen et al. 2025, eq. 8; the released code.
    """
    log_ratio = logp - rows["behaviour_logp"]
    if ratio == "sequence":
        log_ratio = rows.per_episode(log_ratio)
    elif ratio != "token":
        raise ValueError(f"ratio {ratio!r} is not token or sequence")
    if negative_floor <= 0:
        raise UsageError(f"negative_floor is above 0, not {negative_floor:g}: below lies the logarithm of nothing")
    label, rate, weight = rows["label"], rows["success_rate"], rows["weight"]
    likelihood = log_ratio.clamp(max=ratio_ceiling).exp()
    # with no floor the positive term is the log-ratio itself; written so, its gradient is RFT's to the bit
    right = -log_ratio if positive_floor <= 0 else -straight_through_max(likelihood, positive_floor).log()
    if negative_weight == 0:
        return Terms(weight * label * right)
    implied = (1 - rate * likelihood) / (1 - rate)
    wrong = -straight_through_max(implied, negative_floor).log()
    loss = weight * (label * right + (1 - label) * negative_weight * wrong)
    return Terms(loss, lambda: {"negative_floored": ((implied < negative_floor) & (label < 1)).float()})
