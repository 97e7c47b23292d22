"""Plans denoised in real time: each begins where the last one ended, shifted by what was executed, and takes only the
last few denoising steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pilotage.data.piece import UsageError, nearest
from pilotage.policies.denoise import sampling
from pilotage.policies.plans import LevelPlanner

GUESSES = ("previous", "noised", "noise")
RULES = ("clip", "scale")


class RealTimePlanner(LevelPlanner):
    """As LevelPlanner for the first plan of an episode; each later one is denoised along `warm`, a decreasing list of
    levels that ends with 0, one posterior step a level whatever the gaps (none: all plans are made as the first).

    guess: what these steps begin with: the "previous" plan as it is; the previous one "noised" to the first level of
        the list; or "noise", as if there were no previous plan.
    shift: the previous plan moves on by the actions executed of it, its last action repeated. quiet: no noise is drawn
        in these steps.
    discrete: dimensions of an action that mean one of their two bounds (a gripper); executed is the bound that the
        plan's sign says, above 0 the upper one. rule: what keeps such a jump small enough for a few steps: "clip", the
        guess, and nothing else, has sign / `factor` there; "scale", the data have value / `factor`, so that the network
        learns small jumps.

    Raises UsageError for a list that is none, unknown names, and dimensions that there are not.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        warm: tuple[int, ...] = (),
        guess: str = "previous",
        shift: bool = True,
        quiet: bool = False,
        discrete: tuple[int, ...] = (),
        rule: str = "clip",
        factor: float = 10.0,
        **planner: Any,
    ) -> None:
        super().__init__(observation, action, **planner)
        self.warm, self.shift, self.quiet = tuple(warm), shift, quiet
        falls = all(a > b for a, b in zip(self.warm, self.warm[1:], strict=False))
        if self.warm and not (falls and self.warm[-1] == 0 and self.warm[0] < self.process.count):
            raise UsageError(
                f"policy.warm is a list of levels below {self.process.count} that falls to 0, such as [2,1,0]; not "
                f"{list(self.warm)}"
            )
        for said, known in ((guess, GUESSES), (rule, RULES)):
            if said not in known:
                raise UsageError(f"a plan in real time has no {said!r}; {nearest(said, known)}")
        if not factor >= 1 or any(not 0 <= i < self.width for i in discrete):
            raise UsageError(f"discrete dimensions are 0 to {self.width - 1}, their factor is at least 1")
        self.guess, self.rule, self.factor = guess, rule, factor
        self.discrete = list(discrete)

    def to_unit(self, action: Tensor) -> Tensor:
        unit = super().to_unit(action)
        if not self.discrete or self.rule != "scale":
            return unit
        unit = unit.clone()
        unit[..., self.discrete] /= self.factor
        return unit

    def executed(self, unit: Tensor) -> Tensor:
        unit = super().executed(unit)
        if self.discrete:
            unit[..., self.discrete] = signs(unit[..., self.discrete])
        return unit

    def plan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        if not self.warm:
            return super().plan(seen, seeds, lanes)
        again = self._memory["begun"].index_select(0, lanes)
        if bool(again.all()):
            return self.replan(seen, seeds, lanes)
        found = torch.empty(len(lanes), self.span.length, self.width)
        found[~again] = super().plan(seen[~again], seeds[~again], lanes[~again])
        if bool(again.any()):
            found[again] = self.replan(seen[again], seeds[again], lanes[again])
        return found

    def replan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        """[n, W, A] plans from the ones before them; arguments as of `plan`."""
        drawn = self.draws(seeds, 1 + len(self.warm))
        start = drawn[0] if self.guess == "noise" else self.guesses(lanes)
        if self.guess == "noised":
            start = self.process.noised(start, torch.tensor([self.warm[0]]), drawn[0])
        noise = None if self.quiet else drawn[1:]
        return sampling.ddpm(self.process, self.denoiser(seen), start, self.warm, noise, clip=self.clip)

    def guesses(self, lanes: Tensor) -> Tensor:
        """[n, W, A] what is left of the plans before."""
        left = self._memory["plan"].index_select(0, lanes)
        if self.discrete and self.rule == "clip":
            left[..., self.discrete] = signs(left[..., self.discrete]) / self.factor
        return shifted(left, self.execute) if self.shift else left


def shifted(plan: Tensor, by: int) -> Tensor:
    """[n, W, A] the plan without its first `by` actions, its last one repeated: W stays."""
    return torch.cat([plan[:, by:], plan[:, -1:].expand(-1, min(by, plan.shape[1]), -1)], dim=1)


def signs(values: Tensor) -> Tensor:
    """1 above 0, else -1."""
    return torch.where(values > 0, 1.0, -1.0)
