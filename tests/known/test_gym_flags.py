"""Terminated and truncated, and the true last observation, worked out by hand and against gymnasium itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pilotage.worlds.gym import GymWorld


class Clock(gymnasium.Env[Any, Any]):
    """Observes the time; ends by itself at `end`, cuts itself at `cut`."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, *, end: int = 0, cut: int = 0) -> None:
        self.end, self.cut = end, cut
        self.seen = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.seen[:] = 0  # one buffer for all observations, as some environments have
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.seen += 1
        now = int(self.seen[0])
        return self.seen, float(now), now == self.end, now == self.cut, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("TestClock-v0", entry_point=Clock, max_episode_steps=5)
    yield
    del gymnasium.registry["TestClock-v0"]


@pytest.mark.parametrize(
    ("options", "length", "terminated"),
    [
        ({}, 5, False),  # the time limit of its registration
        ({"end": 3}, 3, True),
        ({"cut": 3}, 3, False),
        ({"end": 3, "cut": 3}, 3, True),  # both at once: it has ended, and nothing follows to bootstrap from
        ({"end": 5}, 5, True),  # ends just when the time limit strikes
        ({"max_episode_steps": 2}, 2, False),
    ],
)
def test_how_episodes_end(options: dict[str, Any], length: int, terminated: bool) -> None:
    world = GymWorld(env_id="TestClock-v0", settings=options)
    task = world.task(0, "train")
    for _ in range(2):  # the second episode on the same lane is like the first
        assert world.reset([task], [0]).tolist() == [[0.0]]
        outcomes = [world.step([0], [0]) for _ in range(length)]
        assert [o.terminated[0] or o.truncated[0] for o in outcomes] == [False] * (length - 1) + [True]
        assert outcomes[-1].terminated[0] == terminated
        assert outcomes[-1].truncated[0] != terminated
        assert [o.observation.item() for o in outcomes] == list(range(1, length + 1))
        assert [o.reward.item() for o in outcomes] == list(range(1, length + 1))
        with pytest.raises(ValueError, match="reset it first"):
            world.step([0], [0])


def test_lanes_end_each_for_itself() -> None:
    world = GymWorld(env_id="TestClock-v0")
    tasks = [world.task(i, "train") for i in range(2)]
    world.reset(tasks[:1], [4])
    world.step([0], [4])
    world.reset(tasks[1:], [1])
    ends = {4: 0, 1: 0}
    lanes = [4, 1]
    for step in range(1, 6):
        outcome = world.step([0] * len(lanes), lanes)
        for row in np.flatnonzero(outcome.truncated).tolist():
            ends[lanes[row]] = step
        lanes = [lane for row, lane in enumerate(lanes) if not outcome.truncated[row]]
    assert ends == {4: 4, 1: 5}


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "FrozenLake-v1", "HalfCheetah-v5"])
def test_episodes_are_those_of_gymnasium(env_id: str) -> None:
    world = GymWorld(env_id=env_id)
    task = world.task(3, "train")
    plain = gymnasium.make(env_id)
    observation, _ = plain.reset(seed=task.payload["seed"])
    plain.action_space.seed(0)
    flat = lambda raw: np.asarray(spaces.flatten(plain.observation_space, raw), np.float32)  # noqa: E731
    assert np.array_equal(world.reset([task], [0])[0], flat(observation))
    for _ in range(250):
        action = plain.action_space.sample()
        observation, reward, terminated, truncated, _ = plain.step(action)
        outcome = world.step(np.array([action]), [0])
        assert np.array_equal(outcome.observation[0], flat(observation))
        assert outcome.reward[0] == np.float32(reward)
        assert (outcome.terminated[0], outcome.truncated[0]) == (terminated, truncated and not terminated)
        if terminated or truncated:
            break


def test_cartpole_held_up_is_truncated_at_500_and_dropped_is_terminated() -> None:
    world = GymWorld(env_id="CartPole-v1")
    task = world.task(0, "train")
    observation = world.reset([task, task], [0, 1])
    dropped = held = 0
    lanes = [0, 1]
    for step in range(1, 501):
        # lane 0 balances with a hand-made linear controller, lane 1 only pushes right
        actions = [int(observation[0] @ np.array([0.1, 0.3, 1.0, 1.0]) > 0), 1][: len(lanes)]
        outcome = world.step(actions, lanes)
        observation = outcome.observation
        if len(lanes) == 2 and outcome.terminated[1]:
            dropped, lanes = step, [0]
        held = step if outcome.truncated[0] else held
        assert not outcome.terminated[0]
    assert 5 < dropped < 20
    assert held == 500
