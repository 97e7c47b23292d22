"""Whole episodes of fixed length for every replica of a table at once: arrays, no lists of steps."""

from __future__ import annotations

import numpy as np
import torch

from pilotage.data.batch import Batch, Stop
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.policies.table import Table
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World


class Replicas(Rollout):
    """`prompts` × `samples` episodes of every replica; N replicas make as many times N tasks a step.

    probe: at a step of the episode drawn uniformly from H + 1 (the last: at none) the replica takes the action its
    table names as most instructive instead (Tiapkin et al. 2024, algorithm UCBVI-Ent+). Columns beside the usual:
    `replica`, `following` [D] the next state; log-probs are those of the table, of its own choices.
    """

    def __init__(self, *, probe: bool = False) -> None:
        self.probe = probe

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        total = prompts * samples
        return f"plays {total} episode{'s' if total > 1 else ''} of every replica", 0

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(policy, Table):
            raise UsageError("the replicas rollout needs the table policy")
        horizon, rows = policy.horizon, policy.replicas * prompts * samples
        tasks = [next_task() for _ in range(rows)]
        lanes = range(rows)
        noise = policy.noise(streams.generator("rollout", step), rows, horizon)
        odd = streams.generator("probe", step).integers(horizon + 1, size=rows) if self.probe else None
        replica = torch.arange(rows) % policy.replicas
        observed = np.zeros((horizon + 1, rows, 2), np.int64)
        actions, logps = torch.zeros((horizon, rows), dtype=torch.int64), torch.zeros((horizon, rows))
        rewards = np.zeros((horizon, rows), np.float32)
        observed[0] = world.reset(tasks, lanes)
        for h in range(horizon):
            action, logps[h] = policy.act(observed[h], noise[h])
            if odd is not None:
                state = torch.from_numpy(observed[h, :, 1])
                action = torch.where(torch.from_numpy(odd == h), policy.probe[replica, h, state], action)
            actions[h] = action
            outcome = world.step(action.numpy(), lanes)
            observed[h + 1], rewards[h] = outcome.observation, outcome.reward
        ended = torch.ones(rows, dtype=torch.bool)
        return Batch(
            torch.arange(rows + 1) * horizon,
            {
                "observation": _flat(observed[:-1]),
                "action": actions.T.reshape(-1),
                "behaviour_logp": logps.T.reshape(-1),
                "reward": _flat(rewards),
                "following": _flat(observed[1:, :, 1]),
                "replica": replica.repeat_interleave(horizon),
            },
            {
                "group": torch.arange(rows),
                "task": torch.tensor([task.key for task in tasks]),
                "terminated": ended,
                "truncated": ~ended,
                "valid": ended.clone(),
                "stop": torch.full((rows,), int(Stop.TERMINATED)),
                "final_observation": torch.from_numpy(observed[-1].copy()),
            },
        )


def _flat(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> torch.Tensor:
    """[H, E, …] by time → [E · H, …], episode by episode."""
    found = torch.from_numpy(array).transpose(0, 1)
    return found.reshape(found.shape[0] * found.shape[1], *found.shape[2:])
