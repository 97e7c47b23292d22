"""Rewards that make costly modes pay on problems that the cheap one solves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pilotage.credit.shaping import shaping, with_returns
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError

RATES = ("forced-instant", "forced", "instant", "all")
FORMS = ("product", "additive")
OVER = ("group", "task", "category")
BASELINES = ("group", "mode")


@shaping
class Taxed:
    """Reward R = accuracy · form · adaptive, where adaptive is 1 in the instant mode and 1 - (1 - floor) p^alpha in any
    other, p being how well the problem is solved without it. Needs the columns `mode`, `instant`, `forced` and `formed`
    of `pilotage.rollouts.modes:Modes`. Writes `reward`, `verdict`, and `rate` [E], which is p.

    rate: whose accuracy p is: that of forced instant episodes, of all forced ones, of instant ones be they forced or
        chosen, or of all; 0 where there are none, so that nothing is taxed without evidence.
    over: p of the group alone, or a running average over what has the same task or category: `memory` of the old value
        and the rest of this step's mean. leave_one_out: an episode is left out of its own p.
    gate: below this p nothing is taxed. floor: what is left of a right answer at p = 1.
    form: "product", or "additive", the mean of the three parts weighted by `weights`. A violated form is worth 0 under
        the product, whatever the answer.
    baseline: "group", all episodes of a problem are compared; with "mode", those forced into a mode are a group of
        their own, and those that chose theirs another.

    Source: A²FM (2025), arXiv 2510.12838, whose released code does not train: alpha 2 is from the paper; p by forced
    instant episodes, the product, the floor and the gate are our reading. Raises UsageError for settings out of range,
    and where p is to come from forced episodes and none is.
    """

    def __init__(
        self,
        *,
        rate: str = "forced-instant",
        alpha: float = 2.0,
        floor: float = 0.0,
        gate: float = 0.0,
        form: str = "product",
        weights: Sequence[float] = (1.0, 0.5, 0.5),
        over: str = "group",
        memory: float = 0.9,
        leave_one_out: bool = False,
        baseline: str = "group",
    ) -> None:
        chosen = {"rate": (rate, RATES), "form": (form, FORMS), "over": (over, OVER), "baseline": (baseline, BASELINES)}
        for name, (value, known) in chosen.items():
            if value not in known:
                raise UsageError(f"{name} {value!r} is not one of {', '.join(known)}")
        if alpha <= 0 or not (0 <= floor <= 1 and 0 <= gate <= 1 and 0 <= memory < 1):
            raise UsageError(
                f"alpha is above 0, floor and gate from 0 to 1, memory from 0 to below 1; not {alpha}, {floor}, {gate} "
                f"and {memory}"
            )
        if len(weights) != 3 or min(weights) < 0 or sum(weights) <= 0:
            raise UsageError(f"weights are three, of accuracy, form and adaptive, 0 or more; not {list(weights)}")
        if leave_one_out and over != "group":
            raise UsageError("leave_one_out is for over=group: a running average has no members to leave out")
        self.rate, self.alpha, self.floor, self.gate, self.form = rate, alpha, floor, gate, form
        self.weights = torch.tensor(list(weights), dtype=torch.float64) / sum(weights)
        self.over, self.memory, self.leave_one_out, self.baseline = over, memory, leave_one_out, baseline
        self.seen: dict[str, float] = {}
        self.told: dict[str, float] = {}

    def __call__(self, batch: Batch) -> Batch:
        if "mode" not in batch:
            raise UsageError("a tax on modes needs the rollout pilotage.rollouts.modes:Modes")
        instant = batch["instant"]
        accuracy, formed = batch.returns.double(), batch["formed"].double()
        rate = self._rates(batch, instant, accuracy)
        tax = torch.where(instant | (rate < self.gate), 0.0, (1 - self.floor) * rate**self.alpha)
        if self.form == "product":
            reward = accuracy * formed * (1 - tax)
        else:
            reward = (torch.stack([accuracy, formed, 1 - tax], -1) * self.weights).sum(-1)
        right = batch.valid & (accuracy > 0)
        self.told = {
            "tax/rate": _mean(rate, batch.valid),
            "tax/paid": _mean(tax, right),
            "tax/reward": _mean(reward, batch.valid),
        }
        found = with_returns(batch, reward.float()).with_episode(rate=rate.float())
        if self.baseline == "mode":
            apart = torch.where(batch["forced"], batch["mode"] + 1, 0)
            pairs = torch.stack([batch["group"], apart], -1)
            _, group = torch.unique(pairs, dim=0, return_inverse=True)
            found = found.with_episode(group=group)
        return found

    def _rates(self, batch: Batch, instant: Tensor, accuracy: Tensor) -> Tensor:
        """[E] the accuracy that each episode's tax is by."""
        forced = batch["forced"]
        if self.rate in RATES[:2] and not bool(forced.any()):
            raise UsageError(
                "no episode is forced into a mode: set rollout.forced above 0, or the tax's rate to instant"
            )
        members = {"forced-instant": forced & instant, "forced": forced, "instant": instant}
        counted = (members.get(self.rate, torch.ones_like(forced)) & batch.valid).double()
        if self.over == "category":
            names = list(dict.fromkeys(batch.notes["category"]))
            key = torch.tensor([names.index(name) for name in batch.notes["category"]])
        else:
            named, key = torch.unique(batch[self.over], return_inverse=True)
            names = [str(name) for name in named.tolist()]
        total = torch.zeros(len(names), dtype=torch.float64).index_add(0, key, counted * accuracy)
        count = torch.zeros(len(names), dtype=torch.float64).index_add(0, key, counted)
        if self.over != "group":
            return self._running(names, total, count)[key]
        own = counted if self.leave_one_out else torch.zeros_like(counted)
        return (total[key] - own * accuracy) / (count[key] - own).clamp(min=1)

    def _running(self, names: Sequence[str], total: Tensor, count: Tensor) -> Tensor:
        """[names] running averages, this step's means included; what has never been met is at 0."""
        for i, name in enumerate(names):
            if count[i] > 0:
                now = float(total[i] / count[i])
                self.seen[name] = self.memory * self.seen.get(name, now) + (1 - self.memory) * now
        return torch.tensor([self.seen.get(name, 0.0) for name in names], dtype=torch.float64)

    def metrics(self) -> dict[str, float]:
        """`tax/rate`, the mean of p; `tax/paid`, what right answers lose; `tax/reward`, the mean of what is learnt
        from."""
        return self.told

    def state_dict(self) -> dict[str, Any]:
        """The running averages."""
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = dict(state["seen"])


@shaping
def charged(batch: Batch, *, weight: float = 0.01) -> Batch:
    """The return less `weight` for each unit of `cost` (see `pilotage.rollouts.modes:Modes`): a penalty on length and
    on calls, however hard the problem is. Raises UsageError where costs are not known."""
    if "cost" not in batch:
        raise UsageError("a charge by cost needs the column of pilotage.rollouts.modes:Modes; set rollout to it")
    return with_returns(batch, batch.returns - weight * batch["cost"])


def _mean(values: Tensor, where: Tensor) -> float:
    return float(values[where].double().mean()) if bool(where.any()) else 0.0
