"""What is held against the policy that a run began with: log-probs, for penalties that hold the new one near it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pilotage.data.batch import Batch
from pilotage.policies.base import Policy, score


class Frozen:
    """A credit link that keeps the policy as it was when first asked (the run's start), and saves it with the run."""

    def __init__(self) -> None:
        self.frozen: Policy | None = None
        self.saved: Mapping[str, Any] | None = None

    def start(self, policy: Policy) -> Policy:
        """The policy as it was at the first call, without gradients."""
        if self.frozen is None:
            self.frozen = copy.deepcopy(policy).requires_grad_(False)
            if self.saved is not None:
                self.frozen.load_state_dict(self.saved)
        return self.frozen

    def state_dict(self) -> dict[str, Any]:
        """The frozen weights."""
        return {} if self.frozen is None else {"frozen": dict(self.frozen.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.saved = state.get("frozen")


class Reference(Frozen):
    """Writes `reference_logp` [D]: log-probs under the policy as it was when this was first asked (the run's start)."""

    def __call__(self, batch: Batch, policy: Policy) -> Batch:
        return batch.with_columns(reference_logp=score(batch, self.start(policy), "logp"))
