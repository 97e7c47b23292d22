"""Bandits: inverse-gap weighting against Vowpal Wabbit's on the same stream, and many seeds in one array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Measured
from benchmarks.timing import clock, since
from pilotage.data.rng import Streams
from pilotage.samplers.uniform import Uniform
from pilotage.worlds.bandits import SimulatedBandit

GAMMA_SCALE, GAMMA_EXPONENT = 10.0, 0.5


def _linear_arithmetic(context: int, actions: int) -> int:
    """A score for each action, and one row of a Gram matrix and its moments."""
    size = context + 1
    return actions * size + size * size + size


def inverse_gap_ours(*, context: int, actions: int, batch: int, rounds: int) -> Callable[[], Measured]:
    """A run through the library's own loop, world, log and record included."""
    from benchmarks.ours import recipe, timed_run

    made = recipe(
        "adyen-bandits",
        "bandit:linear",
        {
            "world.context": context,
            "world.actions": actions,
            "policy.scorer": "linear",
            "policy.gamma_scale": GAMMA_SCALE,
            "policy.gamma_exponent": GAMMA_EXPONENT,
            "prompts_per_step": batch,
            "learner.accumulate": True,
            "learner.diagnose": 0,
        },
    )
    amount = batch * rounds

    def repeat() -> Measured:
        seconds, processor, metrics = timed_run(made, rounds)
        reward = float(np.mean([m["train/reward"] for m in metrics]))
        return Measured(amount, seconds, processor, amount * _linear_arithmetic(context, actions), {"reward": reward})

    return repeat


def inverse_gap_peer(*, context: int, actions: int, batch: int, rounds: int) -> Callable[[], Measured]:
    """Vowpal Wabbit's --squarecb on the same contexts and luck, a weight for each pair of feature and action as ours,
    told the rewards of a batch after it. Writing the contexts as its text is not timed, nor is the world."""
    from vowpalwabbit import Workspace

    world = SimulatedBandit(context=context, actions=actions)
    stream = list(_stream(world, batch, rounds))
    lines = [_shared(row) for _, observation in stream for row in observation[:, :context]]
    arms = [f"|a {'abcdefghijklmnopqrstuvwxyz'[k]}" for k in range(actions)]
    amount = batch * rounds

    def repeat() -> Measured:
        vw = Workspace(
            f"--cb_explore_adf --squarecb --gamma_scale {GAMMA_SCALE} --gamma_exponent {GAMMA_EXPONENT} "
            "--cb_type mtr -q ca --ignore_linear c --quiet --random_seed 1"
        )
        draws, seconds, processor, rewards = np.random.default_rng(0), 0.0, 0.0, []
        for number, (tasks, _) in enumerate(stream):
            asked = lines[number * batch : (number + 1) * batch]
            began = clock()
            chances = [vw.predict([shared, *arms]) for shared in asked]
            uniform = draws.random(batch)
            chosen = [
                min(int(np.searchsorted(np.cumsum(p), u)), actions - 1) for p, u in zip(chances, uniform, strict=True)
            ]
            spent = since(began)
            world.reset(tasks, range(batch))
            reward = world.step(np.array(chosen), range(batch)).reward
            rewards.append(float(reward.mean()))
            began = clock()
            for shared, action, got, chance in zip(asked, chosen, reward.tolist(), chances, strict=True):
                told = arms.copy()
                told[action] = f"{action}:{-got:.5f}:{chance[action]:.5f} {arms[action]}"
                vw.learn([shared, *told])
            also = since(began)
            seconds, processor = seconds + spent[0] + also[0], processor + spent[1] + also[1]
        vw.finish()
        needed = amount * _linear_arithmetic(context, actions)
        return Measured(amount, seconds, processor, needed, {"reward": float(np.mean(rewards))})

    return repeat


def _stream(world: SimulatedBandit, batch: int, rounds: int) -> Iterator[tuple[Any, Any]]:
    """Tasks and observations of each batch, those that the other side's sampler gives for seed 0."""
    sampler = Uniform()
    sampler.open(world, Streams(0))
    for _ in range(rounds):
        tasks = [sampler.next() for _ in range(batch)]
        yield tasks, world.reset(tasks, range(batch))


def _shared(row: Any) -> str:
    return "shared |c " + " ".join(f"{i}:{value:.5f}" for i, value in enumerate(row.tolist())) + " one:1"


def seeds_ours(*, method: str, seeds: int, batch: int, rounds: int) -> Callable[[], Measured]:
    """Copies of a linear bandit side by side in one run."""
    return _seeds(method, 1, seeds, batch, rounds)


def seeds_peer(*, method: str, seeds: int, batch: int, rounds: int) -> Callable[[], Measured]:
    """A run for each seed, one after the other."""
    return _seeds(method, seeds, 1, batch, rounds)


def _seeds(method: str, runs: int, copies: int, batch: int, rounds: int) -> Callable[[], Measured]:
    from dataclasses import replace

    from benchmarks.ours import recipe, timed_run

    quiet = {"policy.scorer": "linear", "policy.copies": copies, "learner.accumulate": True, "learner.diagnose": 0}
    made = recipe(method, "bandit:linear", {**quiet, "prompts_per_step": copies * batch})
    made = replace(made, evaluation=replace(made.evaluation, tasks=copies))

    def repeat() -> Measured:
        timed = [timed_run(replace(made, seed=seed), rounds) for seed in range(runs)]
        rewards = [m["train/reward"] for *_, metrics in timed for m in metrics]
        seconds, processor = sum(t[0] for t in timed), sum(t[1] for t in timed)
        return Measured(runs * copies * batch * rounds, seconds, processor, facts={"reward": float(np.mean(rewards))})

    return repeat
