"""The learner of bandits: empirical risk minimisation of the policy's oracle, and what each generation looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.learn.learner import Ranks
from pilotage.policies.bandit import BanditPolicy
from pilotage.policies.base import Policy
from pilotage.policies.explore import entropy

CLIP = 1e-3  # predictions are kept so far from 0 and 1 where their log is taken


class Fit:
    """Fits the oracle to the rounds of a batch, without importance weights: from nothing, or, with `accumulate`, on top
    of what came before (linear oracles; each round then has to come once).

    diagnose: so many held-out contexts with uniformly drawn actions are what a model is judged on after each fit (a
    model judged on its own log looks better the less was explored); 0 for none.
    """

    def __init__(
        self, policy: Policy, world: Any, ranks: Ranks | None = None, *, accumulate: bool = False, diagnose: int = 1000
    ) -> None:
        if ranks is not None and type(ranks) is not Ranks:
            raise UsageError("a bandit's oracle is fitted in one process, not by several together")
        if not isinstance(policy, BanditPolicy):
            raise UsageError("the bandit learner needs the bandit policy (policy=bandit)")
        if accumulate and not policy.oracle.grows:
            raise UsageError("only the linear oracle learns on top of what it knows; use learner.accumulate=false")
        self.policy, self.accumulate = policy, accumulate
        self.targets: dict[str, Policy] = {}
        self.held_out = world.explored(diagnose) if diagnose and hasattr(world, "explored") else None

    @torch.no_grad()
    def update(self, batch: Batch, step: int, progress: float) -> dict[str, Any]:
        """One fit; `fit/…` says what it was made from, `held_out/…` how good it is, `copies/reward` [C] what each of
        several copies earned in it."""
        policy, reward = self.policy, batch["reward"].double()
        if not len(reward):
            return {"optimiser_steps": 0.0}
        policy.fit(batch["observation"], batch["action"], reward, batch["copy"], anew=not self.accumulate)
        # what the model in place was made from: after a fit from nothing, earlier rounds count for nothing
        fitted = len(reward) // policy.copies
        policy.examples.fill_(fitted + (int(policy.examples) if self.accumulate else 0))
        found: dict[str, Any] = {
            "fit/examples": float(len(reward)),
            "fit/reward": float(reward.mean()),
            "fit/coverage": int((torch.bincount(batch["action"]) > 0).sum()) / policy.actions,
            "fit/gamma": policy.gamma,
            "optimiser_steps": 1.0,
        }
        if "regret" in batch:
            found["fit/regret"] = float(batch["regret"].mean())
        if policy.copies > 1:
            counts = torch.bincount(batch["copy"], minlength=policy.copies)
            found["copies/reward"] = torch.zeros_like(counts).double().index_add(0, batch["copy"], reward) / counts
        return found | self._judged()

    def _judged(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        observation, action, reward = self.held_out
        rows, chosen = torch.from_numpy(observation), torch.from_numpy(action)
        predicted = self.policy.scores(rows).gather(-1, chosen.unsqueeze(-1)).squeeze(-1).numpy()
        probabilities = self.policy.probabilities(rows)
        return {
            "held_out/entropy": float(entropy(probabilities).mean()),
            "held_out/least_probability": float(probabilities[probabilities > 0].min()),
            **quality(predicted, reward.astype(np.float64)),
        }

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the model is the policy's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""


def quality(predicted: NDArray[np.float64], reward: NDArray[np.float64]) -> dict[str, float]:
    """Of predictions [n] of rewards [n]: squared error and bias (mean prediction less mean reward); for rewards of 0
    and 1 also log loss and the chance that a reward of 1 was predicted higher than one of 0."""
    found = {
        "held_out/squared_error": float(np.square(predicted - reward).mean()),
        "held_out/bias": float(predicted.mean() - reward.mean()),
    }
    hits = reward == 1
    if np.isin(reward, (0.0, 1.0)).all() and 0 < hits.sum() < len(reward):
        kept = predicted.clip(CLIP, 1 - CLIP)
        found["held_out/log_loss"] = float(-np.where(hits, np.log(kept), np.log1p(-kept)).mean())
        pairs = float(hits.sum()) * float((~hits).sum())
        above = rankdata(predicted)[hits].sum() - hits.sum() * (hits.sum() + 1) / 2
        found["held_out/auc"] = float(above / pairs)
    return found
