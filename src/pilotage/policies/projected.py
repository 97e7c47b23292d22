"""A deterministic actor with a model of good logged actions beside its critics, onto which actions are projected."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from pilotage.policies.base import Minibatch
from pilotage.policies.ensemble import Ensemble, Single
from pilotage.policies.squashed import DeterministicActor

LOG_STD_RANGE = (-4.0, 15.0)
PRIOR_LIMIT = 0.5


class ActionModel(nn.Module):
    """A conditional variational autoencoder of actions in [-1, 1], with two latent dimensions for each of theirs.

    Kingma & Welling 2014; sizes and bounds as in BCQ (Fujimoto et al. 2019), which A2PR takes over.
    """

    def __init__(self, inputs: int, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        latent = 2 * width
        self.encoder = Single([inputs + width, *hidden, 2 * latent])
        self.decoder = Single([inputs + latent, *hidden, width], bounded=True)

    def encode(self, features: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log deviation of the latent, each [S, L]."""
        mean, log_std = self.encoder(features, unit).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def decode(self, features: Tensor, latent: Tensor) -> Tensor:
        """[S, A] actions in [-1, 1]."""
        found: Tensor = self.decoder(features, latent)
        return found


class ProjectedActor(DeterministicActor):
    """DeterministicActor with a state critic, `critic.value`, and an ActionModel, `critic.model`.

    The model stands under `critic.` since the actor's own term must not train it. More quantities: `value` [S];
    `following_q` [S, N] of the columns `following_observation` and `following_action`, without gradient;
    `reconstruction` [S, A], `latent_mean` and `latent_log_std` [S, L] of stored actions (with the column
    `reconstruction_noise`); `projected` [S, A], what the model makes of the policy's action (with `projection_noise`),
    and `projected_q` [S], its Q_1 without gradient. With `from_prior` the model makes it of the prior's noise clipped
    to ±0.5 instead, which A2PR's released code has and does not use. Liu et al. 2024, arXiv 2405.19909.
    """

    gives: ClassVar[frozenset[str]] = DeterministicActor.gives | {
        "value", "following_q", "reconstruction", "latent_mean", "latent_log_std", "projected", "projected_q",
    }  # fmt: skip

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256),
        critics: int = 2,
        layer_norm: bool = False,
        exploration: float = 0.1,
        model_hidden: tuple[int, ...] = (256, 256),
        from_prior: bool = False,
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation, action, hidden=hidden, critics=critics, layer_norm=layer_norm, exploration=exploration,
            normalise=normalise, seed=seed,
        )  # fmt: skip
        self.latent, self.from_prior = 2 * self.width, from_prior
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)  # numbers of its own: actor and critics stay those of DeterministicActor
            self.critic.value = Ensemble(1, [self.inputs, *hidden, 1], layer_norm)
            self.critic.add_module("model", ActionModel(self.inputs, self.width, model_hidden))

    @property
    def model(self) -> ActionModel:
        """The model of actions."""
        return cast(ActionModel, self.critic.get_submodule("model"))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        projects = bool(names & {"projected", "projected_q"})
        found = super().quantities(
            minibatch, names & DeterministicActor.gives | ({"actor_action"} if projects else frozenset())
        )
        features = self.features(minibatch["observation"])
        if "value" in names:
            found["value"] = self.state_values(features)
        if names & {"reconstruction", "latent_mean", "latent_log_std"}:
            mean, log_std = self.model.encode(features, self.to_unit(minibatch["action"]))
            latent = torch.addcmul(mean, log_std.exp(), minibatch["reconstruction_noise"])
            found["reconstruction"] = self.to_world(self.model.decode(features, latent))
            found["latent_mean"], found["latent_log_std"] = mean, log_std
        if projects:
            found["projected"] = self.projected(features, found["actor_action"], minibatch["projection_noise"])
        with torch.no_grad():
            if "projected_q" in names:
                found["projected_q"] = self.action_values(features, found["projected"], members=1)[:, 0]
            if "following_q" in names:
                following = self.features(minibatch["following_observation"])
                found["following_q"] = self.action_values(following, minibatch["following_action"])
        return {name: found[name] for name in names}

    def projected(self, features: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """[S, A] what the model makes of an action, in the world's units, differentiable in it."""
        if self.from_prior:
            latent = noise.clamp(-PRIOR_LIMIT, PRIOR_LIMIT)
        else:
            mean, log_std = self.model.encode(features, self.to_unit(action))
            latent = torch.addcmul(mean, log_std.exp(), noise)
        return self.to_world(self.model.decode(features, latent))
