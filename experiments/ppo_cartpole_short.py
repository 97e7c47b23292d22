"""PPO on CartPole-v1 again, with windows of 32 steps and a shorter horizon, on seeds of its own.

The first experiment (ppo_cartpole) solves it early in every run, and one of five then falls back: settings that looked
sound on four seeds were not. These are close to those of rl-baselines3-zoo, were tried on seeds 100, 102 and 105 (the
latter two fell back with the former settings), and are reported on seeds that neither experiment has seen.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Experiment, main
from experiments.ppo_cartpole import judge
from pilotage import api
from pilotage.run.recipe import Recipe


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": 784,  # windows of 8 × 32: 200 704 steps of the environment
        "rollout.steps": 32,
        "learning_rate": 1e-3,
        "terms.policy.schedule.use": "pilotage.learn.schedules:linear",
        "terms.policy.epochs": 20,
        "terms.policy.minibatches": 1,
        "discount": 0.98,
        "trace": 0.8,
        "evaluation.every": 196,
        "evaluation.tasks": 20 if quick else 100,
        "evaluation.greedy": True,
    }
    if quick:
        settings |= {"steps": 200, "evaluation.every": 100}
    return {"ppo": api.recipe("ppo", "gym:CartPole-v1", settings=settings)}


EXPERIMENT = Experiment(
    name="ppo.cartpole-short",
    claim="PPO solves CartPole-v1: a mean return of at least 475 of 500.",
    criterion=(
        "The last policies of 5 seeds not used before (5 to 9), after 200 704 steps each, play 100 held-out episodes "
        "with their likeliest actions. Reproduced if the mean over seeds is at least 475 (the 95 % interval over seeds "
        "is stated); not reproduced if the interval lies below 475; otherwise inconclusive."
    ),
    arms=arms,
    pairs=(),
    judge=judge,
    seeds=(5, 6, 7, 8, 9),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
