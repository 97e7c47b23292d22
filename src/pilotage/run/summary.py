"""What a step's record says in numbers, and what the run has used so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pilotage.credit.groups import without_signal
from pilotage.data.batch import Batch, Stop


@dataclass
class Counters:
    """Cumulative use: decisions recorded, episodes, verdicts asked for, seconds of training; where the policy speaks,
    tokens generated, be they recorded or not, decode steps, and tokens injected."""

    decisions: int = 0
    episodes: int = 0
    verdicts: int = 0
    seconds: float = 0.0
    generated: int = 0
    decode_steps: int = 0
    injected: int = 0

    def add(self, batch: Batch, seconds: float) -> None:
        """Counts one step; episodes marked `replayed` were counted when they were made, those that go on in the next
        step are when they end."""
        self.seconds += seconds
        if "replayed" in batch:
            batch = batch.select(~batch["replayed"])
        self.decisions += int(batch.fresh.sum())
        ended = int((batch["stop"] != Stop.WINDOW).sum()) if len(batch) else 0  # a plan that plays nothing says nothing
        self.episodes += ended
        self.verdicts += ended

    def spoke(self, tokens: int, decode_steps: int, injected: int) -> None:
        """Counts what a step generated, and what it injected."""
        self.generated += tokens
        self.decode_steps += decode_steps
        self.injected += injected

    def metrics(self) -> dict[str, float]:
        spoken = {"count/generated": self.generated, "count/decode_steps": self.decode_steps}
        return {
            "count/decisions": self.decisions,
            "count/episodes": self.episodes,
            "count/verdicts": self.verdicts,
            "seconds": self.seconds,
            **(spoken if self.generated else {}),
            **({"count/injected": self.injected} if self.injected else {}),
        }

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Counters:
        return Counters(**state)


def summarise(batch: Batch) -> dict[str, float]:
    """Mean reward, lengths, stop reasons, invalid share and share of groups without a signal."""
    valid = batch.valid
    lengths = batch.total(batch.fresh.float())
    found = {
        "train/episodes": float(len(batch)),
        "train/invalid": 1 - _mean(valid),
        "train/length": _mean(lengths),
        "train/cut": _mean(batch["stop"] == Stop.LENGTH),
    }
    if "reward" not in batch:  # demonstrations
        return found
    if "episode_return" in batch:  # pieces of episodes: only whole ones have a return
        whole = torch.isfinite(batch["episode_return"]) & valid
        if bool(whole.any()):
            found["train/reward"] = _mean(batch["episode_return"][whole])
            found["train/episode_length"] = _mean(batch["episode_length"][whole])
    elif bool(valid.any()):
        found["train/reward"] = _mean(batch.returns[valid])
    if "success" in batch:
        told = valid & torch.isfinite(batch["success"].float())  # of whole episodes, as returns
        if bool(told.any()):
            found["train/success"] = _mean(batch["success"][told])
    goes_on = bool((batch["stop"] == Stop.WINDOW).any())  # then returns of its group are not known yet
    if int(batch["group"].max()) + 1 < len(batch) and not goes_on:
        found["train/no_signal"] = _mean(without_signal(batch))
    return found


def means(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over a step's updates, where they have it; optimiser steps are added up."""
    if len(updates) == 1:
        return dict(updates[0])
    names = {name: None for update in updates for name in update}
    found = {name: [update[name] for update in updates if name in update] for name in names}
    return {n: sum(v) / (1 if n == "optimiser_steps" else len(v)) for n, v in found.items()}


def _mean(values: torch.Tensor) -> float:
    return float(values.float().mean()) if len(values) else 0.0
