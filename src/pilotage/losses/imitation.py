"""Likelihood of given decisions."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def likelihood(logp: Tensor) -> Terms:
    """Negative log-likelihood of every sampled decision, -log π(a|s), per decision [S]."""
    return Terms(-logp)


def advantage_weighted(
    logp: Tensor, value: Tensor, rows: Minibatch, *, inverse_temperature: float = 3.0, cap: float = 100.0
) -> Terms:
    """-min(exp(β (Q - V)), cap) · log π(a|s), per decision [S], the weight without gradient; Q the column `slow_q`.

    β, the `inverse_temperature`, at 0 leaves the likelihood of all decisions. Kostrikov et al. 2022, eq. 7; the cap is
    of its released code.
    """
    advantage = rows["slow_q"] - value.detach()
    weight = (inverse_temperature * advantage).exp().clamp(max=cap)
    return Terms(-weight * logp, lambda: {"weight": weight, "capped": (weight >= cap).to(torch.float32)})


def labelled_likelihood(logp: Tensor, rows: Minibatch) -> Terms:
    """Rejection-sampling fine-tuning: -w · r · log π(a|s), per decision [S]; r is `label`, w is `weight`."""
    return Terms(rows["weight"] * rows["label"] * -logp)


def squared_error(actor_action: Tensor, rows: Minibatch) -> Terms:
    """Mean over action dimensions of (π(s) - a)², per decision [S], in the world's units of action."""
    return Terms((actor_action - rows["action"]).square().mean(-1))
