"""SAC against Stable-Baselines3's on Pendulum-v1, with the same hyper-parameters, networks and batches on both sides.

What still differs: here eight decisions are played and then eight updates made, there one and one; the actor is updated
after the critics, there its loss is taken with the temperature of before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from experiments import peers
from experiments.common import Experiment, Runs, main
from pilotage import api
from pilotage.run.recipe import Recipe

ENV = "Pendulum-v1"
PEER = "stable-baselines3"
WINDOW, BLIND = 8, 104  # decisions: of a window, and drawn at random before the first update
HIDDEN, BATCH, RATE, DISCOUNT, FOLLOWED = (64, 64), 256, 1e-3, 0.99, 0.005
EPISODES = 20


def windows(quick: bool) -> int:
    return 50 if quick else 750  # 6 000 steps


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": windows(quick),
        "rollout.lanes": 1,
        "rollout.steps": WINDOW,
        "rollout.random_decisions": BLIND,
        "store.start_after": BLIND,
        "store.decisions_per_batch": BATCH,
        "policy.hidden": HIDDEN,
        "drawn.target.discount": DISCOUNT,
        "targets.critic.rate": FOLLOWED,
        "terms.critic.optimiser.learning_rate": RATE,
        "terms.actor.optimiser.learning_rate": RATE,
        "evaluation.every": 0,
        "evaluation.tasks": 2 if quick else EPISODES,
        "evaluation.greedy": True,
    }
    return {"sac": api.recipe("sac", f"gym:{ENV}", settings=settings)}


def others(seeds: Sequence[int], quick: bool) -> Runs:
    """The other side's runs; what is not named is its default, which is ours."""
    asked = {
        "method": "SAC",
        "env_id": ENV,
        "decisions": windows(quick) * WINDOW,
        "held_out": peers.held_out(arms(quick)["sac"]),
        "settings": {
            "learning_rate": RATE,
            "learning_starts": BLIND,
            "batch_size": BATCH,
            "gamma": DISCOUNT,
            "tau": FOLLOWED,
            "policy_kwargs": {"net_arch": list(HIDDEN)},
        },
    }
    return peers.runs(PEER, "sb3_child.py", f"{PEER}-sac-{'quick' if quick else 'full'}", asked, seeds, windows(quick))


EXPERIMENT = Experiment(
    name="sac.pendulum",
    claim="Our SAC reaches at least the return of Stable-Baselines3's SAC on Pendulum-v1 at 6 000 steps.",
    criterion=(
        "5 seeds a side, the same hyper-parameters, networks of 2 x 64, 6 000 steps; the last policies play the same "
        "20 held-out episodes with the distribution's mean as action. Reproduced if our mean over seeds is at least "
        "the lower end of the other's 95 % interval and the interval of the difference does not lie below 0; not "
        "reproduced if that interval lies below 0; otherwise inconclusive."
    ),
    arms=arms,
    pairs=(("sac", PEER),),
    judge=partial(peers.judge, "sac", PEER),
    others=others,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
