"""What another policy would have earned, from a log with propensities; and how a curve of generations swings.

With weights w = target probability of the logged action / its propensity:

    inverse propensity   mean(w r)
    self-normalised      sum(w r) / sum(w)
    doubly robust        mean(sum_a target(a) q(a) + w (r - q(logged)))

Dudík et al. 2011; Swaminathan & Joachims 2015. Intervals are normal, from the standard error of the mean (of the
linearised ratio, for the self-normalised).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from pilotage.data.piece import UsageError
from pilotage.policies.bandit import BanditPolicy
from pilotage.worlds.click_log import LoggedBandit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A policy's value with its interval. effective: how many equally weighted rounds the weights are worth."""

    value: float
    low: float
    high: float
    effective: float


def weights(target: ArrayLike, propensity: ArrayLike | None) -> Floats:
    """[n] target / propensity, both of the logged actions.

    Raises UsageError for a log without propensities, with some outside (0, 1], or a target outside [0, 1].
    """
    if propensity is None:
        raise UsageError("the log has no propensities: nothing can be said of another policy")
    chance, wanted = np.asarray(propensity, np.float64), np.asarray(target, np.float64)
    if chance.shape != wanted.shape or chance.ndim != 1 or not len(chance):
        raise UsageError(f"a log of {chance.shape} propensities and target probabilities of shape {wanted.shape}")
    bad = ~((chance > 0) & (chance <= 1))
    if bad.any():
        raise UsageError(
            f"{int(bad.sum())} propensities of the log are not above 0 and at most 1, the first at round "
            f"{int(bad.argmax())}"
        )
    if not ((wanted >= 0) & (wanted <= 1 + 1e-9)).all():
        raise UsageError("target probabilities are between 0 and 1")
    return wanted / chance


def inverse_propensity(
    reward: ArrayLike, target: ArrayLike, propensity: ArrayLike | None, *, level: float = 0.95
) -> Estimate:
    """Of rewards [n] of logged actions, their target probabilities [n] and propensities [n]."""
    w = weights(target, propensity)
    return _around(w * _rewards(reward, w), w, level)


def self_normalised(
    reward: ArrayLike, target: ArrayLike, propensity: ArrayLike | None, *, level: float = 0.95
) -> Estimate:
    """As `inverse_propensity`, divided by the mean weight; a weighted mean of rewards, hence within their range."""
    w = weights(target, propensity)
    total = w.sum()
    if total == 0:
        raise UsageError("the target policy never chooses what was logged: nothing can be said of it")
    rewards = _rewards(reward, w)
    value = float((w * rewards).sum() / total)
    return _around(value + w * (rewards - value) / w.mean(), w, level, value)


def doubly_robust(
    reward: ArrayLike,
    action: ArrayLike,
    target: ArrayLike,
    propensity: ArrayLike | None,
    predicted: ArrayLike,
    *,
    level: float = 0.95,
) -> Estimate:
    """action: [n] logged actions; target and predicted: [n, K], of every action."""
    wanted, guess, chosen = np.asarray(target, np.float64), np.asarray(predicted, np.float64), np.asarray(action)
    if wanted.shape != guess.shape or wanted.ndim != 2 or len(wanted) != len(chosen):
        raise UsageError(f"targets of shape {wanted.shape} and predictions of shape {guess.shape} do not fit the log")
    every = np.arange(len(chosen))
    w = weights(wanted[every, chosen], propensity)
    return _around((wanted * guess).sum(1) + w * (_rewards(reward, w) - guess[every, chosen]), w, level)


def of_policy(policy: BanditPolicy, world: LoggedBandit, *, level: float = 0.95) -> dict[str, Estimate]:
    """What a policy would have earned on the held-out part of a log, by each estimator."""
    with torch.no_grad():
        observation, action, reward, propensity = world.held_out()
        target = policy.probabilities(observation).numpy()
        predicted = policy.scores(observation).numpy()
    chosen = target[np.arange(len(action)), action]
    return {
        "inverse propensity": inverse_propensity(reward, chosen, propensity, level=level),
        "self-normalised": self_normalised(reward, chosen, propensity, level=level),
        "doubly robust": doubly_robust(reward, action, target, propensity, predicted, level=level),
    }


def oscillation(generations: ArrayLike) -> float:
    """Lag-1 autocorrelation of the differences between successive generations' rewards; negative where they swing.

    NaN for fewer than four generations, or differences that are all alike. White noise around a level gives -0.5.
    """
    steps = np.diff(np.asarray(generations, np.float64))
    centred = steps - steps.mean() if len(steps) else steps
    power = float((centred**2).sum())
    return float((centred[1:] * centred[:-1]).sum() / power) if len(steps) > 2 and power > 0 else float("nan")


def _rewards(reward: ArrayLike, w: Floats) -> Floats:
    found = np.asarray(reward, np.float64)
    if found.shape != w.shape or not np.isfinite(found).all():
        raise UsageError(f"rewards of a log are {len(w)} finite numbers, one a round")
    return found


def _around(terms: Floats, w: Floats, level: float, value: float | None = None) -> Estimate:
    middle = float(terms.mean()) if value is None else value
    error = float(terms.std(ddof=1) / np.sqrt(len(terms))) if len(terms) > 1 else float("inf")
    reach = float(norm.ppf(0.5 + level / 2)) * error
    square = float((w**2).sum())
    return Estimate(middle, middle - reach, middle + reach, float(w.sum()) ** 2 / square if square else 0.0)
