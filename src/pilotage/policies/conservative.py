"""A squashed actor whose critics are also asked about actions that the data do not have: for conservative learning."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pilotage.policies.base import Minibatch
from pilotage.policies.squashed import SquashedActor


class ConservativeActor(SquashedActor):
    """SquashedActor with, for the penalty on its critics, `contrast_q` [S, K, N], the values of the column
    `contrast_action` [S, K, A], and `log_multiplier` [], a parameter that is trained with the critics.

    Kumar et al. 2020, arXiv 2006.04779.
    """

    gives: ClassVar[frozenset[str]] = SquashedActor.gives | {"contrast_q", "log_multiplier"}

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256),
        critics: int = 2,
        layer_norm: bool = False,
        temperature: float = 1.0,
        log_std_range: tuple[float, float] = (-20.0, 2.0),
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation, action, hidden=hidden, critics=critics, layer_norm=layer_norm, temperature=temperature,
            log_std_range=log_std_range, normalise=normalise, seed=seed,
        )  # fmt: skip
        self.critic.register_parameter("log_multiplier", nn.Parameter(torch.zeros(())))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        found = super().quantities(minibatch, names & SquashedActor.gives)
        if "contrast_q" in names:
            found["contrast_q"] = self._contrasted(minibatch)
        if "log_multiplier" in names:
            found["log_multiplier"] = self.critic.get_parameter("log_multiplier")
        return found

    def _contrasted(self, minibatch: Minibatch) -> Tensor:
        actions = minibatch["contrast_action"]
        features = self.features(minibatch["observation"]).repeat_interleave(actions.shape[1], 0)
        return self.action_values(features, actions.flatten(0, 1)).view(*actions.shape[:2], -1)
