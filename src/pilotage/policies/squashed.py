"""Actors whose actions stay inside their bounds, with an ensemble of critics of actions: for learning off-policy."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.distributions import LOG_2PI
from pilotage.policies.normalise import Normaliser


class Ensemble(nn.Module):
    """N networks of the same sizes, run as one: [S, inputs] → [S, N]. Layers as nn.Linear initialises them.

    `value`: a network of states beside them, where a method needs one.
    """

    value: Ensemble | None

    def __init__(self, members: int, sizes: list[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.layer_norm, self.value = layer_norm, None
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for wide, narrow in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(wide)
            self.weights.append(nn.Parameter(torch.empty(members, wide, narrow).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, narrow).uniform_(-bound, bound)))

    def forward(self, inputs: Tensor, frozen: bool = False) -> Tensor:
        """[S, N]; `frozen` lets gradients reach the inputs only."""
        out = inputs.expand(len(self.weights[0]), *inputs.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            if i:
                out = functional.relu(functional.layer_norm(out, out.shape[-1:]) if self.layer_norm else out)
            out = torch.baddbmm(bias, out, weight)
        return out.squeeze(-1).t()


def trunk(sizes: list[int]) -> nn.Sequential:
    """Linear layers with a ReLU after each."""
    layers: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers)


class OffPolicyActor(ActingPolicy):
    """What actors with action critics share: bounds, critics, and their quantities.

    Actions are kept in the world's units; critics see them scaled to [-1, 1]. With `normalise`, observations are
    standardised as (x - mean) / (deviation + 1e-3). Raises UsageError for spaces other than Box.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"q", "actor_q", "actor_action"})
    critic: Ensemble
    normaliser: Normaliser | None

    def _spaces(self, observation: Any, action: Any, normalise: bool = False) -> tuple[int, int]:
        for what, space in (("observations", observation), ("actions", action)):
            if type(space).__name__ != "Box":
                raise UsageError(f"this policy takes Box {what}; this world has {type(space).__name__}")
        low, high = torch.as_tensor(action.low).float().flatten(), torch.as_tensor(action.high).float().flatten()
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise UsageError("this policy needs actions with finite bounds")
        self.register_buffer("centre", (high + low) / 2, persistent=False)
        self.register_buffer("scale", (high - low) / 2, persistent=False)
        self.centre: Tensor
        self.scale: Tensor
        self.inputs, self.width = int(np.prod(observation.shape)), len(low)
        self.normaliser = Normaliser(self.inputs, limit=math.inf, eps=1e-3) if normalise else None
        return self.inputs, self.width

    def features(self, observation: Any) -> Tensor:
        """[n, inputs] float32."""
        found = torch.as_tensor(observation)
        found = found.reshape(len(found), -1).float()
        return found if self.normaliser is None else self.normaliser(found)

    def observe(self, observations: Tensor) -> None:
        if self.normaliser is not None:
            self.normaliser.observe(observations.reshape(len(observations), -1).float())

    def to_unit(self, action: Tensor) -> Tensor:
        """Actions of the world, scaled to [-1, 1]."""
        return (action - self.centre) / self.scale

    def to_world(self, unit: Tensor) -> Tensor:
        """Actions in [-1, 1] in the world's units."""
        return self.centre + self.scale * unit

    def action_values(self, features: Tensor, action: Tensor, frozen: bool = False) -> Tensor:
        """[S, N] the critics' values of actions in the world's units."""
        found: Tensor = self.critic(torch.cat([features, self.to_unit(action)], -1), frozen)
        return found

    def state_values(self, features: Tensor) -> Tensor:
        """[S] the state critic's value."""
        if self.critic.value is None:
            raise UsageError("this method needs a critic of states; set policy.state_value=true")
        found: Tensor = self.critic.value(features).squeeze(-1)
        return found

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal((steps, rows, self.width), dtype=np.float32))


class SquashedActor(OffPolicyActor):
    """A Gaussian squashed by tanh, as in SAC, with `critics` action critics and a temperature.

    quantities: `q` [S, N] of stored actions; `actor_action` [S, A], drawn with the column `noise`, its `actor_q` [S, N]
    (gradients reach the actor only) and `actor_logp` [S]; `log_temperature` []; `actor_mean`, `actor_log_std` [S, A]
    before squashing; with `state_value`, `value` [S] of a state critic. log_std is held in `log_std_range`.

    Haarnoja et al. 2018, arXiv 1812.05905, appendix C.
    """

    gives: ClassVar[frozenset[str]] = OffPolicyActor.gives | {
        "actor_logp", "log_temperature", "actor_mean", "actor_log_std", "value",
    }  # fmt: skip

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256),
        critics: int = 2,
        layer_norm: bool = False,
        temperature: float = 1.0,
        state_value: bool = False,
        log_std_range: tuple[float, float] = (-20.0, 2.0),
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inputs, width = self._spaces(observation, action, normalise)
        self.log_std_range = log_std_range
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = nn.Sequential(*trunk([inputs, *hidden]), nn.Linear(hidden[-1], 2 * width))
            self.critic = Ensemble(critics, [inputs + width, *hidden, 1], layer_norm)
            if state_value:
                self.critic.value = Ensemble(1, [inputs, *hidden, 1], layer_norm)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation before squashing, each [S, A]."""
        mean, log_std = self.actor(features).chunk(2, -1)
        return mean, log_std.clamp(*self.log_std_range)

    def drawn(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [S, A] in the world's units and their log-densities [S], differentiable."""
        mean, log_std = self.moments(features)
        raw = torch.addcmul(mean, log_std.exp(), noise)
        logp = (-0.5 * noise.square() - log_std).sum(-1) - 0.5 * LOG_2PI * self.width
        return self.to_world(raw.tanh()), logp - self._stretch(raw)

    def log_density(self, features: Tensor, action: Tensor) -> Tensor:
        """[S] log-density of given actions, differentiable in them too."""
        unit = self.to_unit(action).clamp(-1 + 1e-6, 1 - 1e-6)
        raw = torch.atanh(unit)
        mean, log_std = self.moments(features)
        scaled = (raw - mean) * (-log_std).exp()
        logp = (-0.5 * scaled.square() - log_std).sum(-1) - 0.5 * LOG_2PI * self.width
        return logp - self._stretch(raw)

    def _stretch(self, raw: Tensor) -> Tensor:
        """[S] log of how tanh and the bounds stretch volumes: log(1 - tanh²) in a form that cannot underflow."""
        return (2 * (math.log(2) - raw - functional.softplus(-2 * raw)) + self.scale.log()).sum(-1)

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self.features(minibatch["observation"])
        found: dict[str, Any] = {}
        if "q" in names:
            found["q"] = self.action_values(features, minibatch["action"])
        if "value" in names:
            found["value"] = self.state_values(features)
        if names & {"actor_mean", "actor_log_std"}:
            found["actor_mean"], found["actor_log_std"] = self.moments(features)
        if names & {"actor_q", "actor_action", "actor_logp"}:
            found["actor_action"], found["actor_logp"] = self.drawn(features, minibatch["noise"])
            if "actor_q" in names:
                found["actor_q"] = self.action_values(features, found["actor_action"], frozen=True)
        found["log_temperature"] = self.log_temperature
        return {name: found[name] for name in names}

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        return self.drawn(self.features(observation), torch.zeros_like(noise) if greedy else noise)


class DeterministicActor(OffPolicyActor):
    """tanh of a network, as in TD3, with exploration noise of deviation `exploration` (of half the range) when acting.

    quantities: `q` [S, N] of stored actions; `actor_action` [S, A] and its `actor_q` [S, N] (gradients reach the actor
    only). Log-probs of acting are 0: there is no density to speak of. Fujimoto et al. 2018, arXiv 1802.09477.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256),
        critics: int = 2,
        layer_norm: bool = False,
        exploration: float = 0.1,
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inputs, width = self._spaces(observation, action, normalise)
        self.exploration = exploration
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = nn.Sequential(*trunk([inputs, *hidden]), nn.Linear(hidden[-1], width), nn.Tanh())
            self.critic = Ensemble(critics, [inputs + width, *hidden, 1], layer_norm)

    def chosen(self, features: Tensor) -> Tensor:
        """[S, A] actions in the world's units."""
        return self.to_world(self.actor(features))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self.features(minibatch["observation"])
        found: dict[str, Any] = {}
        if "q" in names:
            found["q"] = self.action_values(features, minibatch["action"])
        if names & {"actor_q", "actor_action"}:
            found["actor_action"] = self.chosen(features)
            if "actor_q" in names:
                found["actor_q"] = self.action_values(features, found["actor_action"], frozen=True)
        return {name: found[name] for name in names}

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        unit = self.actor(self.features(observation))
        if not greedy:
            unit = (unit + self.exploration * noise).clamp(-1, 1)
        return self.to_world(unit), torch.zeros(len(unit))
