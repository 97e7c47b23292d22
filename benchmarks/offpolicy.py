"""SAC and TD3 against Stable-Baselines3: gradient steps on transitions that are there, and whole runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from benchmarks import arithmetic
from benchmarks.measure import Measured
from benchmarks.timing import clock, since

HIDDEN, BATCH, HELD = (256, 256), 256, 10_000  # networks on both sides, decisions of a batch, transitions in the store
WINDOW = 8


def _spaces(env_id: str) -> tuple[int, int]:
    env = gymnasium.make(env_id)
    sizes = int(np.prod(env.observation_space.shape or (1,))), int(np.prod(env.action_space.shape or (1,)))
    env.close()
    return sizes


def _needed(env_id: str, method: str, updates: int) -> int:
    return updates * BATCH * arithmetic.action_critics(*_spaces(env_id), HIDDEN, soft=method == "sac")


def _transitions(env_id: str) -> dict[str, Any]:
    """Numbers of the environment's shapes; what they say is no matter."""
    inputs, width = _spaces(env_id)
    rng = np.random.default_rng(0)
    return {
        "observation": rng.standard_normal((HELD + 1, inputs), dtype=np.float32),
        "action": rng.uniform(-1, 1, (HELD, width)).astype(np.float32),
        "reward": rng.standard_normal(HELD, dtype=np.float32),
    }


def _settings() -> dict[str, Any]:
    return {"policy.hidden": HIDDEN, "store.decisions_per_batch": BATCH}


def update_ours(*, method: str, env_id: str, updates: int) -> Callable[[], Measured]:
    """What the loop does for each batch of the replay: draw it, work out its targets, update every term."""
    import torch

    from benchmarks.ours import recipe
    from pilotage.data.batch import Batch
    from pilotage.engines.local import tiny_numbers_flushed
    from pilotage.run.assemble import assemble

    parts = assemble(recipe(method, f"gym:{env_id}", _settings()))
    made = {name: torch.from_numpy(values) for name, values in _transitions(env_id).items()}
    final, made["observation"] = made["observation"][-1:], made["observation"][:-1]
    ended = {"terminated": torch.tensor([False]), "final_observation": final}
    parts.store.add(Batch(torch.tensor([0, HELD]), made, ended))
    needed, step = _needed(env_id, method, updates), 0

    def repeat() -> Measured:
        nonlocal step
        step += 1
        parts.store.owed = float(updates)
        with tiny_numbers_flushed():
            began = clock()
            for index, drawn in enumerate(parts.store.batches(parts.streams, step)):
                parts.learner.update(parts.draw(drawn, 0.0, step, index), step, 0.0)
            return Measured(updates, *since(began), needed)

    return repeat


def _peer(method: str, env_id: str, **settings: Any) -> Any:
    """Its defaults, which are ours: two critics, learning rates of 3e-4 (TD3: 1e-3), 0.005 for the slow copies."""
    import stable_baselines3

    made = getattr(stable_baselines3, method.upper())
    return made(
        "MlpPolicy",
        gymnasium.make(env_id),
        batch_size=BATCH,
        buffer_size=100_000,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
        seed=0,
        **settings,
    )


def update_peer(*, method: str, env_id: str, updates: int) -> Callable[[], Measured]:
    """Stable-Baselines3's `train`, from its own buffer."""
    from stable_baselines3.common.logger import configure

    model, made = _peer(method, env_id), _transitions(env_id)
    for i in range(HELD):
        seen, then, action = (
            made[k][j : j + 1] for k, j in (("observation", i), ("observation", i + 1), ("action", i))
        )
        model.replay_buffer.add(seen, then, action, made["reward"][i : i + 1], np.array([False]), [{}])
    model.set_logger(configure(None, []))
    needed = _needed(env_id, method, updates)

    def repeat() -> Measured:
        began = clock()
        model.train(gradient_steps=updates, batch_size=BATCH)
        return Measured(updates, *since(began), needed)

    return repeat


def steps_ours(*, method: str, env_id: str, steps: int) -> Callable[[], Measured]:
    """A run through the library's own loop, with its log, one update a step of the environment from the first on."""
    from benchmarks.ours import recipe, timed_run

    every = {"rollout.lanes": 1, "rollout.steps": WINDOW, "rollout.random_decisions": 0, "store.start_after": WINDOW}
    made = recipe(method, f"gym:{env_id}", {**_settings(), **every})
    needed = _needed(env_id, method, steps)

    def repeat() -> Measured:
        seconds, processor, _ = timed_run(made, steps // WINDOW)
        return Measured(steps, seconds, processor, needed)

    return repeat


def steps_peer(*, method: str, env_id: str, steps: int) -> Callable[[], Measured]:
    """Stable-Baselines3's `learn`, one update a step of the environment from the first on."""
    needed = _needed(env_id, method, steps)

    def repeat() -> Measured:
        model = _peer(method, env_id, learning_starts=0, train_freq=1, gradient_steps=1)
        began = clock()
        model.learn(total_timesteps=steps)
        found = Measured(steps, *since(began), needed)
        model.env.close()
        return found

    return repeat
