"""Policies with a state per environment: told when lanes begin, kept apart, saved with the run, set aside by judges."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces

from helpers import differing, final_state, metrics
from pilotage import api
from pilotage.data.piece import Piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.mlp import ActorCritic
from pilotage.rollouts.episodes import Episodes
from pilotage.rollouts.window import Window
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.worlds.base import Outcome, World


class Uneven(World):
    """Lane l's first episode lasts l + 1 steps, and every later one three."""

    def __init__(self, *, seed: int = 0) -> None:
        self.observation, self.action = spaces.Box(-9, 9, (1,)), spaces.Discrete(2)
        self.left: dict[int, int] = {}

    def task(self, index: int, split: str) -> Task:
        return Task(2 * index + (split == "held_out"), split)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> Any:
        for lane in lanes:
            self.left[lane] = 3 if lane in self.left else lane + 1
        return np.zeros((len(lanes), 1), np.float32)

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        for lane in lanes:
            self.left[lane] -= 1
        ended = np.array([self.left[lane] == 0 for lane in lanes])
        return Outcome(
            np.ones((len(lanes), 1), np.float32), np.ones(len(lanes), np.float32), ended, np.zeros(len(lanes), bool)
        )

    def state_dict(self) -> dict[str, Any]:
        return {"left": {str(lane): left for lane, left in self.left.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.left = {int(lane): left for lane, left in state["left"].items()}


class Counting(ActorCritic):
    """Its log-probs say how many decisions it has made since its lane began."""

    remembers: ClassVar[bool] = True

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.count = torch.zeros(0)

    def reset(self, lanes: Sequence[int]) -> None:
        if max(lanes) >= len(self.count):
            self.count = torch.cat([self.count, torch.zeros(max(lanes) + 1 - len(self.count))])
        self.count[list(lanes)] = 0

    def memory(self) -> dict[str, torch.Tensor]:
        return {"count": self.count}

    def remember(self, memory: Mapping[str, torch.Tensor]) -> None:
        self.count = memory["count"].clone() if memory else torch.zeros(0)

    def act(self, observation: Any, noise: torch.Tensor, greedy: bool = False, lanes: Sequence[int] = ()) -> Any:
        action, _ = super().act(observation, noise, greedy)
        self.count[list(lanes)] += 1
        return action, self.count[list(lanes)].clone()


def counts(batch: Any) -> list[list[float]]:
    ends = batch.offsets.tolist()
    return [batch["behaviour_logp"][a:b].tolist() for a, b in itertools.pairwise(ends)]


def made() -> tuple[Counting, Uneven]:
    world = Uneven()
    return Counting(world.observation, world.action, hidden=(4,)), world


def test_whole_episodes_count_from_their_own_start():
    policy, world = made()
    tasks = [world.task(i, "train") for i in range(3)]
    batch = Episodes().play(policy, world, tasks, 1, Streams(0), "rollout", 0)
    assert counts(batch) == [[1], [1, 2], [1, 2, 3]]


def test_lanes_that_begin_at_other_times_do_not_meet():
    policy, world = made()
    window = Window(lanes=3, steps=4)
    numbers = iter(range(99))
    batch = window(policy, world, lambda: world.task(next(numbers), "train"), Streams(0), 0, 1, 1)
    assert counts(batch) == [[1], [1, 2, 3], [1, 2], [1, 2], [1, 2, 3], [1]]


def test_judging_sets_the_memory_aside():
    policy, world = made()
    policy.reset([0, 1])
    policy.count += 5
    Episodes(max_steps=2).play(policy, Uneven(), [world.task(0, "train")] * 4, 1, Streams(0), "evaluate", 0)
    assert policy.count.tolist() == [5, 5]


@pytest.mark.parametrize("parted", [1, 2])
def test_a_run_goes_on_where_it_remembered(parted, tmp_path):
    small = {"rollout.lanes": 3, "rollout.steps": 4, "steps": 3, "checkpoint_every": 1, "evaluation.tasks": 1,
             "limits.mismatch": float("inf")}  # fmt: skip
    here = Counting.__module__
    recipe = api.recipe("ppo", Piece(f"{here}:Uneven"), Piece(f"{here}:Counting"), settings=small)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    api.train(recipe, out=whole)
    loop.train(recipe, broken, until=parted)
    assert "memory" in final_state(broken)["parts"]
    api.resume(broken)
    assert differing(final_state(whole), final_state(broken)) == []
    trained = [[r for r in metrics(folder) if r["kind"] == "train"] for folder in (whole, broken)]
    assert trained[0] == trained[1]
    assert final_state(whole)["parts"]["memory"]["count"].tolist() != [0, 0, 0]


def test_a_policy_without_memory_saves_none():
    parts = assemble(api.recipe("ppo", "gym:CartPole-v1"))
    assert "memory" not in parts.state_dict()
    parts.world.close()
