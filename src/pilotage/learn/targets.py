"""Named copies of the policy that follow it: slow targets of critics, snapshots of earlier actors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from pilotage.data.piece import UsageError
from pilotage.learn.terms import Target
from pilotage.policies.base import Policy, parameters_under


class Follower:
    """One copy. `policy` is frozen: it is asked, never trained."""

    def __init__(self, name: str, target: Target, policy: Policy) -> None:
        self.target = target
        self.policy = copy.deepcopy(policy).requires_grad_(False)
        led = parameters_under(policy, target.parameters)
        if not led:
            raise UsageError(f"target {name!r} follows parameters {target.parameters!r}, and this policy has none")
        followers = dict(self.policy.named_parameters())
        self.led = [p.data for p in led.values()]
        self.following = [followers[n].data for n in led]

    @torch.no_grad()
    def follow(self, batches: int) -> None:
        """Moves towards the policy if it is time to, after so many batches."""
        if batches % self.target.every:
            return
        if self.target.rate == 1:
            torch._foreach_copy_(self.following, self.led)
        else:
            torch._foreach_lerp_(self.following, self.led, self.target.rate)

    def state_dict(self) -> dict[str, Any]:
        """All weights of the copy."""
        return dict(self.policy.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state)
