"""Likelihood of given decisions."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def likelihood(logp: Tensor) -> Terms:
    """Negative log-likelihood of every sampled decision, -log π(a|s), per decision [S]."""
    return Terms(-logp)


def labelled_likelihood(logp: Tensor, rows: Minibatch) -> Terms:
    """Rejection-sampling fine-tuning: -w · r · log π(a|s), per decision [S]; r is `label`, w is `weight`."""
    return Terms(rows["weight"] * rows["label"] * -logp)


def squared_error(actor_action: Tensor, rows: Minibatch) -> Terms:
    """Mean over action dimensions of (π(s) - a)², per decision [S], in the world's units of action."""
    return Terms((actor_action - rows["action"]).square().mean(-1))
