"""What a policy that plans takes to act, measured after its run: beside success, and for the verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from gymnasium.spaces import Box

from experiments.common import Runs
from pilotage import api
from pilotage.policies.base import ActingPolicy
from pilotage.run import checkpoint

STEPS = 40  # a multiple of the actions that are executed of a plan


def milliseconds(policy: ActingPolicy, observation: Box, steps: int = STEPS) -> float:
    """Processor time of a control step on one lane, with one thread: the mean over `steps` that are not the first of
    an episode, whose plan takes all levels."""
    policy.reset([0])
    seen = np.zeros((1, *observation.shape), np.float32)
    seeds = policy.noise(np.random.default_rng(0), 1, 2 * steps)
    for count, seed in enumerate(seeds):
        if count == steps:
            began = time.process_time()
        policy.act(seen, seed, lanes=[0])  # type: ignore[call-arg]  # a policy that remembers
    return 1000 * (time.process_time() - began) / steps


def paces(runs: Runs) -> Mapping[str, float]:
    """Milliseconds a control step of each arm's first run whose checkpoint is there."""
    torch.set_num_threads(1)
    found = {}
    for label, side in runs.items():
        folders = [run.folder for run in side if checkpoint.latest(run.folder) is not None]
        if folders:
            parts = api.Run(folders[0]).load()
            found[label] = milliseconds(parts.judged, parts.world.observation)
            parts.world.close()
    return found
