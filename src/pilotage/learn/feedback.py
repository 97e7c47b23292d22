"""Rewards from preferences between whole episodes, and a regularised learner that knows no other."""

from __future__ import annotations

from typing import Any

import numpy as np

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.learn.finite import Array, Whole
from pilotage.learn.optimism import Regularised

PASSES = 400


class Feedback(Regularised):
    """`preferences` pairs of episodes of the clone, labelled by a Bernoulli of the logistic of their returns'
    difference times `sharpness`, give rewards by maximum likelihood; the rewards that are paid are never read.

    Source: Tiapkin et al. 2024, section 5. Rewards are looked for in [0, 1], one for each state and action (`timed`:
    and each time).
    """

    def __init__(
        self, policy: Any, world: Any, streams: Streams, *, model: str = "counts", bonus: float = 0.01,
        delta: float = 0.1, ridge: float = 0.0, demonstrations: int = 100, expert_noise: float = 0.05,
        temperature: float | None = None, accuracy: float = 0.1, stop: bool = False, preferences: int = 200,
        sharpness: float = 1.0, timed: bool = False, form: str = "hoeffding",
    ) -> None:  # fmt: skip
        super().__init__(
            policy, world, streams, model=model, bonus=bonus, delta=delta, ridge=ridge, demonstrations=demonstrations,
            expert_noise=expert_noise, temperature=temperature, accuracy=accuracy, stop=stop, form=form,
        )  # fmt: skip
        if preferences < 1 or sharpness <= 0:
            raise UsageError("preferences is at least 1, sharpness above 0")
        generator = streams.generator("preferences")
        pairs = [world.demonstrate(self.reference, preferences, generator) for _ in range(2)]
        gap = sharpness * (pairs[1][2].sum(-1) - pairs[0][2].sum(-1))
        labels = (generator.random(gap.shape) < 1 / (1 + np.exp(-gap))).astype(np.float64)
        horizon, *sizes = self.sizes[1:]
        second, first = (visits_of(states, actions, (horizon, *sizes), timed) for states, actions, _ in pairs[::-1])
        fitted = preferred(sharpness * (second - first), labels)
        shape = (len(fitted), horizon if timed else 1, *sizes)
        self.rewards = np.broadcast_to(fitted.reshape(shape), self.sizes)

    def rewards_of(self, states: Whole, actions: Whole, rewards: Array) -> Array:
        copy, time = np.arange(len(states))[:, None, None], np.arange(actions.shape[-1])
        found: Array = self.rewards[copy, time, states[..., :-1], actions]
        return found


def visits_of(states: Whole, actions: Whole, sizes: tuple[int, ...], timed: bool) -> Array:
    """[N, K, D] how often each episode was in each (time,) state and action: states [N, K, H + 1], actions [N, K, H],
    sizes (H, S, A)."""
    copies, count, horizon = actions.shape
    seen = np.zeros((copies, count, sizes[0] if timed else 1, *sizes[1:]))
    time = np.arange(horizon) if timed else np.zeros(horizon, np.int64)
    place = (np.arange(copies)[:, None, None], np.arange(count)[:, None], time, states[..., :-1], actions)
    np.add.at(seen, place, 1.0)
    return seen.reshape(copies, count, -1)


def preferred(difference: Array, labels: Array, passes: int = PASSES) -> Array:
    """[N, D] rewards in [0, 1] that make labels [N, K] likeliest: label k is Bernoulli of the logistic of
    difference[k] · r, difference [N, K, D] (second less first).

    Accelerated projected gradient ascent from 0.5, with a step that the curvature allows. Bradley & Terry 1952;
    Nesterov 1983.
    """
    # the curvature is at most ‖X‖² / 4, and the Frobenius norm is at least the spectral one
    step = 4 / np.maximum(np.square(difference).sum((-1, -2)), 1e-12)[:, None]
    found = np.full((len(difference), difference.shape[-1]), 0.5)
    ahead, momentum = found, 1.0
    for _ in range(passes):
        following = np.clip(ahead + step * slope(difference, labels, ahead), 0.0, 1.0)
        growing = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = following + (momentum - 1) / growing * (following - found)
        found, momentum = following, growing
    return found


def slope(difference: Array, labels: Array, rewards: Array) -> Array:
    """[N, D] the gradient of the labels' log-likelihood by the rewards [N, D]."""
    expected = 1 / (1 + np.exp(-np.matmul(difference, rewards[:, :, None])[..., 0]))
    found: Array = np.matmul((labels - expected)[:, None], difference)[:, 0]
    return found
