"""TD3+BC and IQL on a log, against d3rlpy's `fit` on the same decisions: gradient steps of the same networks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import arithmetic
from benchmarks.measure import Measured
from benchmarks.timing import clock, since

SEEN, ACTED, HIDDEN = 17, 6, (256, 256)  # HalfCheetah's shapes
EPISODES, LENGTH = 100, 1000
BATCH, PER_STEP = 256, 100


def _log() -> dict[str, np.ndarray[Any, Any]]:
    """Decisions without meaning, the same for both sides; episodes are cut, none terminates."""
    rng, count = np.random.default_rng(0), EPISODES * LENGTH
    return {
        "observation": rng.standard_normal((count, SEEN)).astype(np.float32),
        "action": rng.uniform(-1, 1, (count, ACTED)).astype(np.float32),
        "reward": rng.standard_normal(count).astype(np.float32),
    }


def _arithmetic(method: str) -> int:
    """Multiply-adds of one gradient step for one decision."""
    actor, critic, value = [SEEN, *HIDDEN, ACTED], [SEEN + ACTED, *HIDDEN, 1], [SEEN, *HIDDEN, 1]
    forward, training = arithmetic.network, arithmetic.network_training
    if method == "td3-bc":  # target; critics; every second time an actor through one critic
        through = 2 * forward(critic)
        return forward(actor) + 2 * forward(critic) + 2 * training(critic) + (training(actor) + through) // 2
    # slow critics; value; its new value twice; actor; critics
    return 2 * forward(critic) + training(value) + 2 * forward(value) + training(actor) + 2 * training(critic)


def gradient_steps_ours(*, method: str, batches: int) -> Callable[[], Measured]:
    """A run through the library's own loop, with its log, drawing included; its last step, which ends with an
    evaluation and a checkpoint, is not timed."""
    import torch
    from gymnasium.spaces import Box

    from benchmarks.ours import recipe, timed_run
    from pilotage.data import dataset
    from pilotage.data.batch import Batch

    aside = tempfile.TemporaryDirectory(prefix="pilotage-bench-data-")
    os.environ["PILOTAGE_DATA"] = aside.name
    spaces = {
        "observation": dataset.space_of(torch.empty(0), Box(-np.inf, np.inf, (SEEN,), np.float32)),
        "action": dataset.space_of(torch.empty(0), Box(-1, 1, (ACTED,), np.float32)),
    }
    episodes = torch.arange(EPISODES)
    record = Batch(
        torch.arange(EPISODES + 1) * LENGTH,
        {name: torch.from_numpy(column) for name, column in _log().items()},
        {
            "group": episodes,
            "task": episodes,
            "terminated": torch.zeros(EPISODES, dtype=torch.bool),
            "truncated": torch.ones(EPISODES, dtype=torch.bool),
            "valid": torch.ones(EPISODES, dtype=torch.bool),
            "final_observation": torch.zeros(EPISODES, SEEN),
        },
    )
    dataset.save(record, dataset.About("bench/log-v0", "gym:HalfCheetah-v5", spaces=spaces))
    made = recipe(
        method,
        "gym:HalfCheetah-v5",
        {
            "store.data": "bench/log-v0",
            "store.decisions_per_batch": BATCH,
            "store.batches_per_step": PER_STEP,
            "policy.hidden": HIDDEN,
            "policy.normalise": True,
        },
    )
    rounds, needed = batches // PER_STEP, batches * BATCH * _arithmetic(method)

    def repeat(keep: Any = aside) -> Measured:
        seconds, processor, metrics = timed_run(made, rounds)
        return Measured(rounds * PER_STEP, seconds, processor, needed, {"critic_loss": metrics[-1]["critic/loss"]})

    return repeat


def gradient_steps_peer(*, method: str, batches: int) -> Callable[[], Measured]:
    """d3rlpy's `fit` without files and progress bar. Putting the log into its buffer is not timed."""
    import d3rlpy

    log, ends = _log(), np.zeros(EPISODES * LENGTH, np.float32)
    cut = ends.copy()
    cut[LENGTH - 1 :: LENGTH] = 1
    buffer = d3rlpy.dataset.MDPDataset(log["observation"], log["action"], log["reward"], ends, cut)
    shared: dict[str, Any] = {
        "batch_size": BATCH,
        "actor_encoder_factory": d3rlpy.models.VectorEncoderFactory(list(HIDDEN)),
        "critic_encoder_factory": d3rlpy.models.VectorEncoderFactory(list(HIDDEN)),
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(),
    }
    if method == "td3-bc":
        config = d3rlpy.algos.TD3PlusBCConfig(**shared)
    else:
        config = d3rlpy.algos.IQLConfig(
            **shared,
            value_encoder_factory=d3rlpy.models.VectorEncoderFactory(list(HIDDEN)),
            reward_scaler=d3rlpy.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0),
        )
    needed = batches * BATCH * _arithmetic(method)

    def repeat() -> Measured:
        d3rlpy.seed(0)
        algorithm = config.create(device="cpu:0")
        algorithm.build_with_dataset(buffer)
        began = clock()
        found = algorithm.fit(
            buffer,
            n_steps=batches,
            n_steps_per_epoch=batches,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            show_progress=False,
        )
        seconds, processor = since(began)
        return Measured(batches, seconds, processor, needed, {"critic_loss": found[-1][1]["critic_loss"]})

    return repeat
