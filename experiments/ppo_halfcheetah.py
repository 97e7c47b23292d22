"""PPO against Stable-Baselines3's on HalfCheetah-v5, with that library's default hyper-parameters on both sides.

What still differs: advantages are standardised over the whole batch here, over each minibatch there.
Needs the benchmarks' environment (.venv-bench, made by `make bench`) for the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from experiments import peers
from experiments.common import Experiment, Runs, main
from pilotage import api
from pilotage.run.recipe import Recipe

ENV = "HalfCheetah-v5"
PEER = "stable-baselines3"
WINDOW = 2048
EPISODES = 20


def windows(quick: bool) -> int:
    return 4 if quick else 98  # 200 704 steps, what the other library makes of 200 000


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": windows(quick),
        "rollout.lanes": 1,
        "rollout.steps": WINDOW,
        "terms.policy.epochs": 10,
        "terms.policy.minibatches": WINDOW // 64,
        "terms.policy.optimiser.learning_rate": 3e-4,
        "terms.policy.optimiser.eps": 1e-5,
        "policy.hidden": (64, 64),
        "policy.activation": "tanh",
        "evaluation.every": 0,
        "evaluation.tasks": 2 if quick else EPISODES,
        "evaluation.greedy": True,
    }
    return {"ppo": api.recipe("ppo", f"gym:{ENV}", settings=settings)}


def others(seeds: Sequence[int], quick: bool) -> Runs:
    """The other side's runs."""
    recipe = arms(quick)["ppo"]
    asked = {"env_id": ENV, "decisions": windows(quick) * WINDOW, "held_out": peers.held_out(recipe)}
    home = f"{PEER}-{'quick' if quick else 'full'}"
    return peers.runs(PEER, "sb3_child.py", home, asked, seeds, windows(quick))


EXPERIMENT = Experiment(
    name="ppo.halfcheetah",
    claim="Our PPO reaches at least the return of Stable-Baselines3's PPO on HalfCheetah-v5 at 200 000 steps.",
    criterion=(
        "5 seeds a side, the same hyper-parameters and networks, 200 704 steps; the last policies play the same 20 "
        "held-out episodes with the distribution's mean as action. Reproduced if our mean over seeds is at least the "
        "lower end of the other's 95 % interval and the interval of the difference does not lie below 0; not "
        "reproduced if that interval lies below 0; otherwise inconclusive."
    ),
    arms=arms,
    pairs=(("ppo", PEER),),
    judge=partial(peers.judge, "ppo", PEER),
    others=others,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
