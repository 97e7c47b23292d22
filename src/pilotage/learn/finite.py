"""The finite-horizon core: what was seen as counts or Gram matrices, bonuses, and hard or soft backups.

Everything has a leading axis of N replicas that learn side by side, then time H; S states, A actions, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Which = Whole | slice  # replicas
Back = Callable[[Array, int], Array]  # action values [n, S, A] and the time → values [n, S]


class Estimate(Protocol):
    """A model of n replicas as it stands. width [n, H, S, A]: 1 / sqrt(visits), or ‖φ‖ in the inverse Gram matrix."""

    width: Array

    def reward(self, h: int) -> Array:
        """[n, S, A] estimated rewards."""

    def ahead(self, h: int, value: Array) -> Array:
        """[n, S, A] expected next values, of values [n, S]."""


class Counts:
    """Visits, rewards and next states of each (replica, time, state, action), which is ridge regression on one-hot
    features; ridge 0 gives plain means, and 0 with an infinite width where nothing was seen."""

    features: int

    def __init__(self, copies: int, horizon: int, states: int, actions: int, ridge: float) -> None:
        self.ridge, self.features = ridge, states * actions
        self.visits = np.zeros((copies, horizon, states, actions))
        self.rewards = np.zeros_like(self.visits)
        self.following = np.zeros((*self.visits.shape, states))

    def add(self, states: Whole, actions: Whole, rewards: Array) -> None:
        """Takes K episodes of each replica: states [N, K, H + 1], actions and rewards [N, K, H]."""
        copies, _, horizon = actions.shape
        copy, time = np.arange(copies)[:, None, None], np.arange(horizon)
        place = (copy, time, states[..., :-1], actions)
        np.add.at(self.visits, place, 1.0)
        np.add.at(self.rewards, place, rewards)
        np.add.at(self.following, (*place, states[..., 1:]), 1.0)

    def estimate(self, which: Which) -> Estimate:
        """The model of some replicas."""
        return _Means(self.visits[which], self.rewards[which], self.following[which], self.ridge)

    def growth(self) -> Array:
        """[N, H] log det Λ - log det(ridge · I)."""
        ridge = self.ridge or 1.0
        found: Array = np.log1p(self.visits / ridge).sum((-1, -2))
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"visits": self.visits, "rewards": self.rewards, "following": self.following}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("visits", "rewards", "following"):
            setattr(self, name, np.array(state[name]))


class _Means:
    def __init__(self, visits: Array, rewards: Array, following: Array, ridge: float) -> None:
        weight = visits + ridge
        self.share = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
        self.width = np.where(weight > 0, np.sqrt(self.share), np.inf)
        self.rewards, self.following = rewards, following

    def reward(self, h: int) -> Array:
        found: Array = self.rewards[:, h] * self.share[:, h]
        return found

    def ahead(self, h: int, value: Array) -> Array:
        copies, _, states, actions, _ = self.following.shape
        seen = self.following[:, h].reshape(copies, states * actions, states)
        summed = np.matmul(seen, value[:, :, None]).reshape(copies, states, actions)
        found: Array = summed * self.share[:, h]
        return found


class Gram:
    """Gram matrices Λ = ridge · I + Σ φφᵀ with Σ φ r and Σ φ 1[s'], so that regressions on next values need no data.

    features: [S, A, D]. Sources: Jin et al. 2020 (LSVI-UCB).
    """

    def __init__(self, copies: int, horizon: int, features: Array, ridge: float) -> None:
        self.table, self.ridge, self.features = features, ridge, features.shape[-1]
        states, width = len(features), self.features
        self.gram = np.broadcast_to(ridge * np.eye(width), (copies, horizon, width, width)).copy()
        self.rewards = np.zeros((copies, horizon, width))
        self.following = np.zeros((copies, horizon, width, states))

    def add(self, states: Whole, actions: Whole, rewards: Array) -> None:
        """Takes K episodes of each replica: states [N, K, H + 1], actions and rewards [N, K, H]."""
        copies, count, horizon = actions.shape
        copy, time = np.arange(copies)[:, None], np.arange(horizon)
        for k in range(count):
            phi = self.table[states[:, k, :-1], actions[:, k]]
            self.gram += phi[..., :, None] * phi[..., None, :]
            self.rewards += phi * rewards[:, k, :, None]
            self.following[copy, time, :, states[:, k, 1:]] += phi

    def estimate(self, which: Which) -> Estimate:
        """The model of some replicas."""
        return _Regressions(self.gram[which], self.rewards[which], self.following[which], self.table)

    def growth(self) -> Array:
        """[N, H] log det Λ - log det(ridge · I)."""
        found: Array = np.linalg.slogdet(self.gram)[1] - self.features * math.log(self.ridge)
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"gram": self.gram, "rewards": self.rewards, "following": self.following}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("gram", "rewards", "following"):
            setattr(self, name, np.array(state[name]))


class _Regressions:
    def __init__(self, gram: Array, rewards: Array, following: Array, table: Array) -> None:
        self.table, self.rewards, self.following = table.reshape(-1, table.shape[-1]), rewards, following
        self.shape = table.shape[:2]
        self.inverse = np.linalg.inv(gram)
        squares = np.einsum("kd,nhde,ke->nhk", self.table, self.inverse, self.table, optimize=True)
        self.width = np.sqrt(squares.clip(min=0)).reshape(*gram.shape[:2], *self.shape)

    def reward(self, h: int) -> Array:
        return self._fitted(h, self.rewards[:, h])

    def ahead(self, h: int, value: Array) -> Array:
        return self._fitted(h, np.matmul(self.following[:, h], value[:, :, None])[..., 0])

    def _fitted(self, h: int, sums: Array) -> Array:
        weights = np.matmul(self.inverse[:, h], sums[:, :, None])[..., 0]
        found: Array = (weights @ self.table.T).reshape(-1, *self.shape)
        return found


def bonus(width: Array, scale: float, span: float, cells: int, delta: float) -> Array:
    """scale · span · w · sqrt(2 log(4 · cells · n² / δ)), n = 1 / w² at least 1: for counts Hoeffding's, of values in
    [0, span], over `cells` = H · S · A (or H · D). Infinite where nothing was seen, 0 for scale 0."""
    if scale == 0:
        return np.zeros_like(width)
    visits = np.maximum(1.0, np.divide(1.0, width**2, out=np.ones_like(width), where=width > 0))
    found: Array = scale * span * width * np.sqrt(2 * np.log(4 * cells * visits**2 / delta))
    return found


def backward(estimate: Estimate, caps: Array, added: Array, back: Back) -> Array:
    """[n, H, S, A]: Q_h = clip(r_h + p_h V_{h+1} + added_h, 0, caps_h), with V_h = back(Q_h, h) and V_{H+1} = 0."""
    copies, horizon, states, _ = estimate.width.shape
    found = np.empty_like(estimate.width)
    value = np.zeros((copies, states))
    for h in reversed(range(horizon)):
        found[:, h] = np.clip(estimate.reward(h) + estimate.ahead(h, value) + added[:, h], 0.0, caps[h])
        value = back(found[:, h], h)
    return found


def between(
    estimate: Estimate, caps: Array, scale: float, cells: int, delta: float, back: Back
) -> tuple[Array, Array, Array]:
    """Upper and lower action values [n, H, S, A] with Bernstein's bonus, and its part b' that has no variance in it.

        b = c (3 sqrt(Var_p(V_up) β / n) + 9 H span β / n) + p (V_up - V_low) / H
        β = log(4 cells / δ) + log(4 e n (2n + 1))

    c = `scale`, n the visits, span = caps[0]; values are held within [0, caps_h]. b' = c H span β / n. Infinite where
    nothing was seen. Ménard et al. 2021 (UCBVI-BPI); Tiapkin et al. 2024, appendix (UCBVI-Ent+), where H span is H².
    """
    copies, horizon, states, _ = estimate.width.shape
    share, span = estimate.width**2, float(caps[0])
    visits = np.maximum(1.0, np.divide(1.0, share, out=np.ones_like(share), where=share > 0))
    beta = np.log(4 * cells / delta) + np.log(4 * math.e * visits * (2 * visits + 1))
    plain = scale * horizon * span * beta * share if scale else np.zeros_like(share)
    upper, lower = np.empty_like(share), np.empty_like(share)
    above, below = np.zeros((copies, states)), np.zeros((copies, states))
    for h in reversed(range(horizon)):
        mean, reward = estimate.ahead(h, above), estimate.reward(h)
        variance = (estimate.ahead(h, above**2) - mean**2).clip(min=0.0)
        swing = scale * 3 * np.sqrt(variance * (beta * np.minimum(share, 1.0))[:, h]) if scale else 0.0
        added = swing + 9 * plain[:, h] + estimate.ahead(h, above - below) / horizon
        upper[:, h] = np.clip(reward + mean + added, 0.0, caps[h])
        lower[:, h] = np.clip(reward + estimate.ahead(h, below) - added, 0.0, caps[h])
        above, below = back(upper[:, h], h), back(lower[:, h], h)
    return upper, lower, plain


def highest(action_value: Array, h: int = 0) -> Array:
    """Hard backup: […, S, A] → […, S]."""
    found: Array = action_value.max(-1)
    return found


def greedy(action_value: Array) -> Array:
    """[…, A] → probabilities: 1 at the first of the highest."""
    found: Array = np.eye(action_value.shape[-1])[action_value.argmax(-1)]
    return found


def soft(action_value: Array, reference: Array, temperature: float) -> tuple[Array, Array]:
    """V = λ log Σ_a q(a) exp(Q(a) / λ) and π ∝ q exp(Q / λ), for Q and q […, A]; λ 0 is the best action that q allows.

    The maximum over π of π·Q - λ KL(π || q). Geist et al. 2019; stable for any λ.
    """
    allowed = np.where(reference > 0, action_value, -np.inf)
    top = allowed.max(-1, keepdims=True)
    if temperature == 0:
        return top[..., 0], greedy(allowed)
    # near 1 what is under the logarithm loses digits: Σ q (exp - 1) keeps them
    below = (reference * np.expm1((action_value - top).clip(max=0.0) / temperature)).sum(-1)
    policy = reference * np.exp((allowed - top) / temperature)
    return top[..., 0] + temperature * np.log1p(below), policy / policy.sum(-1, keepdims=True)


def softmax(logits: Array) -> Array:
    """[…, A] probabilities, the largest taken off first."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    found: Array = raised / raised.sum(-1, keepdims=True)
    return found


def divergence(policy: Array, reference: Array) -> Array:
    """[…] KL(π || q) of probabilities […, A]; infinite where π does what q never does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(policy > 0, policy * (np.log(policy) - np.log(reference)), 0.0)
    found: Array = terms.sum(-1)
    return found


def cloned(states: Whole, actions: Whole, horizon: int, sizes: tuple[int, int], mixture: bool) -> Array:
    """[N, H, S, A] behaviour cloning of K episodes a replica: states [N, K, H + 1], actions [N, K, H].

    Add-one smoothing (N(s,a) + 1) / (N(s) + A); or, as `mixture`, frequencies mixed with a share κ = A / (K + A) of the
    uniform policy, for linear policies with one-hot features. Tiapkin et al. 2024, section 3.
    """
    copies, count, _ = actions.shape
    seen = np.zeros((copies, horizon, *sizes))
    np.add.at(seen, (np.arange(copies)[:, None, None], np.arange(horizon), states[..., :-1], actions), 1.0)
    total, width = seen.sum(-1, keepdims=True), sizes[1]
    if not mixture:
        smooth: Array = (seen + 1) / (total + width)
        return smooth
    share = width / (count + width)
    known = np.divide(seen, total, out=np.full_like(seen, 1 / width), where=total > 0)
    found: Array = share / width + (1 - share) * known
    return found
