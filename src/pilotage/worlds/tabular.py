"""Tiny Markov decision problems whose values and gradients are known exactly: oracles for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds.base import Outcome, World

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """All there is to know: S states, A actions; an episode lasts `horizon` steps, or until a terminal state."""

    transition: Array  # [S, A, S], rows sum to 1
    reward: Array  # [S, A]
    start: Array  # [S]
    terminal: NDArray[np.bool_]  # [S]
    horizon: int

    def __post_init__(self) -> None:
        states, actions = self.reward.shape
        shapes = {"transition": (states, actions, states), "start": (states,), "terminal": (states,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise UsageError(f"{name} has shape {getattr(self, name).shape}, but the reward's asks for {shape}")
        for name in ("transition", "start"):
            rows = getattr(self, name)
            if (rows < 0).any() or not np.allclose(rows.sum(-1), 1.0):
                raise UsageError(f"{name} has to hold probabilities that sum to 1")
        if self.start @ self.terminal > 0:
            raise UsageError("an episode cannot start in a terminal state")


class TabularWorld(World):
    """A random problem of this many states and actions, or a given one; a task is the episode's random numbers.

    transition [S, A, S], reward [S, A] and start [S] replace what is random; rewards are drawn from a standard normal,
    probabilities uniformly from the simplex, start is state 0. Observations are one-hot float32 [n, S]. At the horizon
    an episode is terminated, or truncated if `truncate`. Raises UsageError for tables that do not fit.
    """

    def __init__(
        self,
        *,
        states: int = 4,
        actions: int = 2,
        horizon: int = 5,
        terminal: Sequence[int] = (),
        truncate: bool = False,
        transition: Any = None,
        reward: Any = None,
        start: Any = None,
        seed: int = 0,
    ) -> None:
        if reward is not None:
            states, actions = np.shape(reward)
        elif transition is not None:
            states, actions = np.shape(transition)[:2]
        rng = Streams(seed).generator("tables")
        drawn = rng.dirichlet(np.ones(states), size=(states, actions)), rng.standard_normal((states, actions))
        self._model = Model(
            _table(transition, drawn[0]),
            _table(reward, drawn[1]),
            _table(start, np.eye(states)[0]),
            np.isin(np.arange(states), terminal),
            horizon,
        )
        self.seed, self._truncate = seed, truncate
        self.observation = spaces.Box(0.0, 1.0, (states,), np.float32)
        self.action = spaces.Discrete(actions)
        self._reach = self._model.transition.cumsum(-1)
        self._runs: dict[int, _Run] = {}

    def exact(self) -> Model:
        """The problem itself."""
        return self._model

    def task(self, index: int, split: Split) -> Task:
        return Task(index, split)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> NDArray[np.float32]:
        for task, lane in zip(tasks, lanes, strict=True):
            # all the chance of an episode, so that its state is three small things: task, time and state
            chance = Streams(self.seed).generator(f"chance {task.split}", index=task.key)
            numbers = chance.random(self._model.horizon + 1)
            self._runs[lane] = _Run(task, numbers, _draw(self._model.start.cumsum(), numbers[0]))
        return self._observe(lanes)

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """actions: integers [n]. Raises ValueError for a lane without a running episode."""
        model, count = self._model, len(lanes)
        reward = np.zeros(count, np.float32)
        terminated, truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        for row, (lane, action) in enumerate(zip(lanes, np.asarray(actions).tolist(), strict=True)):
            if lane not in self._runs or self._runs[lane].over:
                raise ValueError(f"lane {lane} has no running episode: reset it first")
            run = self._runs[lane]
            reward[row] = model.reward[run.state, action]
            run.time += 1
            run.state = _draw(self._reach[run.state, action], run.chance[run.time])
            late = run.time >= model.horizon
            terminated[row] = model.terminal[run.state] or (late and not self._truncate)
            truncated[row] = late and not terminated[row]
            run.over = bool(late or terminated[row])
        return Outcome(self._observe(lanes), reward, terminated, truncated)

    def state_dict(self) -> dict[str, Any]:
        running = {lane: run for lane, run in sorted(self._runs.items()) if not run.over}
        return {
            "lanes": {
                str(lane): {"task": asdict(r.task), "time": r.time, "state": r.state} for lane, r in running.items()
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, saved in state.get("lanes", {}).items():
            self.reset([Task(**saved["task"])], [int(name)])
            self._runs[int(name)].time, self._runs[int(name)].state = saved["time"], saved["state"]

    def _observe(self, lanes: Sequence[int]) -> NDArray[np.float32]:
        found = np.zeros((len(lanes), self.observation.shape[0]), np.float32)
        found[np.arange(len(lanes)), [self._runs[lane].state for lane in lanes]] = 1.0
        return found


@dataclass
class _Run:
    task: Task
    chance: Array
    state: int
    time: int = 0
    over: bool = False


def _table(given: ArrayLike | None, drawn: Array) -> Array:
    return drawn if given is None else np.asarray(given, np.float64)


def _draw(cumulative: Array, number: float) -> int:
    # sums of probabilities may end a rounding below 1
    return min(int(np.searchsorted(cumulative, number, side="right")), len(cumulative) - 1)


def softmax(logits: Array) -> Array:
    """[S, A] logits → [S, A] probabilities."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    found: Array = shifted / shifted.sum(-1, keepdims=True)
    return found


def exact_values(model: Model, policy: Array) -> tuple[Array, Array]:
    """Of a policy [S, A] (probabilities): values [H + 1, S] and action values [H, S, A] of the undiscounted reward to
    come, by time; 0 at the horizon and in terminal states."""
    values = np.zeros((model.horizon + 1, len(model.start)))
    action_values = np.zeros((model.horizon, *model.reward.shape))
    for t in reversed(range(model.horizon)):
        action_values[t] = model.reward + model.transition @ values[t + 1]
        action_values[t][model.terminal] = 0.0
        values[t] = (policy * action_values[t]).sum(-1)
    return values, action_values


def exact_return(model: Model, policy: Array) -> float:
    """The expected undiscounted return of a policy [S, A]."""
    return float(model.start @ exact_values(model, policy)[0][0])


def exact_occupancy(model: Model, policy: Array) -> Array:
    """[H, S]: the probability that an episode is running and in a state, by time."""
    found = np.zeros((model.horizon, len(model.start)))
    now = model.start
    for t in range(model.horizon):
        found[t] = np.where(model.terminal, 0.0, now)
        now = np.einsum("s,sa,sab->b", found[t], policy, model.transition)
    return found


def exact_policy_gradient(model: Model, logits: Array) -> Array:
    """[S, A]: the gradient of the expected return by the logits of a softmax table, by the policy gradient theorem."""
    policy = softmax(logits)
    values, action_values = exact_values(model, policy)
    advantage = action_values - values[:-1, :, None]
    found: Array = (exact_occupancy(model, policy)[:, :, None] * policy * advantage).sum(0)
    return found
