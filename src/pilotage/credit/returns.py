"""Credit in time: returns to go, and advantages from a critic."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.reduce import Sum, alone, moments
from pilotage.policies.base import Policy, score


def discounted(per_decision: Tensor, offsets: Tensor, factor: float | Tensor) -> Tensor:
    """[D] y_t = x_t + factor · y_{t+1} within each episode, in float64: a linear filter run backwards. factor: one for
    all, or [E] one for each episode."""
    if isinstance(factor, float | int) and factor == 0:
        return per_decision.double()
    from scipy.signal import lfilter  # scipy.signal is slow to import and only needed here

    values = per_decision.double().numpy()
    out = np.empty_like(values)
    factors = factor.tolist() if isinstance(factor, Tensor) else itertools.repeat(factor)
    for (start, end), each in zip(itertools.pairwise(offsets.tolist()), factors, strict=False):
        out[start:end] = lfilter([1.0], [1.0, -each], values[start:end][::-1])[::-1]
    return torch.from_numpy(out)


def reward_to_go(batch: Batch, *, discount: float = 1.0) -> Batch:
    """The discounted sum of rewards from each decision on, as `advantage` and `return` [D]. Williams 1992."""
    to_go = discounted(batch["reward"], batch.offsets, discount).float()
    return batch.with_columns(advantage=to_go, **{"return": to_go})


def scaled_by_range(batch: Batch, *, multiplier: float = 1000.0) -> Batch:
    """Rewards times `multiplier` / (largest - smallest return of the batch's episodes). Raises UsageError where all
    returns are the same. IQL (Kostrikov et al. 2022), released code, for locomotion.
    """
    returns = batch.total(batch["reward"].double())[batch.valid]
    reach = float(returns.max() - returns.min())
    if not reach > 0:
        raise UsageError(
            "all episodes have the same return: there is no range to scale rewards by; set credit.reward=none"
        )
    return batch.with_columns(reward=batch["reward"] * (multiplier / reach))


def values(batch: Batch, policy: Policy) -> Batch:
    """The critic's value of each decision's state, `value` [D], and of what came after each episode, `final_value` [E].

    Episodes that terminated have final value 0; those cut by a limit or by the record's window bootstrap from the true
    final observation.
    """
    with torch.no_grad():
        value = score(batch, policy, "value")
        final = torch.zeros(len(batch))
        cut = ~batch["terminated"]
        if bool(cut.any()):
            final[cut] = policy.final_values(batch.select(cut))
    return batch.with_columns(value=value).with_episode(final_value=final)


def old_distribution(batch: Batch, policy: Policy) -> Batch:
    """The current policy's distribution at each decision, flat, as `old_distribution` [D, P]: the policy before its
    update."""
    return batch.with_columns(old_distribution=score(batch, policy, "distribution"))


def gae(batch: Batch, *, discount: float = 0.99, trace: float = 0.95) -> Batch:
    """Generalised advantage estimation: `advantage` and `return` [D] from `value` [D] and `final_value` [E].

    δ_t = r_t + γ V_{t+1} - V_t with V after the last decision = `final_value` (0 if terminated, else the bootstrap),
    and
    A_t = δ_t + γλ A_{t+1} within each episode. Only sampled decisions count: values between them are skipped, rewards
    in between are credited to the sampled decision before. Schulman et al. 2016, eq. 16.
    """
    advantage = traced(batch, batch.sampled, discount, trace)
    value = torch.where(batch.sampled, batch["value"], 0.0).double()
    return batch.with_columns(advantage=advantage.float(), **{"return": (advantage + value).float()})


def traced(batch: Batch, chosen: Tensor, discount: float, trace: float | Tensor) -> Tensor:
    """[D] A_t of `gae` at the chosen decisions [D], as if an episode were these alone; 0 at others, in float64. trace:
    one for all, or [E]."""
    value, offsets = batch["value"][chosen].double(), rows_before(batch, chosen)
    reward = _rewards_at_sampled(batch, chosen).double()
    following = torch.cat([value[1:], value.new_zeros(1)])
    some = offsets.diff() > 0
    following[offsets[1:][some] - 1] = batch["final_value"][some].double()
    delta = reward + discount * following - value
    return _at(chosen, discounted(delta, offsets, discount * trace))


def to_go(batch: Batch, chosen: Tensor, discount: float) -> Tensor:
    """[D] discounted rewards from each chosen decision [D] on, with `final_value` [E] after the last; 0 at others, in
    float64."""
    offsets, reward = rows_before(batch, chosen), _rewards_at_sampled(batch, chosen).double()
    some = offsets.diff() > 0
    reward[offsets[1:][some] - 1] += discount * batch["final_value"][some].double()
    return _at(chosen, discounted(reward, offsets, discount))


def rows_before(batch: Batch, chosen: Tensor) -> Tensor:
    """[E + 1] offsets of each episode's chosen decisions [D] among all chosen ones."""
    lengths = torch.bincount(batch.owner[chosen], minlength=len(batch))
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _at(chosen: Tensor, values: Tensor) -> Tensor:
    full = values.new_zeros(len(chosen))
    full[chosen] = values
    return full


def _rewards_at_sampled(batch: Batch, chosen: Tensor) -> Tensor:
    """[S] rewards, those of decisions the policy did not make added to the sampled decision before (in its episode)."""
    if bool(chosen.all()) or not bool(chosen.any()):
        return batch["reward"][chosen]
    position = chosen.long().cumsum(0) - 1  # the last sampled decision at or before each
    same = (position >= 0) & (batch.owner[chosen][position.clamp(min=0)] == batch.owner)
    out = torch.zeros(int(chosen.sum()), dtype=batch["reward"].dtype)
    return out.index_add_(0, position[same], batch["reward"][same])


def standardise(batch: Batch, over_ranks: Sum = alone, *, eps: float = 1e-8) -> Batch:
    """`advantage` [D] less its mean over its sample deviation, both over all sampled decisions of the batch.

    Statistics leave out invalid episodes; where all advantages are equal they become 0. `over_ranks` sums over
    processes.
    """
    return standardised(batch, batch.sampled, over_ranks, eps)


def standardised(batch: Batch, chosen: Tensor, over_ranks: Sum, eps: float, limit: float = float("inf")) -> Batch:
    """The same over the chosen decisions [D] alone, held within ± `limit`; the others' advantages become 0."""
    advantage = batch["advantage"].double()
    count, mean, squares = moments(advantage[chosen & batch.spread(batch.valid)], over_ranks)
    if count < 2:
        return batch
    scaled = ((advantage - mean) / ((squares / (count - 1)).sqrt() + eps)).clamp(-limit, limit)
    return batch.with_columns(advantage=torch.where(chosen, scaled, 0.0).float())
