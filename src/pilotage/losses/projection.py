"""Losses of A2PR (Liu et al. 2024): which action to clone, where to clone at all, and the model that proposes actions.

Actions are in the world's units. Advantages are Q_1(s, ·) - V(s), with V as it is before this batch changes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch


def kept_reconstruction(
    reconstruction: Tensor, q: Tensor, value: Tensor, rows: Minibatch, *, threshold: float = 0.0
) -> Terms:
    """1[Q_1(s, a) - V(s) > threshold] · mean over action dimensions of (â - a)², per decision [S].

    Decisions left out count in the mean all the same. Paper: threshold ε_A, which is 0 in released code.
    """
    keep = (q[:, 0] - value > threshold).to(reconstruction.dtype)
    error = (reconstruction - rows["action"]).square().mean(-1)
    return Terms(keep * error, lambda: {"kept": keep})


def latent_divergence(latent_mean: Tensor, latent_log_std: Tensor) -> Terms:
    """KL(N(μ, σ²) || N(0, 1)), the mean over latent dimensions, per decision [S]; never masked."""
    variance = (2 * latent_log_std).exp()
    return Terms((-0.5 * (1 + 2 * latent_log_std - latent_mean.square() - variance)).mean(-1))


def selected_cloning(
    actor_action: Tensor,
    projected: Tensor,
    projected_q: Tensor,
    q: Tensor,
    value: Tensor,
    rows: Minibatch,
    *,
    threshold: float = 0.0,
    detach_target: bool = False,
    project: bool = True,
    gate: bool = True,
) -> Terms:
    """g · mean over action dimensions of (π(s) - a*)², per decision [S].

    a* is the model's action `projected` where its `projected_q` [S] is at least Q_1(s, a), else the logged one; g is 1
    where the model's advantage is at least, or the logged action's above, `threshold`, else 0. With `detach_target`,
    a* is a constant, as the paper's text has it; without, gradients also flow through the model into π(s), as in
    released code. `project` off: a* is always the logged action; `gate` off: g is always 1.
    """
    logged_q = q[:, 0]
    better = projected_q >= logged_q
    goal = rows["action"]
    if project:
        goal = torch.where(better.unsqueeze(-1), projected.detach() if detach_target else projected, goal)
    loss = (actor_action - goal).square().mean(-1)
    keep = (projected_q - value >= threshold) | (logged_q - value > threshold)
    if gate:
        loss = keep.to(loss.dtype) * loss
    return Terms(loss, lambda: {"projected": better.float(), "gated_off": (~keep).float()})
