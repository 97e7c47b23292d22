"""On-policy MDPO against PPO, and against itself with a single inner step (Tomar et al. 2020, arXiv 2005.09814).

Both sides normalise observations and rewards, as the released code of both does. Tried on seed 100 only: windows of 512
and 2048, steps of 3e-4, 1e-3 and (MDPO) 3e-3; 512 and 1e-3 are best for both sides over the two tasks. PPO takes 80
optimiser steps a window (10 passes of minibatches of 64), MDPO's actor 10 on the whole window, as its paper has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.data.piece import Piece
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.wording import signed

TASKS = {"hopper": "gym:Hopper-v5", "pendulum": "gym:InvertedDoublePendulum-v5"}
MARGIN = 0.1  # of PPO's return: what still counts as on par
WINDOW = {"rollout.lanes": 8, "rollout.steps": 64}


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        **WINDOW,
        "policy.normalise": True,
        "steps": 20 if quick else 196,  # windows of 512: 100 352 steps of the environment
        "evaluation.every": 0 if quick else 49,
        "evaluation.tasks": 5 if quick else 20,
    }
    own = {
        "ppo": {"learning_rate": 1e-3, "terms.policy.epochs": 10, "terms.policy.minibatches": 8},
        "mdpo": {"terms.policy.optimiser.learning_rate": 1e-3},
        "mdpo-1-step": {"terms.policy.optimiser.learning_rate": 1e-3, "terms.policy.epochs": 1},
    }
    found = {}
    for task, world in TASKS.items():
        for label, settings in own.items():
            made = api.recipe(label.partition("-")[0], world, settings={**shared, **settings})
            scaled = {"rewards": Piece("experiments.reward_scale:RewardScale"), **made.credit}
            found[f"{label}-on-{task}"] = replace(made, credit=scaled)
    return found


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    said, good, bad = [], [], []
    for task in TASKS:
        ours, ppo = (verdict.side(arm, runs[f"{arm}-on-{task}"]).final.estimate for arm in ("mdpo", "ppo"))
        against = comparisons[f"mdpo-on-{task}", f"ppo-on-{task}"]
        inner = comparisons[f"mdpo-on-{task}", f"mdpo-1-step-on-{task}"]
        good += [against.difference.low > -MARGIN * ppo, inner.kind == "better"]
        bad += [against.difference.high < -MARGIN * ppo, inner.difference.high <= 0]
        named = (("PPO", against.difference), ("one inner step", inner.difference))
        gaps = [f"minus {name} {signed(gap, 0)}" for name, gap in named]
        said.append(f"{task}: MDPO {ours:.0f}, PPO {ppo:.0f}; {', '.join(gaps)}")
    return Judged.by(all(good), any(bad), ". ".join(said))


EXPERIMENT = Experiment(
    name="mdpo",
    claim="On-policy MDPO is on par with or better than PPO on MuJoCo tasks, and needs several inner steps a batch.",
    criterion=(
        "5 paired seeds on Hopper-v5 and on InvertedDoublePendulum-v5, 100 352 steps each, equal samples; held-out "
        "return of the last policies with sampled actions over 20 episodes. Reproduced if on both tasks the interval "
        "of MDPO minus PPO lies above -10 % of PPO's mean and MDPO is better than MDPO with one inner step (the "
        "interval of that difference lies above 0). Not reproduced if on either task the interval of MDPO minus PPO "
        "lies below -10 % of PPO's mean, or that of MDPO minus one inner step does not reach above 0. Otherwise "
        "inconclusive."
    ),
    arms=arms,
    pairs=tuple((f"mdpo-on-{task}", f"{other}-on-{task}") for task in TASKS for other in ("ppo", "mdpo-1-step")),
    judge=judge,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
