"""Any registered gymnasium environment as a world: plain environments side by side, one a lane.

Not gymnasium's vector environments: those reset by themselves, so that the seed of an episode is not ours to choose and
the true last observation has to be dug out of an info dictionary.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds.base import Outcome, World

try:
    import gymnasium
    from gymnasium import spaces
except ModuleNotFoundError as error:
    raise UsageError(f'{error}: pip install "pilotage[control]"') from None

logger = logging.getLogger(__name__)
SEED_BITS = 30  # and one for the split: every environment takes seeds of 31 bits


class EnvironmentFailure(RuntimeError):
    """An environment that cannot be reset, or that did not replay to where it had stood."""


def known_id(env_id: str) -> str:
    """`env_id` if gymnasium knows it; `module:Name-v0` imports the module first. Raises UsageError with the nearest."""
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(f"cannot import {module!r}, which {env_id!r} asks for: {error}") from None
    if name not in gymnasium.registry:
        raise UsageError(f"gymnasium has no environment {name!r}; {nearest(name, gymnasium.registry)}")
    return name


class GymWorld(World):
    """The gymnasium environment `env_id`, made with `settings`; a task is a seed.

    Observations are [n, …] arrays: those of a Box as they are (floats as float32), those of other spaces flattened to
    float32 [n, k]. Actions are those of `action`: integers from 0, or floats, clipped to the bounds if `clip_actions`.
    A lane whose environment raises, or gives a number that is not finite, is reported invalid, with zeros observed.
    Success is what the environment's info says under `success` or `is_success`.

    Raises UsageError for an unknown id, settings the environment does not take, and spaces no policy here speaks.
    """

    def __init__(
        self, *, env_id: str, settings: Mapping[str, Any] | None = None, seed: int = 0, clip_actions: bool = True
    ) -> None:
        self.seed, self.clip_actions = seed, clip_actions
        self._settings = dict(settings or {})
        self._spec = deepcopy(gymnasium.spec(known_id(env_id)))
        self.longest = self._spec.max_episode_steps
        self._spec.order_enforce = (
            False  # its check costs a call a step; `_trails` below says who has a running episode
        )
        self._spare: Any = self._make()  # the first lane takes it over
        self._source: spaces.Space[Any] = self._spare.observation_space
        self.observation = self.observed_space(self._source)
        self._encodes = not isinstance(self._source, spaces.Box)
        self.action, self._first_action = _action_space(env_id, self._spare.action_space)
        self._envs: dict[int, Any] = {}
        self._tasks: dict[int, Task] = {}
        self._trails: dict[int, list[Any]] = {}  # actions of each running episode: what an exact resume replays
        self._last: dict[int, Any] = {}  # and the observation, as the environment gave it, where that must end

    def observed_space(self, source: spaces.Space[Any]) -> spaces.Box:
        """The space of what `encode` gives for observations of `source`. Raises UsageError if there is none."""
        flat = spaces.flatten_space(source) if source.is_np_flattenable else source
        found = source if isinstance(source, spaces.Box) else flat
        if not isinstance(found, spaces.Box):
            raise UsageError(f"observations of {self._spec.id} are {source}, which have no fixed shape")
        if np.issubdtype(found.dtype, np.floating) or found is not source:
            return spaces.Box(found.low.astype(np.float32), found.high.astype(np.float32), dtype=np.float32)
        return found

    def encode(self, raw: Any) -> NDArray[Any]:
        """One observation that is no array, as one of `observation`."""
        found: NDArray[Any] = spaces.flatten(self._source, raw)
        return found

    def task(self, index: int, split: Split) -> Task:
        """Its payload is the environment's seed: even in one split, odd in the other, hence never shared."""
        drawn = Streams(self.seed).number(f"environment {split}", index=index) % 2**SEED_BITS
        return Task(index, split, payload={"seed": 2 * drawn + (split == "held_out")})

    def reset_settings(self, task: Task) -> dict[str, Any]:
        """What an environment's reset is given beside the task's seed: nothing, unless a family says so."""
        return {}

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> NDArray[Any]:
        """[n, …] first observations. Raises EnvironmentFailure if one cannot be reset even when made afresh."""
        observation = np.empty((len(lanes), *self.observation.shape), self.observation.dtype)
        for row, (task, lane) in enumerate(zip(tasks, lanes, strict=True)):
            observation[row] = self._start(task, lane)
        return observation

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """actions: [n, …]. Raises ValueError for a lane without a running episode."""
        count = len(lanes)
        observation = np.empty((count, *self.observation.shape), self.observation.dtype)
        reward = np.zeros(count, np.float32)
        terminated, truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        envs, trails, last, encodes = self._envs, self._trails, self._last, self._encodes
        invalid: dict[int, str] = {}
        success = None
        for row, (lane, action) in enumerate(zip(lanes, self._as_actions(actions), strict=True)):
            trail = trails.get(lane)
            if trail is None:
                raise ValueError(f"lane {lane} has no running episode: reset it first")
            trail.append(action)
            try:
                raw, reward[row], ended, cut, info = envs[lane].step(action)
                observation[row] = self.encode(raw) if encodes else raw
            except Exception as error:
                invalid[row] = f"{self._spec.id} raised in step: {_said(error)}"
                continue
            last[lane] = raw
            if info and (said := info.get("success", info.get("is_success"))) is not None:
                success = np.zeros(count, np.bool_) if success is None else success
                success[row] = bool(said)
            if ended or cut:
                terminated[row], truncated[row] = ended, cut and not ended
                del trails[lane]
        self._find_broken(observation, reward, invalid)
        for row in invalid:
            terminated[row] = truncated[row] = False
            observation[row], reward[row] = 0, 0.0
            self._discard(lanes[row])
        return Outcome(observation, reward, terminated, truncated, invalid, success)

    def state_dict(self) -> dict[str, Any]:
        """Each running episode: its task, its actions so far [t, …] and the last observation, by lane."""
        return {
            "lanes": {
                str(lane): {
                    "task": asdict(self._tasks[lane]),
                    "actions": np.array(actions, dtype=self.action.dtype),
                    "observation": self._encoded(self._last[lane]),
                }
                for lane, actions in sorted(self._trails.items())
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replays each episode from its seed. Raises EnvironmentFailure where that ends elsewhere than it had stood."""
        for name, episode in state.get("lanes", {}).items():
            lane, task = int(name), Task(**episode["task"])
            self.reset([task], [lane])
            for action in episode["actions"]:
                self.step(action[None], [lane])
            if not np.array_equal(self._encoded(self._last[lane]), episode["observation"]):
                raise EnvironmentFailure(
                    f"{self._spec.id} with seed {task.payload['seed']} did not replay to the observation saved after "
                    f"{len(episode['actions'])} actions: its steps depend on more than seed and actions"
                )

    def close(self) -> None:
        for env in (*self._envs.values(), *([self._spare] if self._spare else [])):
            env.close()
        self._envs, self._spare, self._trails = {}, None, {}

    def _make(self) -> Any:
        try:
            made = gymnasium.make(self._spec, disable_env_checker=True, **self._settings)
        except TypeError as error:
            raise UsageError(f"{self._spec.id} does not take these settings: {error}") from None
        except gymnasium.error.DependencyNotInstalled as error:
            raise UsageError(f"{self._spec.id}: {error}") from None
        chosen = made.unwrapped.action_space
        if type(chosen) is spaces.Discrete:
            # small environments ask it about every action, and what it asks of dtypes is a third of CartPole's step
            chosen.contains = partial(_within, int(chosen.start), int(chosen.start + chosen.n))
        return made

    def _start(self, task: Task, lane: int) -> NDArray[Any]:
        seed = int(task.payload["seed"])
        for attempt in range(2):
            try:
                if lane not in self._envs:
                    self._envs[lane], self._spare = self._spare or self._make(), None
                raw, _ = self._envs[lane].reset(seed=seed, **self.reset_settings(task))
                found = self._encoded(raw)
                if not np.isfinite(found).all():
                    raise ValueError("the first observation is not finite")
                self._tasks[lane], self._trails[lane], self._last[lane] = task, [], raw
                return found
            except Exception as error:
                self._discard(lane)
                if attempt:
                    raise EnvironmentFailure(
                        f"{self._spec.id} with seed {seed} raised in reset, made afresh too: {_said(error)}"
                    ) from error
                logger.warning("%s with seed %d raised in reset, making it afresh: %s", self._spec.id, seed, error)
        raise AssertionError("unreachable")

    def _discard(self, lane: int) -> None:
        """Forgets a lane's environment: what raised once is in no known state. The next reset makes another."""
        self._trails.pop(lane, None)
        env = self._envs.pop(lane, None)
        try:
            if env is not None:
                env.close()
        except Exception as error:
            logger.warning("%s raised in close: %s", self._spec.id, error)

    def _as_actions(self, actions: Any) -> Any:
        """One entry a lane, as the environment takes it; no view of the caller's array, since the trail keeps it."""
        if isinstance(self.action, spaces.Discrete):
            # numpy integers, not Python's: gymnasium takes twice as long to check that one of the latter is an action
            return np.array(actions, dtype=np.int64) + self._first_action
        taken = np.array(actions, dtype=self.action.dtype)
        if self.clip_actions:  # np.clip takes several times as long
            np.maximum(taken, self.action.low, out=taken)
            np.minimum(taken, self.action.high, out=taken)
        return taken

    def _encoded(self, raw: Any) -> NDArray[Any]:
        """A copy of an observation, as one of `observation`."""
        return np.array(self.encode(raw) if self._encodes else raw, dtype=self.observation.dtype)

    def _find_broken(self, observation: NDArray[Any], reward: NDArray[np.float32], invalid: dict[int, str]) -> None:
        # the sum of squares is finite only if all are: one cheap look, and a second only if that finds something
        if not np.isfinite(np.vdot(reward, reward)):
            for row in np.flatnonzero(~np.isfinite(reward)).tolist():
                invalid.setdefault(row, f"{self._spec.id} gave the reward {reward[row]}")
        if observation.dtype == np.float32 and not np.isfinite(np.vdot(observation, observation)):
            bad = ~np.isfinite(observation).reshape(len(observation), -1).all(axis=1)
            for row in np.flatnonzero(bad).tolist():
                invalid.setdefault(row, f"{self._spec.id} gave an observation that is not finite")


def _within(first: int, end: int, action: Any) -> bool:
    return bool(first <= action < end)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _action_space(env_id: str, space: spaces.Space[Any]) -> tuple[spaces.Space[Any], int]:
    """The actions policies choose from, and the environment's number for the first of them."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n)), int(space.start)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return space, 0
    raise UsageError(f"actions of {env_id} are {space}; worlds here have Discrete or Box actions")
