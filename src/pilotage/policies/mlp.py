"""Actor-critic of two small networks over a vector of observations: categorical or diagonal Gaussian actions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError, nearest
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.distributions import LOG_2PI, Categorical, Gaussian
from pilotage.policies.normalise import Normaliser

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "elu": nn.ELU}


class Network(nn.Sequential):
    """Layers in a row, each run without what a module does around its call: that costs as much as a small product.

    Without gradients, as for acting, layers are run from views of their weights that are kept.
    """

    views: list[tuple[Tensor, Tensor, nn.Module | None]] | None = None  # weight, bias and the activation after them

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            first: Any = self._modules["0"]
            if (
                self.views is None or self.views[0][0].data_ptr() != first.weight.data_ptr()
            ):  # the first time, or a copy
                self.views = self._views()
            for weight, bias, activation in self.views:
                x = torch.addmm(bias, x, weight)
                if activation is not None:
                    x = activation.forward(x)
            return x
        for layer in self._modules.values():
            x = layer.forward(x)
        return x

    def _views(self) -> list[tuple[Tensor, Tensor, nn.Module | None]]:
        linears = [layer for layer in self._modules.values() if isinstance(layer, nn.Linear)]
        activations = [layer for layer in self._modules.values() if not isinstance(layer, nn.Linear)]
        pairs = zip(linears, [*activations, None], strict=True)
        return [(linear.weight.detach().t(), linear.bias.detach(), activation) for linear, activation in pairs]


def network(sizes: list[int], activation: str, last_gain: float) -> Network:
    """Linear layers of these sizes with activations between them, orthogonal weights (gain √2, the last as given)."""
    if activation not in ACTIVATIONS:
        raise UsageError(f"no activation {activation!r}; {nearest(activation, ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(wide, narrow)
        last = i == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return Network(*layers)


class ActorCritic(ActingPolicy):
    """Separate actor and critic networks; action log-probs are sums over action dimensions.

    observation: a gymnasium Box (any shape, flattened) or Discrete (one-hot). action: Discrete, or Box (a Gaussian
    whose log_std is one free vector; samples are not squashed: worlds clip). Raises UsageError for other spaces.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (64, 64),
        activation: str = "tanh",
        critic: bool = False,
        log_std: float = 0.0,
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        inputs, self.one_hot = _inputs(observation)
        outputs, self.discrete = _outputs(action)
        self.outputs = outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = network([inputs, *hidden, outputs], activation, 0.01)
            self.critic = network([inputs, *hidden, 1], activation, 1.0) if critic else None
        if not self.discrete:
            self.log_std = nn.Parameter(torch.full((outputs,), float(log_std)))
        self.normaliser = Normaliser(inputs) if normalise else None

    def _features(self, observation: Any) -> Tensor:
        found = torch.as_tensor(observation)
        if self.one_hot:
            return nn.functional.one_hot(found.long().reshape(-1), self.one_hot).float()
        found = found.reshape(len(found), -1).float()
        return found if self.normaliser is None else self.normaliser(found)

    def _distribution(self, features: Tensor) -> Categorical | Gaussian:
        out = self.actor(features)
        return Categorical(out) if self.discrete else Gaussian(out, self.log_std.expand_as(out))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        features = self._features(minibatch["observation"])
        found: dict[str, Any] = {}
        if names & {"logp", "entropy", "distribution"}:
            distribution = self._distribution(features)
            found["distribution"] = distribution
            if "logp" in names:
                found["logp"] = distribution.logp(minibatch["action"])
            if "entropy" in names:
                found["entropy"] = distribution.entropy()
        if "value" in names:
            found["value"] = self._value(features)
        return {name: found[name] for name in names}

    def _value(self, features: Tensor) -> Tensor:
        if self.critic is None:
            raise UsageError("this method needs a critic; set policy.critic=true")
        return self.critic(features).squeeze(-1)  # type: ignore[no-any-return]

    def final_values(self, batch: Batch) -> Tensor:
        return self._value(self._features(batch["final_observation"]))

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        if self.discrete:
            return torch.from_numpy(generator.random((steps, rows), dtype=np.float32))
        return torch.from_numpy(generator.standard_normal((steps, rows, self.outputs), dtype=np.float32))

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        out = self.actor.forward(self._features(observation))
        if self.discrete:
            log_probabilities = out.log_softmax(-1)
            if greedy:
                action = log_probabilities.argmax(-1)
            else:  # inverse of the cumulative distribution: one number decides
                heights = log_probabilities.exp().cumsum(-1)
                action = torch.searchsorted(heights, noise.unsqueeze(-1), right=True).squeeze(-1)
                action = action.clamp_(max=self.outputs - 1)
            return action, log_probabilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        drawn = torch.zeros_like(noise) if greedy else noise
        logp = (-0.5 * drawn.square() - self.log_std).sum(-1) - 0.5 * LOG_2PI * self.outputs
        return torch.addcmul(out, self.log_std.exp(), drawn), logp

    def observe(self, observations: Tensor) -> None:
        if self.normaliser is not None:
            self.normaliser.observe(observations.reshape(len(observations), -1).float())


def _inputs(space: Any) -> tuple[int, int]:
    """Input width, and the number of classes where observations are class numbers (else 0)."""
    kind = type(space).__name__
    if kind == "Box":
        return int(np.prod(space.shape)), 0
    if kind == "Discrete":
        return int(space.n), int(space.n)
    raise UsageError(f"the mlp policy takes Box or Discrete observations; this world gives {kind}")


def _outputs(space: Any) -> tuple[int, bool]:
    kind = type(space).__name__
    if kind == "Discrete":
        return int(space.n), True
    if kind == "Box" and len(space.shape) == 1:
        return int(space.shape[0]), False
    raise UsageError(f"the mlp policy takes Discrete or one-dimensional Box actions; this world has {kind}")
