"""PPO end to end against Stable-Baselines3, and the cost of stepping a world over stepping its environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from benchmarks import arithmetic
from benchmarks.measure import Measured
from benchmarks.timing import clock, since

HIDDEN = (64, 64)
LEARNING_RATE, DISCOUNT, TRACE, CLIP, VALUE_WEIGHT, MOST_NORM = 3e-4, 0.99, 0.95, 0.2, 0.5, 0.5


def _ppo_arithmetic(env_id: str, epochs: int) -> int:
    env = gymnasium.make(env_id)
    space: Any = env.action_space
    outputs = int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else int(np.prod(space.shape))
    inputs = int(np.prod(env.observation_space.shape or (1,)))
    env.close()
    return arithmetic.actor_critic(inputs, outputs, HIDDEN, epochs)


def ppo_ours(
    *, env_id: str, lanes: int, steps: int, minibatch: int, epochs: int, rounds: int
) -> Callable[[], Measured]:
    """A run through the library's own loop, with its log; the clock stops before its last round, which ends with an
    evaluation and a checkpoint that the peer does not have."""
    from benchmarks.ours import recipe, timed_run

    made = recipe(
        "ppo",
        f"gym:{env_id}",
        {
            "policy.hidden": HIDDEN,
            "rollout.lanes": lanes,
            "rollout.steps": steps,
            "credit.gae.discount": DISCOUNT,
            "credit.gae.trace": TRACE,
            "terms.policy.optimiser.learning_rate": LEARNING_RATE,
            "terms.policy.optimiser.eps": 1e-5,
            "terms.policy.epochs": epochs,
            "terms.policy.minibatch_decisions": minibatch,
            "terms.policy.max_grad_norm": MOST_NORM,
            "terms.policy.objectives.policy.loss.low": CLIP,
            "terms.policy.objectives.policy.loss.high": CLIP,
            "terms.policy.objectives.value.weight": VALUE_WEIGHT,
        },
    )
    amount = lanes * steps * rounds
    needed = amount * _ppo_arithmetic(env_id, epochs)

    def repeat() -> Measured:
        seconds, processor, metrics = timed_run(made, rounds)
        rewards = [m["train/reward"] for m in metrics if "train/reward" in m]
        return Measured(amount, seconds, processor, needed, {"reward": rewards[-1] if rewards else 0.0})

    return repeat


def ppo_peer(
    *, env_id: str, lanes: int, steps: int, minibatch: int, epochs: int, rounds: int
) -> Callable[[], Measured]:
    """Stable-Baselines3's `learn`, on its own vector of environments in this process."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    amount = lanes * steps * rounds
    needed = amount * _ppo_arithmetic(env_id, epochs)

    def repeat() -> Measured:
        model = PPO(
            "MlpPolicy",
            make_vec_env(env_id, n_envs=lanes, seed=0),
            n_steps=steps,
            batch_size=minibatch,
            n_epochs=epochs,
            learning_rate=LEARNING_RATE,
            gamma=DISCOUNT,
            gae_lambda=TRACE,
            clip_range=CLIP,
            vf_coef=VALUE_WEIGHT,
            ent_coef=0.0,
            max_grad_norm=MOST_NORM,
            policy_kwargs={"net_arch": list(HIDDEN)},
            device="cpu",
            seed=0,
        )
        began = clock()
        model.learn(total_timesteps=amount)
        seconds, processor = since(began)
        rewards = [episode["r"] for episode in model.ep_info_buffer or []]
        model.env.close()
        return Measured(amount, seconds, processor, needed, {"reward": float(np.mean(rewards)) if rewards else 0.0})

    return repeat


def stepping_ours(*, env_id: str, lanes: int, steps: int) -> Callable[[], Measured]:
    """A world stepped with random actions on all lanes, ended episodes begun anew."""
    from pilotage.worlds.gym import GymWorld

    world = GymWorld(env_id=env_id)
    actions = _random_actions(world.action, lanes, steps)
    every = list(range(lanes))

    def repeat() -> Measured:
        began, task = clock(), lanes
        world.reset([world.task(i, "train") for i in every], every)
        for action in actions:
            outcome = world.step(action, every)
            ended = np.flatnonzero(outcome.terminated | outcome.truncated).tolist()
            if ended:
                world.reset([world.task(task + i, "train") for i in range(len(ended))], ended)
                task += len(ended)
        return Measured(lanes * steps, *since(began))

    return repeat


def stepping_peer(*, env_id: str, lanes: int, steps: int) -> Callable[[], Measured]:
    """The same environments stepped by hand, with nothing collected."""
    envs = [gymnasium.make(env_id) for _ in range(lanes)]
    actions = _random_actions(envs[0].action_space, lanes, steps)

    def repeat() -> Measured:
        began = clock()
        for i, env in enumerate(envs):
            env.reset(seed=i)
        for action in actions:
            for env, one in zip(envs, action, strict=True):
                _, _, terminated, truncated, _ = env.step(one)
                if terminated or truncated:
                    env.reset()
        return Measured(lanes * steps, *since(began))

    return repeat


def _random_actions(space: Any, lanes: int, steps: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=(steps, lanes))
    return rng.uniform(space.low, space.high, size=(steps, lanes, *space.shape)).astype(np.float32)
