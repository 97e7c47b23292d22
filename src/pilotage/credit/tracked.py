"""Credit from the past of a prompt: a return against what the same prompt has earned lately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.reduce import Sum, alone, moments


class PerPrompt:
    """Advantage of each decision: the episode's return less the mean, over the deviation, of its prompt's last
    `remembered` returns, this step's included; held within ±`limit` (None: not held).

    A prompt with fewer than `least` returns takes mean and deviation from this batch instead. `ddof` 0 is the
    population's deviation, 1 the sample's. The prompt is the task's category (the note `category`). Invalid episodes
    enter no statistic and get 0. Where there is no spread at all the advantage is 0. Writes `advantage` [D].

    Source: Black et al. 2023, arXiv 2305.13301, and its released code, which divides by std + 1e-6 and clamps when it
    optimises. Returns are remembered by each process for itself; batch statistics are over all processes.
    """

    def __init__(
        self, *, remembered: int = 32, least: int = 16, ddof: int = 0, limit: float | None = 5.0, eps: float = 1e-6
    ) -> None:
        if not 1 <= least <= remembered:
            raise UsageError(f"least is from 1 to remembered ({remembered}), not {least}")
        if ddof not in (0, 1) or least <= ddof:
            raise UsageError(f"ddof is 0 (population) or 1 (sample, least above 1), not {ddof}")
        if limit is not None and not limit > 0:
            raise UsageError(f"limit is above 0, or none, not {limit}")
        self.remembered, self.least, self.ddof, self.limit, self.eps = remembered, least, ddof, limit, eps
        self.seen: dict[str, Tensor] = {}  # the last returns of each prompt, the newest last

    def __call__(self, batch: Batch, over_ranks: Sum = alone) -> Batch:
        returns, valid = batch.returns.double(), batch.valid
        prompts = batch.notes["category"]
        self._remember(prompts, returns, valid)
        of_batch = moments(returns[valid], over_ranks)
        found = {prompt: self._statistics(prompt, of_batch) for prompt in dict.fromkeys(prompts)}
        mean, deviation = torch.stack([found[prompt] for prompt in prompts]).unbind(1)
        advantage = torch.where(deviation > 0, (returns - mean) / (deviation + self.eps), 0.0)
        if self.limit is not None:
            advantage = advantage.clamp(-self.limit, self.limit)
        return batch.with_columns(advantage=batch.spread(torch.where(valid, advantage, 0.0).float()))

    def _remember(self, prompts: Any, returns: Tensor, valid: Tensor) -> None:
        for prompt in dict.fromkeys(prompts):
            mine = torch.tensor([other == prompt for other in prompts]) & valid
            before = self.seen.get(prompt, returns.new_zeros(0))
            self.seen[prompt] = torch.cat([before, returns[mine]])[-self.remembered :]

    def _statistics(self, prompt: str, of_batch: Tensor) -> Tensor:
        """[2] mean and deviation that a prompt's returns are held against."""
        own = self.seen[prompt]
        count, mean, squares = moments(own) if len(own) >= self.least else of_batch
        return torch.stack([mean, (squares / (count - self.ddof).clamp(min=1)).sqrt()])

    def state_dict(self) -> dict[str, Any]:
        """What each prompt has earned lately."""
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = dict(state["seen"])
