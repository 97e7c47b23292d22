"""Actors whose actions stay inside their bounds, with an ensemble of critics of actions: for learning off-policy."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.distributions import LOG_2PI
from pilotage.policies.ensemble import Ensemble, Single
from pilotage.policies.normalise import Normaliser

ACTED = frozenset({"actor_q", "actor_first_q", "actor_action", "actor_logp", "actor_mean", "actor_log_std"})


class OffPolicyActor(ActingPolicy):
    """What actors with action critics share: bounds, critics, and their quantities.

    Actions are kept in the world's units; critics see them scaled to [-1, 1]. With `normalise`, observations are
    standardised as (x - mean) / (deviation + 1e-3). Raises UsageError for spaces other than Box.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"q", "actor_q", "actor_first_q", "actor_action"})
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
        self.plain = bool((low == -1).all() and (high == 1).all())  # nothing to scale
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
        return action if self.plain else (action - self.centre) / self.scale

    def to_world(self, unit: Tensor) -> Tensor:
        """Actions in [-1, 1] in the world's units."""
        return unit if self.plain else self.centre + self.scale * unit

    def action_values(
        self, features: Tensor, action: Tensor, frozen: bool = False, members: int | None = None
    ) -> Tensor:
        """[S, N] the critics' values of actions in the world's units; those of the first `members`, where given."""
        found: Tensor = self.critic(features, self.to_unit(action), frozen=frozen, members=members)
        return found

    def _judged(self, features: Tensor, action: Tensor, names: frozenset[str]) -> dict[str, Tensor]:
        """`actor_action` and, where asked for, what critics say of it; gradients reach the action only."""
        found = {"actor_action": action}
        if "actor_q" in names:
            found["actor_q"] = self.action_values(features, action, frozen=True)
        if "actor_first_q" in names:
            every = found.get("actor_q")
            first = self.action_values(features, action, frozen=True, members=1) if every is None else every
            found["actor_first_q"] = first[:, 0]
        return found

    def state_values(self, features: Tensor) -> Tensor:
        """[S] the state critic's value."""
        if self.critic.value is None:
            raise UsageError("this method needs a critic of states; set policy.state_value=true")
        found: Tensor = self.critic.value(features).squeeze(-1)
        return found

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal((steps, rows, self.width), dtype=np.float32))


class Squash(torch.autograd.Function):
    """Mean, log deviation and noise, each [S, A] → tanh of the draw, and its log-density [S]."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        spread = log_std.exp().mul_(noise)
        raw = mean + spread
        unit = raw.tanh()
        logp = noise.square().mul_(-0.5).sub_(log_std).sub_(_stretch(raw)).sum(-1) - 0.5 * LOG_2PI * noise.shape[-1]
        ctx.save_for_backward(unit, spread)
        return unit, logp

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_unit: Tensor, of_logp: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, spread = ctx.saved_tensors
        density = of_logp.unsqueeze(-1)
        of_mean = torch.addcmul(of_unit, of_unit * unit, unit, value=-1).add_(unit * density, alpha=2)
        return of_mean, of_mean * spread - density, None


def _stretch(raw: Tensor) -> Tensor:
    """Log of how tanh stretches lengths, log(1 - tanh²), in a form that cannot underflow."""
    return 2 * (math.log(2) - raw - functional.softplus(-2 * raw))


class SquashedActor(OffPolicyActor):
    """A Gaussian squashed by tanh, as in SAC, with `critics` action critics and a temperature.

    quantities: `q` [S, N] of stored actions; `actor_action` [S, A], drawn with the column `noise`, its `actor_q` [S, N]
    and `actor_first_q` [S], that of the first critic (gradients reach the actor only), and `actor_logp` [S];
    `log_temperature` []; `actor_mean`, `actor_log_std` [S, A] before squashing; with `state_value`, `value` [S] of a
    state critic. log_std is held in `log_std_range`.

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
            self.actor = Single([inputs, *hidden, 2 * width])
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
        return self._squash(*self.moments(features), noise)

    def _squash(self, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        unit, logp = Squash.apply(mean, log_std, noise)  # type: ignore[no-untyped-call]
        return self.to_world(unit), logp if self.plain else logp - self.scale.log().sum()

    def log_density(self, features: Tensor, action: Tensor) -> Tensor:
        """[S] log-density of given actions, differentiable in them too."""
        unit = self.to_unit(action).clamp(-1 + 1e-6, 1 - 1e-6)
        raw = torch.atanh(unit)
        mean, log_std = self.moments(features)
        scaled = (raw - mean) * (-log_std).exp()
        logp = (-0.5 * scaled.square() - log_std).sum(-1) - 0.5 * LOG_2PI * self.width
        return logp - _stretch(raw).sum(-1) - self.scale.log().sum()

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self.features(minibatch["observation"])
        found: dict[str, Any] = {}
        if "q" in names:
            found["q"] = self.action_values(features, minibatch["action"])
        if "value" in names:
            found["value"] = self.state_values(features)
        if names & ACTED:
            mean, log_std = found["actor_mean"], found["actor_log_std"] = self.moments(features)
            if names & {"actor_q", "actor_first_q", "actor_action", "actor_logp"}:
                action, found["actor_logp"] = self._squash(mean, log_std, minibatch["noise"])
                found |= self._judged(features, action, names)
        found["log_temperature"] = self.log_temperature
        return {name: found[name] for name in names}

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        return self.drawn(self.features(observation), torch.zeros_like(noise) if greedy else noise)


class DeterministicActor(OffPolicyActor):
    """tanh of a network, as in TD3, with exploration noise of deviation `exploration` (of half the range) when acting.

    quantities: `q` [S, N] of stored actions; `actor_action` [S, A], its `actor_q` [S, N] and `actor_first_q` [S], that
    of the first critic (gradients reach the actor only). Log-probs of acting are 0: there is no density to speak of.
    Fujimoto et al. 2018, arXiv 1802.09477.
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
            self.actor = Single([inputs, *hidden, width], bounded=True)
            self.critic = Ensemble(critics, [inputs + width, *hidden, 1], layer_norm)

    def chosen(self, features: Tensor) -> Tensor:
        """[S, A] actions in the world's units."""
        return self.to_world(self.actor(features))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self.features(minibatch["observation"])
        found: dict[str, Any] = {}
        if "q" in names:
            found["q"] = self.action_values(features, minibatch["action"])
        if names & {"actor_q", "actor_first_q", "actor_action"}:
            found |= self._judged(features, self.chosen(features), names)
        return {name: found[name] for name in names}

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        unit = self.actor(self.features(observation))
        if not greedy:
            unit = (unit + self.exploration * noise).clamp(-1, 1)
        return self.to_world(unit), torch.zeros(len(unit))
