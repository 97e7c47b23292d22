"""Bandit rounds: one decision a task, all of a step at once."""

from __future__ import annotations

import numpy as np
import torch

from pilotage.data.batch import Batch, Stop
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split
from pilotage.policies.base import ActingPolicy, Policy
from pilotage.rollouts.base import NextTask, Rollout, number, to_world
from pilotage.worlds.bandits import BanditWorld
from pilotage.worlds.base import World

SPLITS: tuple[Split, ...] = ("train", "held_out")


class Rounds(Rollout):
    """`prompts` tasks with `samples` decisions each, every one an episode of length 1; `behaviour_logp` is the
    log-propensity.

    Where the world is a log (it has `recorded`), nothing is played: action, reward and propensity are those on record.
    Columns besides the usual: `regret`, where the world knows it, and `copy`, which of the policy's copies it was.
    """

    def check(self, policy: Policy, world: World) -> None:
        if isinstance(world, BanditWorld):  # the first rounds of each split: an empty action set shows before the run
            for split in SPLITS:
                world.reset([world.task(0, split)], [0])

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        total = prompts * samples
        return f"meets {prompts} rounds {samples} times: {number(total)} decisions", total

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(policy, ActingPolicy):
            raise TypeError("the rounds rollout needs a policy whose move is one action")
        tasks = [task for task in (next_task() for _ in range(prompts)) for _ in range(samples)]
        count, lanes = len(tasks), range(len(tasks))
        observation = np.asarray(world.reset(tasks, lanes))
        invalid = torch.zeros(count, dtype=torch.bool)
        reasons = [""] * count
        columns = {"observation": torch.from_numpy(observation)}
        if hasattr(world, "recorded"):
            action, reward, propensity = world.recorded(lanes)
            columns["action"] = torch.from_numpy(action)
            columns["behaviour_logp"] = torch.from_numpy(propensity).log()
        else:
            noise = policy.noise(streams.generator("rollout", step), count, 1)[0]
            columns["action"], columns["behaviour_logp"] = policy.act(observation, noise)
            if hasattr(world, "regret"):
                columns["regret"] = torch.from_numpy(world.regret(to_world(columns["action"]), lanes))
            outcome = world.step(to_world(columns["action"]), lanes)
            reward = outcome.reward
            for row, reason in outcome.invalid.items():
                invalid[row], reasons[row] = True, reason
        columns["reward"] = torch.from_numpy(np.asarray(reward, np.float32))
        columns["copy"] = torch.arange(count) // -(-count // getattr(policy, "copies", 1))
        return Batch(
            torch.arange(count + 1),
            columns,
            {
                "group": torch.arange(count) // samples,
                "task": torch.tensor([task.key for task in tasks]),
                "terminated": torch.ones(count, dtype=torch.bool),
                "truncated": torch.zeros(count, dtype=torch.bool),
                "valid": ~invalid,
                "stop": torch.where(invalid, int(Stop.INVALID), int(Stop.TERMINATED)),
                "final_observation": columns["observation"],
            },
            {"reason": reasons},
        )
