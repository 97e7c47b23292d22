"""PPO solves CartPole-v1: the oldest check there is."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.run import verdict
from pilotage.run.recipe import Recipe

SOLVED = 475.0  # gymnasium's own threshold for CartPole-v1, of 500


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": 196,  # windows of 8 × 128: 200 704 steps of the environment
        "learning_rate": 1e-3,  # tried on seeds from 100 up, beside 3e-4 and a linear decay
        "evaluation.every": 49,
        "evaluation.tasks": 20 if quick else 100,
        "evaluation.greedy": True,
    }
    if quick:
        settings |= {"steps": 60, "evaluation.every": 30}
    return {"ppo": api.recipe("ppo", "gym:CartPole-v1", settings=settings)}


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    final = verdict.side("ppo", runs["ppo"]).final
    said = f"mean return {final.estimate:.1f}, 95 % interval {final.low:.1f} to {final.high:.1f}"
    return Judged.by(final.estimate >= SOLVED, final.high < SOLVED, said)


EXPERIMENT = Experiment(
    name="ppo.cartpole",
    claim="PPO solves CartPole-v1: a mean return of at least 475 of 500.",
    criterion=(
        "The last policies of 5 seeds, after 200 704 steps each, play 100 held-out episodes with their likeliest "
        "actions. Reproduced if the mean over seeds is at least 475 (the 95 % interval over seeds is stated); not "
        "reproduced if the interval lies below 475; otherwise inconclusive."
    ),
    arms=arms,
    pairs=(),
    judge=judge,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
