"""Losses of actors that learn from action critics, and of critics of actions, per decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def bellman_error(q: Tensor, rows: Minibatch) -> Terms:
    """½ Σ_i (Q_i(s, a) - y)², per decision [S]; y the column `target`, the same for each of the ensemble q [S, N].

    Times the column `weight`, where a link on drawn batches wrote one.
    """
    loss = 0.5 * (q - rows["target"].unsqueeze(-1)).square().sum(-1)
    return Terms(loss * rows["weight"] if "weight" in rows else loss, lambda: {"q": q.mean(-1)})


def soft_actor(actor_q: Tensor, actor_logp: Tensor, log_temperature: Tensor) -> Terms:
    """α log π(ã|s) - min_i Q_i(s, ã), per decision [S], ã drawn from π through its noise. Haarnoja et al. 2018, eq.
    9."""
    temperature = log_temperature.detach().exp()
    return Terms(temperature * actor_logp - actor_q.min(-1).values, lambda: {"entropy": -actor_logp})


def temperature(
    log_temperature: Tensor, actor_logp: Tensor, rows: Minibatch, *, target_entropy: float | None = None
) -> Terms:
    """-log α · (log π(ã|s) + H̄), per decision [S]; H̄ is minus the number of action dimensions where not given.

    Haarnoja et al. 2018, eq. 18, on log α as released code does.
    """
    goal = -float(rows["action"].shape[-1]) if target_entropy is None else target_entropy
    return Terms(-log_temperature * (actor_logp.detach() + goal), lambda: {"entropy_weight": log_temperature.exp()})


def deterministic_actor(actor_first_q: Tensor) -> Terms:
    """-Q_1(s, π(s)), per decision [S]. Fujimoto et al. 2018."""
    return Terms(-actor_first_q)


def normalised_actor(actor_first_q: Tensor, *, alpha: float | None = 2.5) -> Terms:
    """-λ Q_1(s, π(s)), per decision [S], with λ = alpha / mean |Q_1(s, π(s))| over these decisions, without gradient.

    alpha 0: no gradient at all. None: λ = 1, TD3's loss. Fujimoto & Gu 2021, eqs. 4 and 5, with the mean over policy
    actions, as released code has it (the paper's: over logged ones). Where several processes share a step, each has a λ
    of its own.
    """
    if alpha is None:
        return Terms(-actor_first_q)
    scale = actor_first_q.detach().abs().mean().clamp(min=torch.finfo(actor_first_q.dtype).tiny)
    return Terms(-(alpha / scale) * actor_first_q, lambda: {"actor_q": actor_first_q})


def bootstrapped_error(q: Tensor, following_value: Tensor, rows: Minibatch, *, discount: float = 0.99) -> Terms:
    """½ Σ_i (Q_i(s, a) - r - γ (1 - terminated) V(s'))², per decision [S], q [S, N]; V as it is now, without gradient.

    Columns: `reward`, and `going`, which is 0 where a decision terminated its episode. Kostrikov et al. 2022, eq. 6.
    """
    goal = rows["reward"] + discount * rows["going"] * following_value.detach()
    return Terms(0.5 * (q - goal.unsqueeze(-1)).square().sum(-1), lambda: {"q": q.mean(-1)})


def soft_value_error(value: Tensor, actor_q: Tensor, actor_logp: Tensor, *, entropy_weight: float = 0.2) -> Terms:
    """½ (V(s) - (min_i Q_i(s, ã) - λ log π(ã|s)))², per decision [S], the right side without gradient."""
    goal = (actor_q.min(-1).values - entropy_weight * actor_logp).detach()
    return Terms(0.5 * (value - goal).square())


def q_logarithm(logp: Tensor, order: float, floor: float = 1e-6) -> Tensor:
    """ln_{2-q}(p) = (p^(q-1) - 1)/(q - 1) of a density given by its logarithm; the logarithm itself at q = 1.

    Densities are held above `floor`, as released code does: gradients vanish below.
    """
    if order == 1:
        return logp
    density = logp.exp().clamp(min=floor)
    return (density ** (order - 1) - 1) / (order - 1)


def mirror_actor(
    actor_first_q: Tensor,
    actor_action: Tensor,
    actor_logp: Tensor,
    actor_mean: Tensor,
    actor_log_std: Tensor,
    rows: Minibatch,
    targets: Mapping[str, Any],
    *,
    mirror_weight: float = 0.5,
    entropy_weight: float = 0.2,
    order: float = 1.0,
    shrink: float = 1e-3,
) -> Terms:
    """MDPO off-policy: c log π(ã|s) + q (λ - c) log π_k(ã|s) - Q_1(s, ã) + a little shrinkage, per decision [S].

    c = `mirror_weight` (1/t), λ = `entropy_weight`, q = `order` of the Tsallis logarithm (1: the ordinary one). π_k is
    the target named `previous`; gradients flow through ã in all terms, not into π_k. With c = λ the old policy drops
    out and the loss is SAC's, but for Q_1 and the shrinkage. Tomar et al. 2020, section 4.2; released code.
    """
    now = q_logarithm(actor_logp, order)
    loss = mirror_weight * now - actor_first_q
    if entropy_weight != mirror_weight:
        previous = targets["previous"]
        before = previous.log_density(previous.features(rows["observation"]), actor_action)
        loss = loss + order * (entropy_weight - mirror_weight) * q_logarithm(before, order)
    if shrink:
        loss = loss + shrink * (actor_mean.square().mean(-1) + actor_log_std.square().mean(-1))
    return Terms(loss, lambda: {"entropy": -actor_logp})
