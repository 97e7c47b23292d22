"""Whole episodes of actions, several for each task, side by side on lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch, Stop, from_episodes
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import ActingPolicy, Policy
from pilotage.rollouts.base import NextTask, Rollout, begin, memory_aside, moves, number, to_world
from pilotage.worlds.base import World

BLOCK = 64  # steps for which random numbers are drawn at a time


class Episodes(Rollout):
    """`samples` episodes of each of `prompts` tasks (a group has the same task), each at most `max_steps` long.

    An episode cut by `max_steps` is truncated (stop LENGTH). Lanes whose episode ended are left out of further steps.
    Where the world tells success, the per-episode column `success` says whether there was any.
    """

    def __init__(self, *, max_steps: int = 1000, greedy: bool = False) -> None:
        self.max_steps, self.greedy = max_steps, greedy

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        total, longest = prompts * samples, min(self.max_steps, most or self.max_steps)
        said = f"plays {prompts} tasks {samples} times: {number(total)} episodes of at most {number(longest)} decisions"
        return said, total * longest

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        tasks = [next_task() for _ in range(prompts)]
        return self.play(policy, world, tasks, samples, streams, "rollout", step)

    def play(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        """The groups of these tasks, `samples` episodes each."""
        if not isinstance(policy, ActingPolicy):
            raise TypeError("the episodes rollout needs a policy whose move is one action")
        with memory_aside(policy):
            return self._play(policy, world, tasks, samples, streams, stream, step)

    def _play(
        self,
        policy: ActingPolicy,
        world: World,
        tasks: list[Task],
        samples: int,
        streams: Streams,
        stream: str,
        step: int,
    ) -> Batch:
        rows = len(tasks) * samples
        spread = [task for task in tasks for _ in range(samples)]
        parts: list[list[tuple[Any, Tensor, Tensor, float]]] = [[] for _ in range(rows)]
        ends: list[tuple[Stop, Any, str]] = [(Stop.LENGTH, None, "")] * rows
        live = np.arange(rows)
        observation = np.array(world.reset(spread, live.tolist()))
        begin(policy, live.tolist())
        noise = torch.empty(0)
        success = None
        for t in range(self.max_steps):
            if t % BLOCK == 0:
                noise = policy.noise(streams.generator(stream, step, t // BLOCK), rows, BLOCK)
            lanes = live.tolist()
            action, logp = moves(policy, observation, noise[t % BLOCK][torch.from_numpy(live)], lanes, self.greedy)
            outcome = world.step(to_world(action), lanes)
            for i, row in enumerate(live.tolist()):
                parts[row].append((observation[i], action[i], logp[i], float(outcome.reward[i])))
            if outcome.success is not None:
                success = np.zeros(rows, bool) if success is None else success
                success[live] |= outcome.success
            following = np.array(outcome.observation)
            going = np.ones(len(live), bool)
            for i, row in enumerate(live.tolist()):
                stop = _stop(outcome, i)
                ends[row] = (Stop.LENGTH if stop is None else stop, following[i], outcome.invalid.get(i, ""))
                going[i] = stop is None
            live, observation = live[going], following[going]
            if not len(live):
                break
        record = _record(spread, samples, parts, ends)
        return record if success is None else record.with_episode(success=torch.from_numpy(success))


def _stop(outcome: Any, i: int) -> Stop | None:
    if i in outcome.invalid:
        return Stop.INVALID
    if outcome.terminated[i]:
        return Stop.TERMINATED
    return Stop.TIME_LIMIT if outcome.truncated[i] else None


def _record(
    tasks: list[Task],
    samples: int,
    parts: list[list[tuple[Any, Tensor, Tensor, float]]],
    ends: list[tuple[Stop, Any, str]],
) -> Batch:
    stop = torch.tensor([int(end[0]) for end in ends])
    terminated = stop == Stop.TERMINATED
    reward = [torch.tensor([p[3] for p in part], dtype=torch.float32) for part in parts]
    return from_episodes(
        {
            "observation": [torch.as_tensor(np.stack([p[0] for p in part])) for part in parts],
            "action": [torch.stack([p[1] for p in part]) for part in parts],
            "behaviour_logp": [torch.stack([p[2] for p in part]) for part in parts],
            "reward": reward,
        },
        {
            "group": torch.arange(len(tasks)) // samples,
            "task": torch.tensor([task.key for task in tasks]),
            "terminated": terminated,
            "truncated": ~terminated,
            "valid": stop != Stop.INVALID,
            "stop": stop,
            "final_observation": torch.as_tensor(np.stack([end[1] for end in ends])),
            "episode_return": torch.stack([r.sum() for r in reward]),
            "episode_length": torch.tensor([float(len(r)) for r in reward]),
        },
        {"category": [task.category for task in tasks], "reason": [end[2] for end in ends]},
    )
