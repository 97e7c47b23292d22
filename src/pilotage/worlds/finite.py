"""Finite-horizon problems whose model is known exactly, batched over lanes: FrozenLake, deep sea, river swim, linear.

Every episode lasts `horizon` steps, rewards lie in [0, 1] and depend on time, state and action alone, so that all
chance is in the transitions. What an agent may know beside what it sees: sizes, features and the largest return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds.base import Outcome, World

Array = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class FiniteModel:
    """All there is to know. H steps, S states, A actions; nothing has to be the same at two times."""

    transition: Array  # [H, S, A, S], rows sum to 1
    reward: Array  # [H, S, A], in [0, 1]
    start: Array  # [S]

    def __post_init__(self) -> None:
        horizon, states, actions = self.reward.shape
        if self.transition.shape != (horizon, states, actions, states) or self.start.shape != (states,):
            raise UsageError(
                f"reward {self.reward.shape}, transition {self.transition.shape} and start {self.start.shape} do not "
                "fit: they are [H, S, A], [H, S, A, S] and [S]"
            )
        for name in ("transition", "start"):
            rows = getattr(self, name)
            if (rows < 0).any() or not np.allclose(rows.sum(-1), 1.0):
                raise UsageError(f"{name} has to hold probabilities that sum to 1")
        if (self.reward < 0).any() or (self.reward > 1).any():
            raise UsageError("rewards of a finite-horizon world lie in [0, 1]")

    @property
    def horizon(self) -> int:
        """H."""
        return len(self.reward)

    def values(self, policy: Array) -> Array:
        """[…, H + 1, S]: values of policies […, H, S, A] (probabilities), by backward induction; 0 after the last
        step."""
        value = np.zeros((*policy.shape[:-3], self.horizon + 1, len(self.start)))
        for h in reversed(range(self.horizon)):
            value[..., h, :] = (policy[..., h, :, :] * self.backed_up(value[..., h + 1, :], h)).sum(-1)
        return value

    def returns(self, policy: Array) -> Array:
        """[…]: expected returns of policies […, H, S, A]."""
        found: Array = self.values(policy)[..., 0, :] @ self.start
        return found

    def backed_up(self, value: Array, h: int) -> Array:
        """[…, S, A]: r_h + p_h V for next values […, S]."""
        states, actions = self.reward.shape[1:]
        # one matrix product for all leading entries: the model is shared by them
        ahead = value @ self.transition[h].reshape(states * actions, states).T
        found: Array = self.reward[h] + ahead.reshape(*value.shape[:-1], states, actions)
        return found

    def best(self) -> tuple[Array, Array]:
        """Optimal values [H + 1, S] and a deterministic optimal policy [H, S, A] (the first of equal actions)."""
        value, policy = np.zeros((self.horizon + 1, len(self.start))), np.zeros(self.reward.shape)
        for h in reversed(range(self.horizon)):
            action_value = self.backed_up(value[h + 1], h)
            np.put_along_axis(policy[h], action_value.argmax(-1)[:, None], 1.0, axis=-1)
            value[h] = action_value.max(-1)
        return value, policy


class FiniteWorld(World):
    """A given model as a world; a task is an episode's random numbers. Observations are (time, state), int64 [n, 2]."""

    @property
    def kind(self) -> str:
        return "finite"

    def __init__(self, model: FiniteModel, *, seed: int = 0, largest_return: float | None = None) -> None:
        self._model, self.seed = model, seed
        horizon, states, actions = model.reward.shape
        self.observation = spaces.MultiDiscrete([horizon + 1, states])
        self.action = spaces.Discrete(actions)
        self.longest = horizon
        self.reward_range = (0.0, float(horizon) if largest_return is None else largest_return)
        self._reach = model.transition.cumsum(-1)
        self._start = model.start.cumsum()
        self._tasks: dict[int, Task] = {}
        self._chance = np.zeros((0, horizon + 1))
        self._now: Whole = np.zeros((0, 2), np.int64)  # time and state by lane; time -1 where none is running

    def exact(self) -> FiniteModel:
        """The problem itself."""
        return self._model

    def features(self) -> Array | None:
        """[S, A, D] what values are linear in, where a learner may know; else None, and it has one-hot features."""
        return None

    def task(self, index: int, split: Split) -> Task:
        return Task(index, split)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> Whole:
        self._grow(max(lanes, default=-1) + 1)
        for task, lane in zip(tasks, lanes, strict=True):
            self._tasks[lane] = task
            generator = Streams(self.seed).generator(f"chance {task.split}", index=task.key)
            self._chance[lane] = generator.random(self._chance.shape[1])
        rows = np.asarray(lanes)
        self._now[rows] = np.stack([np.zeros(len(rows), np.int64), _draw(self._start, self._chance[rows, 0])], -1)
        found: Whole = self._now[rows]
        return found

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """actions: integers [n]. Raises ValueError for a lane without a running episode."""
        rows, action = np.asarray(lanes), np.asarray(actions)
        if rows.size and (rows.max() >= len(self._now) or (self._now[rows, 0] < 0).any()):
            raise ValueError("a lane has no running episode: reset it first")
        time, state = self._now[rows].T
        following = _draw(self._reach[time, state, action], self._chance[rows, time + 1])
        observed = np.stack([time + 1, following], -1)
        over = observed[:, 0] == self._model.horizon
        self._now[rows] = np.where(over[:, None], -1, observed)
        reward = self._model.reward[time, state, action].astype(np.float32)
        return Outcome(observed, reward, over, np.zeros_like(over))

    def demonstrate(self, policy: Array, count: int, generator: np.random.Generator) -> tuple[Whole, Whole, Array]:
        """`count` episodes of each of N policies [N, H, S, A]: states [N, count, H + 1], actions and rewards
        [N, count, H]."""
        copies, horizon = policy.shape[:2]
        states = np.zeros((copies, count, horizon + 1), np.int64)
        actions, rewards = np.zeros((copies, count, horizon), np.int64), np.zeros((copies, count, horizon))
        chance = generator.random((2, horizon + 1, copies, count))
        states[..., 0] = _draw(self._start, chance[0, horizon])
        copy = np.arange(copies)[:, None]
        reach = policy.cumsum(-1)
        for h in range(horizon):
            now = states[..., h]
            actions[..., h] = _draw(reach[copy, h, now], chance[1, h])
            rewards[..., h] = self._model.reward[h, now, actions[..., h]]
            states[..., h + 1] = _draw(self._reach[h, now, actions[..., h]], chance[0, h])
        return states, actions, rewards

    def expert(self, noise: float) -> Array:
        """[H, S, A]: an optimal policy that acts uniformly at random with probability `noise`."""
        best = self._model.best()[1]
        found: Array = (1 - noise) * best + noise / best.shape[-1]
        return found

    def state_dict(self) -> dict[str, Any]:
        running = np.flatnonzero(self._now[:, 0] >= 0).tolist()
        return {"lanes": {str(n): {"task": asdict(self._tasks[n]), "now": self._now[n].tolist()} for n in running}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, saved in state.get("lanes", {}).items():
            self.reset([Task(**saved["task"])], [int(name)])
            self._now[int(name)] = saved["now"]

    def _grow(self, count: int) -> None:
        more = count - len(self._now)
        if more > 0:
            self._now = np.concatenate([self._now, np.full((more, 2), -1)])
            self._chance = np.concatenate([self._chance, np.zeros((more, self._chance.shape[1]))])


def _draw(cumulative: Array, number: Any) -> Whole:
    """[n] classes from cumulative probabilities [n, S] or [S] and uniform numbers [n]."""
    below: Whole = (cumulative <= np.asarray(number)[..., None]).sum(-1)
    found: Whole = np.minimum(below, cumulative.shape[-1] - 1)  # sums of probabilities may end a rounding below 1
    return found


def _stationary(transition: Array, reward: Array, start: int, horizon: int) -> FiniteModel:
    return FiniteModel(
        np.broadcast_to(transition, (horizon, *transition.shape)).copy(),
        np.broadcast_to(reward, (horizon, *reward.shape)).copy(),
        np.eye(len(reward))[start],
    )


class FrozenLake(FiniteWorld):
    """gymnasium's FrozenLake for `horizon` steps: holes and the goal keep what enters them, and pay nothing more.

    The reward of a move is the probability that it reaches the goal, which gives every policy the value it has there.
    """

    def __init__(self, *, horizon: int = 20, size: int = 4, slippery: bool = True, seed: int = 0) -> None:
        if size not in (4, 8):
            raise UsageError(f"FrozenLake has maps of size 4 and 8, not {size}")
        table = gymnasium.make("FrozenLake-v1", map_name=f"{size}x{size}", is_slippery=slippery).unwrapped.P
        transition, reward = np.zeros((size**2, 4, size**2)), np.zeros((size**2, 4))
        for state, by_action in table.items():
            for action, outcomes in by_action.items():
                for probability, following, paid, _ in outcomes:
                    transition[state, action, following] += probability
                    reward[state, action] += probability * paid
        super().__init__(_stationary(transition, reward, 0, horizon), seed=seed, largest_return=1.0)


class DeepSea(FiniteWorld):
    """A dive of `size` steps: only `size` times right out of 2^size ways finds the treasure, worth 1. Osband et al.
    2019 (bsuite). State is the column, time the row; which action is right differs from cell to cell (by `seed`).

    bsuite's cost of 0.01 / size a move to the right is here a gain of as much a move to the left: returns are 0.01
    higher, and rewards lie in [0, 1].
    """

    def __init__(self, *, size: int = 8, seed: int = 0) -> None:
        if size < 2:
            raise UsageError(f"the sea is at least 2 deep, not {size}")
        right = Streams(seed).generator("right").integers(2, size=(size, size))
        transition, reward = np.zeros((size, size, 2, size)), np.zeros((size, size, 2))
        for h in range(size):
            for column in range(size):
                there, back = right[h, column], 1 - right[h, column]
                transition[h, column, there, min(column + 1, size - 1)] = 1.0
                transition[h, column, back, max(column - 1, 0)] = 1.0
                reward[h, column, back] = 0.01 / size
        reward[-1, -1, right[-1, -1]] = 1.0
        super().__init__(FiniteModel(transition, reward, np.eye(size)[0]), seed=seed, largest_return=1.01)


class RiverSwim(FiniteWorld):
    """A chain against the current: left is sure and pays 0.005 at its end, right often fails and pays 1 at its end.
    Strehl & Littman 2008; probabilities as in Osband et al. 2013."""

    def __init__(self, *, states: int = 6, horizon: int = 20, seed: int = 0) -> None:
        if states < 3:
            raise UsageError(f"the river has at least 3 states, not {states}")
        transition, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
        for state in range(states):
            transition[state, 0, max(state - 1, 0)] = 1.0
            if 0 < state < states - 1:
                transition[state, 1, [state - 1, state, state + 1]] = 0.05, 0.6, 0.35
        transition[0, 1, [0, 1]] = 0.4, 0.6
        transition[-1, 1, [-2, -1]] = 0.4, 0.6
        reward[0, 0], reward[-1, 1] = 0.005, 1.0
        super().__init__(_stationary(transition, reward, 0, horizon), seed=seed)


class LinearWorld(FiniteWorld):
    """A random linear problem: p_h(s'|s, a) = φ(s, a)·μ_h(s'), r_h(s, a) = φ(s, a)·θ_h. Jin et al. 2020.

    φ are `features` probabilities (Dirichlet, mostly near a corner), the rows of μ_h are distributions over few states,
    θ_h uniform on [0, 1]; state 0 starts.
    """

    def __init__(
        self, *, states: int = 50, actions: int = 4, features: int = 8, horizon: int = 10, seed: int = 0
    ) -> None:
        rng = Streams(seed).generator("linear")
        self._features: Array = rng.dirichlet(np.full(features, 0.3), size=(states, actions))
        measures = rng.dirichlet(np.full(states, 0.1), size=(horizon, features))
        transition = np.einsum("sad,hdt->hsat", self._features, measures)
        reward = np.einsum("sad,hd->hsa", self._features, rng.random((horizon, features)))
        transition /= transition.sum(-1, keepdims=True)
        super().__init__(FiniteModel(transition, reward.clip(0, 1), np.eye(states)[0]), seed=seed)

    def features(self) -> Array:
        return self._features
