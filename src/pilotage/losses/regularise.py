"""Penalties beside the main objective, per decision."""

from __future__ import annotations

from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def negative_entropy(entropy: Tensor) -> Terms:
    """-H(π(·|s)), per decision [S]: added with a positive weight it is an entropy bonus."""
    return Terms(-entropy, lambda: {"entropy": entropy})


def reference_divergence(logp: Tensor, rows: Minibatch) -> Terms:
    """Estimate of KL(π || reference) from the sampled decision: ref/π - log(ref/π) - 1, per decision [S].

    Never negative, and unbiased where decisions are drawn from π. Needs the column `reference_logp`. Shao et al. 2024,
    eq. 4.
    """
    log_ratio = rows["reference_logp"] - logp
    divergence = log_ratio.exp() - log_ratio - 1
    return Terms(divergence, lambda: {"kl_reference": divergence})
