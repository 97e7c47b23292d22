"""A table of probabilities by time and state, for many independent replicas at once."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch


class Table(ActingPolicy):
    """N policies side by side, `probabilities` [N, H, S, A], uniform at first; row i of a call belongs to replica
    i modulo N.

    `probe` [N, H, S]: in each state the action that would teach most, for rollouts that try it. Nothing here is
    differentiated: learners of tables write them. Raises UsageError where observations are not (time, state).
    """

    learning_rate: ClassVar[float] = 0.0  # has none

    def __init__(self, observation: Any, action: Any, *, replicas: int = 20, seed: int = 0) -> None:
        super().__init__()
        sizes: Any = getattr(observation, "nvec", ())
        if len(sizes) != 2 or not hasattr(action, "n"):
            raise UsageError("the table policy takes observations (time, state) and Discrete actions: finite: worlds")
        if replicas < 1:
            raise UsageError(f"replicas is at least 1, not {replicas}")
        self.horizon, self.states, self.actions = int(sizes[0]) - 1, int(sizes[1]), int(action.n)
        self.replicas = replicas
        shape = (replicas, self.horizon, self.states, self.actions)
        self.probabilities: Tensor
        self.probe: Tensor
        self.register_buffer("probabilities", torch.full(shape, 1.0 / self.actions, dtype=torch.float64))
        self.register_buffer("probe", torch.zeros(shape[:-1], dtype=torch.int64))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        replica = minibatch["replica"]
        time, state = minibatch["observation"].unbind(-1)
        row = self.probabilities[replica, time, state]
        found: dict[str, Any] = {}
        if "logp" in names:
            found["logp"] = row.gather(-1, minibatch["action"][:, None]).squeeze(-1).log()
        if "entropy" in names:
            found["entropy"] = torch.special.entr(row).sum(-1)
        return found

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        return torch.from_numpy(generator.random((steps, rows)))

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        now = torch.as_tensor(observation)
        row = self.probabilities[torch.arange(len(now)) % self.replicas, now[:, 0], now[:, 1]]
        if greedy:
            action = row.argmax(-1)
        else:  # inverse of the cumulative distribution: one number decides, and never an action of probability 0
            reach = row.cumsum(-1)
            action = (reach <= (noise * reach[:, -1])[:, None]).sum(-1).clamp_(max=self.actions - 1)
        return action, row.gather(-1, action[:, None]).squeeze(-1).log()

    def final_values(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch))

    def facts(self) -> dict[str, Any]:
        return {"parameters": self.probabilities.numel(), "replicas": self.replicas}
