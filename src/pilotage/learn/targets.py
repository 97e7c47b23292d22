"""Named copies of the policy that follow it: slow targets of critics, snapshots of earlier actors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from pilotage.data.piece import UsageError
from pilotage.learn.terms import Target
from pilotage.policies.base import Policy, parameters_under
from pilotage.policies.normalise import Normaliser


class Follower:
    """One copy. `policy` is frozen: it is asked, never trained."""

    def __init__(self, name: str, target: Target, policy: Policy) -> None:
        self.target = target
        # what it sees is normalised as the policy's own observations are, also once more of them are known
        shared = {id(part): part for part in policy.modules() if isinstance(part, Normaliser)}
        self.policy = copy.deepcopy(policy, shared).requires_grad_(False)
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
        rate = self.target.rate
        if self.target.warm:
            rate = max(rate, 9 / (10 + batches // self.target.every))
        if rate == 1:
            torch._foreach_copy_(self.following, self.led)
        else:
            torch._foreach_lerp_(self.following, self.led, rate)

    def state_dict(self) -> dict[str, Any]:
        """All weights of the copy."""
        return dict(self.policy.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state)
