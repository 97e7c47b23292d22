"""What playing a policy cost, exactly, where the world is a model that can be solved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError


class Regret:
    """Writes, per episode, `regret` (V* - V^π of its replica's policy, by dynamic programming on the true model) and
    `total_regret` (summed over all episodes of the replica so far). For reports: no learner of tables learns from it.

    A probing step, where the rollout makes one, is not counted: the policy is judged, not its deviation.
    """

    def __init__(self) -> None:
        self.total = np.zeros(0)

    def __call__(self, batch: Batch, policy: Any, world: Any) -> Batch:
        if not hasattr(world, "exact") or not hasattr(policy, "probabilities"):
            raise UsageError("exact regret needs the table policy and a finite: world")
        model = world.exact()
        copies = policy.replicas
        missed = model.start @ model.best()[0][0] - model.returns(policy.probabilities.numpy())
        if not len(self.total):
            self.total = np.zeros(copies)
        self.total = self.total + missed * (len(batch) // copies)
        replica = torch.arange(len(batch)) % copies
        return batch.with_episode(
            regret=torch.from_numpy(missed)[replica], total_regret=torch.from_numpy(self.total)[replica]
        )

    def state_dict(self) -> dict[str, Any]:
        """Sums so far, by replica."""
        return {"total": self.total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.total = np.array(state["total"])
