"""A fixed number of steps on each of several lanes; episodes go on from one window to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pilotage.data.batch import Batch, Stop
from pilotage.data.rng import Streams
from pilotage.policies.base import ActingPolicy, Policy
from pilotage.rollouts.base import NextTask, Rollout, begin, moves, number, to_world, uniform_actions
from pilotage.worlds.base import World


class Window(Rollout):
    """PPO's way: `lanes` copies of the world for `steps` steps each. Records are the pieces of episodes that fell into
    the window: those cut by it bootstrap from their true next observation (`truncated`, stop WINDOW).

    The first `random_decisions` are drawn uniformly from the action space, whole windows of them: what off-policy
    methods begin with. `greedy`: after those, the policy's best actions instead of draws. Per-episode extras: `lane`,
    `episode_return`, `episode_length` of whole episodes that ended here (NaN otherwise), and `success` in the same way
    once the world has told any.
    """

    def __init__(self, *, lanes: int = 8, steps: int = 128, random_decisions: int = 0, greedy: bool = False) -> None:
        self.lanes, self.steps, self.random_decisions, self.greedy = lanes, steps, random_decisions, greedy
        self.played = 0  # decisions so far
        self.observation: np.ndarray[Any, Any] | None = None
        self.running = np.zeros((3, lanes))  # return, length and success so far of each lane's episode
        self.tells = False  # whether the world has told success
        self.keys = np.zeros(lanes, dtype=np.int64)

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        total = self.lanes * self.steps
        return f"takes {self.steps} decisions on each of {self.lanes} lanes: {number(total)} decisions", total

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(policy, ActingPolicy):
            raise TypeError("the window rollout needs a policy whose move is one action")
        lanes, steps = self.lanes, self.steps
        noise = policy.noise(streams.generator("rollout", step), lanes, steps)
        if self.observation is None:
            self.observation = self._start(policy, world, next_task, list(range(lanes)))
        observations, actions, logps = [], [], []
        reward = np.zeros((steps, lanes), np.float32)
        terminated, truncated, invalid = (np.zeros((steps, lanes), bool) for _ in range(3))
        finals: dict[tuple[int, int], Any] = {}
        finished: dict[tuple[int, int], list[float]] = {}
        keys = np.zeros((steps, lanes), np.int64)
        every = list(range(lanes))
        blind = None
        if self.played < self.random_decisions:
            blind = uniform_actions(world.action, streams.generator("rollout/random", step), steps, lanes)
        self.played += steps * lanes
        for t, drawn in enumerate(noise.unbind()):
            action, logp = moves(policy, self.observation, drawn, every, self.greedy) if blind is None else blind[t]
            outcome = world.step(to_world(action), every)
            observations.append(self.observation)
            actions.append(action)
            logps.append(logp)
            keys[t] = self.keys
            reward[t], terminated[t], truncated[t] = outcome.reward, outcome.terminated, outcome.truncated
            over = terminated[t] | truncated[t]
            if outcome.invalid:
                invalid[t, list(outcome.invalid)] = True
                over |= invalid[t]
            self.running[0] += reward[t]
            self.running[1] += 1
            if outcome.success is not None:
                self.tells = True
                self.running[2] = np.maximum(self.running[2], outcome.success)
            following = outcome.observation
            if over.any():
                ended = over.nonzero()[0]
                following = np.array(following)
                for lane in ended.tolist():
                    finals[lane, t] = following[lane].copy()
                    finished[lane, t] = self.running[:, lane].tolist()
                following[ended] = self._start(policy, world, next_task, ended.tolist())
                self.running[:, ended] = 0
            self.observation = following
        return _record(
            np.stack(observations), torch.stack(actions), torch.stack(logps), reward, terminated, truncated, invalid,
            keys, finals, finished, self.observation, self.tells,
        )  # fmt: skip

    def _start(self, policy: ActingPolicy, world: World, next_task: NextTask, lanes: list[int]) -> np.ndarray[Any, Any]:
        begin(policy, lanes)
        tasks = [next_task() for _ in lanes]
        self.keys[lanes] = [task.key for task in tasks]
        return np.array(world.reset(tasks, lanes))

    def state_dict(self) -> dict[str, Any]:
        return {
            "observation": self.observation,
            "running": self.running,
            "keys": self.keys,
            "played": self.played,
            "tells": self.tells,
        }

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        self.observation, self.played = state["observation"], int(state["played"])
        saved = np.array(state["running"])
        self.running[: len(saved)] = saved  # checkpoints of earlier versions have no row of success
        self.keys, self.tells = np.array(state["keys"]), bool(state.get("tells", False))


def _record(
    observations: np.ndarray[Any, Any],
    actions: torch.Tensor,
    logps: torch.Tensor,
    reward: np.ndarray[Any, Any],
    terminated: np.ndarray[Any, Any],
    truncated: np.ndarray[Any, Any],
    invalid: np.ndarray[Any, Any],
    keys: np.ndarray[Any, Any],
    finals: Mapping[tuple[int, int], Any],
    finished: Mapping[tuple[int, int], list[float]],
    following: np.ndarray[Any, Any],
    tells: bool,
) -> Batch:
    """[steps, lanes, …] arrays as lane-major columns, cut where episodes ended."""
    steps, lanes = reward.shape
    ends = (terminated | truncated | invalid).T.copy()
    ends[:, -1] = True
    lane, time = ends.nonzero()
    offsets = torch.from_numpy(np.concatenate([[0], lane * steps + time + 1]))
    places = list(zip(lane.tolist(), time.tolist(), strict=True))
    at = terminated.T[lane, time], truncated.T[lane, time], invalid.T[lane, time]
    stop = np.select([at[2], at[0], at[1]], [Stop.INVALID, Stop.TERMINATED, Stop.TIME_LIMIT], Stop.WINDOW)
    whole = np.array([finished.get(place, [np.nan] * 3) for place in places], np.float32)
    final = np.stack([finals.get(place, following[place[0]]) for place in places])

    def columns(array: Any) -> torch.Tensor:
        return torch.as_tensor(array).transpose(0, 1).reshape(lanes * steps, *array.shape[2:])

    return Batch(
        offsets,
        {
            "observation": columns(observations),
            "action": columns(actions),
            "behaviour_logp": columns(logps),
            "reward": columns(reward),
        },
        {
            "group": torch.arange(len(places)),
            "lane": torch.from_numpy(lane.copy()),
            "task": torch.from_numpy(keys.T[lane, time].copy()),
            "terminated": torch.from_numpy(at[0].copy()),
            "truncated": torch.from_numpy(~at[0]),
            "valid": torch.from_numpy(~at[2]),
            "stop": torch.from_numpy(stop.astype(np.int64)),
            "final_observation": torch.from_numpy(final),
            "episode_return": torch.from_numpy(whole[:, 0].copy()),
            "episode_length": torch.from_numpy(whole[:, 1].copy()),
            **({"success": torch.from_numpy(whole[:, 2].copy())} if tells else {}),
        },
    )
