"""Learners of tables that plan with bonuses: greedy (UCBVI, LSVI-UCB), and regularised towards demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.learn import finite
from pilotage.learn.finite import Array, Counts, Gram, Which, Whole


class Optimistic:
    """Plans anew after each step, for the model estimated so far plus a bonus, and plays the best actions of the plan.

    model: "counts", or "linear" in the world's features (one-hot where it has none). bonus: scale of `finite.bonus`, or
    with form "bernstein" (counts only) of `finite.between`. ridge: of the regression (counts take 0). Values are held
    within [0, what can still be got]: the steps left, and the world's largest return. Sources: Azar et al. 2017
    (UCBVI); Jin et al. 2020 (LSVI-UCB).
    """

    def __init__(
        self, policy: Any, world: Any, *, model: str = "counts", bonus: float = 0.01, delta: float = 0.1,
        ridge: float = 0.0, form: str = "hoeffding",
    ) -> None:  # fmt: skip
        if not hasattr(policy, "probabilities") or not hasattr(world, "features"):
            raise UsageError("learners of tables need the table policy and a finite: world")
        if model not in ("counts", "linear"):
            raise UsageError(f"model {model!r} is not counts or linear")
        if form not in ("hoeffding", "bernstein") or (form == "bernstein" and model != "counts"):
            raise UsageError("form is hoeffding, or bernstein with model counts: it needs the variance of next values")
        if bonus < 0 or ridge < 0 or not 0 < delta < 1 or (model == "linear" and ridge == 0):
            raise UsageError("bonus is at least 0, ridge too (above it for a linear model), delta between 0 and 1")
        self.policy, self.world = policy, world
        self.targets: dict[str, Any] = {}  # nothing follows a table
        self.scale, self.delta, self.model, self.form = bonus, delta, model, form
        sizes = (policy.replicas, policy.horizon, policy.states, policy.actions)
        self.sizes = sizes
        features = world.features() if model == "linear" else None
        self.seen = Counts(*sizes, ridge) if features is None else Gram(sizes[0], sizes[1], features, ridge)
        self.caps = np.minimum(np.arange(sizes[1], 0, -1), world.reward_range[1]).astype(np.float64)

    def update(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        """Takes a step's episodes and plans. Returns metrics; `optimiser_steps` is 1 where the policy changed."""
        states, actions, rewards = episodes_of(batch, self.sizes[0], self.sizes[1])
        self.seen.add(states, actions, self.rewards_of(states, actions, rewards))
        found = self.plan(states[:, 0, 0])
        for name in ("regret", "total_regret"):
            if name in batch:
                found[name] = float(batch[name].mean())
        return found

    def rewards_of(self, states: Whole, actions: Whole, rewards: Array) -> Array:
        """[N, K, H] the rewards to learn from: those that were paid."""
        return rewards

    def plan(self, start: Whole) -> dict[str, float]:
        """Plans for every replica. start: [N] a first state, whose value is reported."""
        upper = self.upper(slice(None))
        moved = self.play(finite.greedy(upper))
        return {"optimiser_steps": moved, "plan/value": mean_at(upper[:, 0].max(-1), start)}

    def upper(self, which: Which) -> Array:
        """[n, H, S, A] optimistic action values of some replicas, by hard backups."""
        estimate = self.seen.estimate(which)
        if self.form == "bernstein":
            return self.bounds(estimate, finite.highest)[0]
        return finite.backward(estimate, self.caps, self.bonus(estimate.width), finite.highest)

    def bounds(self, estimate: finite.Estimate, back: finite.Back) -> tuple[Array, Array, Array]:
        """Upper and lower action values [n, H, S, A], and the certified gap's own bonus, which falls like 1 / n."""
        if self.form == "bernstein":
            return finite.between(estimate, self.caps, self.scale, self._cells(), self.delta, back)
        added, span = self.bonus(estimate.width), float(self.caps[0])
        upper, lower = (finite.backward(estimate, self.caps, sign * added, back) for sign in (1.0, -1.0))
        return upper, lower, np.minimum(added, span) ** 2 / max(span, 1e-12)

    def bonus(self, width: Array) -> Array:
        """[n, H, S, A] the bonus of this width."""
        return finite.bonus(width, self.scale, float(self.caps[0]), self._cells(), self.delta)

    def _cells(self) -> int:
        return int(self.sizes[1] * self.seen.features)

    def play(self, probabilities: Array) -> float:
        """Makes [N, H, S, A] the policy; 1 if that changes it, else 0."""
        table, new = self.policy.probabilities, torch.from_numpy(probabilities)
        moved = not torch.equal(table, new)
        table.copy_(new)
        return float(moved)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen.load_state_dict(state["seen"])


class Regularised(Optimistic):
    """Plans for reward minus λ KL(π || clone) between two bounds; the clone is of expert demonstrations.

    demonstrations: expert episodes a replica has at first; the expert is optimal but for a share `expert_noise` of
    random actions. temperature: λ; None is accuracy · demonstrations / (H · S · A), with D features for S · A. The
    policy follows the upper bound; `probe` marks where the bounds differ most. stop: a replica whose certified gap is
    below `accuracy` keeps its policy. Source: Tiapkin et al. 2024, UCBVI-Ent+ and LSVI-UCB-Ent.
    """

    def __init__(
        self, policy: Any, world: Any, streams: Streams, *, model: str = "counts", bonus: float = 0.01,
        delta: float = 0.1, ridge: float = 0.0, demonstrations: int = 100, expert_noise: float = 0.05,
        temperature: float | None = None, accuracy: float = 0.1, stop: bool = False, form: str = "hoeffding",
    ) -> None:  # fmt: skip
        super().__init__(policy, world, model=model, bonus=bonus, delta=delta, ridge=ridge, form=form)
        if demonstrations < 0 or accuracy <= 0 or (temperature is not None and temperature < 0):
            raise UsageError("demonstrations and temperature are at least 0, accuracy above it")
        copies, horizon, *sizes = self.sizes
        expert = np.broadcast_to(world.expert(expert_noise), self.sizes)
        shown = world.demonstrate(expert, demonstrations, streams.generator("demonstrations"))
        self.reference = finite.cloned(shown[0], shown[1], horizon, (sizes[0], sizes[1]), model == "linear")
        by_default = accuracy * demonstrations / (horizon * self.seen.features)
        self.temperature = by_default if temperature is None else temperature
        self.accuracy, self.stop = accuracy, stop
        self.stopped = np.zeros(copies, np.bool_)
        self.play(self.reference if self.temperature else np.full(self.sizes, 1 / sizes[1]))

    def plan(self, start: Whole) -> dict[str, float]:
        estimate = self.seen.estimate(slice(None))
        upper, lower, own = self.bounds(estimate, self._back)
        value, policy = finite.soft(upper, self.reference, self.temperature)
        gap = self._gap(estimate, policy, own, upper - lower)
        certified = np.take_along_axis(gap[:, 0], start[:, None], -1)[:, 0]
        if self.stop:
            policy[self.stopped] = self.policy.probabilities.numpy()[self.stopped]
            self.stopped |= certified <= self.accuracy
        moved = self.play(policy)
        self.policy.probe.copy_(torch.from_numpy((upper - lower).argmax(-1)))
        return {
            "optimiser_steps": moved, "plan/value": mean_at(value[:, 0], start), "plan/gap": float(certified.mean()),
            "plan/stopped": float(self.stopped.mean()), "plan/divergence": float(self._spent(policy).mean()),
        }  # fmt: skip

    def _back(self, action_value: Array, h: int) -> Array:
        return finite.soft(action_value, self.reference[:, h], self.temperature)[0]

    def _gap(self, estimate: finite.Estimate, policy: Array, own: Array, apart: Array) -> Array:
        """[N, H, S] G_h = clip(π·((1 + 1/H) p G_{h+1} + own) + max_a (Q̄ - Q̲)² / 2λ, 0, what is left): how far the
        policy can be from the best of the regularised problem; without λ, the distance of the bounds itself."""
        horizon, span = self.sizes[1], float(self.caps[0])
        found, value = np.empty(apart.shape[:-1]), np.zeros((self.sizes[0], self.sizes[2]))
        with np.errstate(divide="ignore"):
            smooth = (
                np.minimum(apart.max(-1) ** 2 / (2 * self.temperature), span) if self.temperature else apart.max(-1)
            )
        for h in reversed(range(horizon)):
            ahead = (1 + 1 / horizon) * estimate.ahead(h, value) + own[:, h]
            found[:, h] = np.clip((policy[:, h] * ahead).sum(-1) + smooth[:, h], 0.0, self.caps[h])
            value = found[:, h]
        return found

    def _spent(self, policy: Array) -> Array:
        """[N, H, S] the divergence of the policy from the clone, state by state."""
        return finite.divergence(policy, self.reference)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "reference": self.reference, "stopped": self.stopped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.reference, self.stopped = np.array(state["reference"]), np.array(state["stopped"], np.bool_)


def episodes_of(batch: Batch, copies: int, horizon: int) -> tuple[Whole, Whole, Array]:
    """Of a batch of K episodes of each of N replicas: states [N, K, H + 1], actions and rewards [N, K, H].

    Raises UsageError for a batch that the replicas rollout did not make.
    """
    if "following" not in batch or batch.decisions != len(batch) * horizon or len(batch) % copies:
        raise UsageError("learners of tables need whole episodes of every replica: the replicas rollout, unfiltered")

    def shaped(column: torch.Tensor) -> Any:
        return column.numpy().reshape(-1, copies, horizon).swapaxes(0, 1)

    first, following = shaped(batch["observation"][:, 1]), shaped(batch["following"])
    states = np.concatenate([first[..., :1], following], axis=-1)
    return states, shaped(batch["action"]), shaped(batch["reward"]).astype(np.float64)


def mean_at(value: Array, start: Whole) -> float:
    """The mean over replicas of values [N, S] at states [N]."""
    return float(np.take_along_axis(value, start[:, None], -1).mean())
