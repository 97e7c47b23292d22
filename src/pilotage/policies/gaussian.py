"""A Gaussian actor whose mean stays inside the bounds, with critics of actions and of states: for learning offline."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pilotage.policies.base import Minibatch
from pilotage.policies.distributions import Gaussian
from pilotage.policies.ensemble import Ensemble, Single
from pilotage.policies.squashed import OffPolicyActor


class GaussianActor(OffPolicyActor):
    """A normal distribution with mean tanh(network) and one free log_std for each dimension, held in `log_std_range`.

    quantities: `logp` [S] of stored actions, as a density over the world's units; `q` [S, N]; `value` [S] of the state
    critic; `following_value` [S], that of the column `following_observation`, without gradient. Acting clips draws to
    the bounds; their log-densities are those of the draws before. Kostrikov et al. 2022, arXiv 2110.06169, released
    code.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"logp", "q", "value", "following_value"})

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256),
        critics: int = 2,
        layer_norm: bool = False,
        log_std: float = 0.0,
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inputs, width = self._spaces(observation, action, normalise)
        self.log_std_range = log_std_range
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Single([inputs, *hidden, width], bounded=True)
            self.critic = Ensemble(critics, [inputs + width, *hidden, 1], layer_norm)
            self.critic.value = Ensemble(1, [inputs, *hidden, 1], layer_norm)
        self.log_std = nn.Parameter(torch.full((width,), float(log_std)))

    def distribution(self, features: Tensor) -> Gaussian:
        """Over actions scaled to [-1, 1]."""
        return Gaussian(self.actor(features), self.log_std.clamp(*self.log_std_range))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self.features(minibatch["observation"])
        found: dict[str, Any] = {}
        if "logp" in names:
            logp = self.distribution(features).logp(self.to_unit(minibatch["action"]))
            found["logp"] = logp - self.scale.log().sum()
        if "q" in names:
            found["q"] = self.action_values(features, minibatch["action"])
        if "value" in names:
            found["value"] = self.state_values(features)
        if "following_value" in names:
            with torch.no_grad():
                found["following_value"] = self.state_values(self.features(minibatch["following_observation"]))
        return found

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        around = self.distribution(self.features(observation))
        unit = around.mean if greedy else torch.addcmul(around.mean, around.log_std.exp(), noise)
        return self.to_world(unit.clamp(-1, 1)), around.logp(unit) - self.scale.log().sum()
