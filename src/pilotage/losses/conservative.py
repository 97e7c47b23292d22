"""Penalties on the values of actions that the data do not have, per decision."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch

MOST = 1e6  # the multiplier is held below, as in released code


def conservative_gap(
    q: Tensor,
    contrast_q: Tensor,
    log_multiplier: Tensor,
    rows: Minibatch,
    *,
    weight: float = 5.0,
    temperature: float = 1.0,
    threshold: float | None = None,
) -> Terms:
    """CQL's penalty Σ_i g_i, g_i = w (T log Σ_k exp((Q_i(s, a_k) - log p_k) / T) - Q_i(s, a)), per decision [S].

    contrast_q [S, K, N] is of actions a_k whose log-densities log p_k stand in the column `contrast_logp` [S, K]: an
    importance-sampled log-integral, plus log K. T is the `temperature`; as in released code it divides log p_k too,
    which is importance sampling for T = 1 only. With a `threshold` τ there is a multiplier λ = exp(log_multiplier):
    λ Σ_i (g_i - τ) for the critics and -λ Σ_i (g_i - τ) / 2 for λ, each without gradient in the other, so that λ grows
    while gaps are above τ. Kumar et al. 2020, eq. 4 (CQL(H)) and appendix F.
    """
    densities = rows["contrast_logp"].unsqueeze(-1)
    above = temperature * torch.logsumexp((contrast_q - densities) / temperature, 1)
    gap = weight * (above - q)  # [S, N]
    if threshold is None:
        return Terms(gap.sum(-1), lambda: {"gap": gap.mean(-1)})
    excess, multiplier = gap - threshold, log_multiplier.exp().clamp(0, MOST)
    loss = multiplier.detach() * excess.sum(-1) - multiplier * 0.5 * excess.detach().sum(-1)
    return Terms(loss, lambda: {"gap": gap.mean(-1), "multiplier": multiplier})
