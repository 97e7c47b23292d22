"""Off-policy MDPO against SAC with the same fixed entropy weight (Tomar et al. 2020, arXiv 2005.09814).

Both sides have λ = 0.2, networks of 2 x 64 and the same replay; MDPO has c = 0.5 and a previous policy refreshed every
1,000 updates, as its card has it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.wording import signed

TASKS = {"pendulum": "gym:Pendulum-v1", "double-pendulum": "gym:InvertedDoublePendulum-v5"}
MARGIN = 0.1  # of what SAC gains over its untrained policy: what still counts as on par
ENTROPY_WEIGHT, RATE, WINDOW = 0.2, 1e-3, 8


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": 50 if quick else 750,  # windows of 8: 6 000 steps of the environment
        "rollout.steps": WINDOW,
        "rollout.random_decisions": 200,
        "store.start_after": 200,
        "policy.hidden": (64, 64),
        "policy.temperature": ENTROPY_WEIGHT,
        "terms.critic.optimiser.learning_rate": RATE,
        "terms.actor.optimiser.learning_rate": RATE,
        "evaluation.every": 0 if quick else 125,
        "evaluation.tasks": 2 if quick else 20,
        "evaluation.greedy": True,
    }
    found = {}
    for task, world in TASKS.items():
        sac = api.recipe("sac", world, settings=settings)
        found[f"sac-on-{task}"] = sac.vary("fixed", {"terms.actor.objectives.temperature": None})
        found[f"mdpo-off-on-{task}"] = api.recipe("mdpo-off", world, settings=settings)
    return found


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    said, good, bad = [], [], []
    for task in TASKS:
        ours, sac = (verdict.side(arm, runs[f"{arm}-on-{task}"]) for arm in ("mdpo-off", "sac"))
        gap, allowed = comparisons[f"mdpo-off-on-{task}", f"sac-on-{task}"].difference, MARGIN * sac.rise.estimate
        good.append(gap.low > -allowed)
        bad.append(gap.high < -allowed)
        said.append(
            f"{task}: MDPO {ours.final.estimate:.0f}, SAC {sac.final.estimate:.0f}, difference "
            f"{signed(gap, 0)} against {-allowed:.0f} allowed"
        )
    return Judged.by(all(good), any(bad), ". ".join(said))


EXPERIMENT = Experiment(
    name="mdpo-off",
    claim="Off-policy MDPO is on par with or better than SAC on continuous control.",
    criterion=(
        "3 paired seeds on Pendulum-v1 and on InvertedDoublePendulum-v5, 6 000 steps and updates each; held-out return "
        "of the last policies, their mean as action, over 20 episodes. Reproduced if on both tasks the interval of "
        "MDPO minus SAC lies above -10 % of what SAC gained over its untrained policy. Not reproduced if on either "
        "task that interval lies below it. Otherwise inconclusive."
    ),
    arms=arms,
    pairs=tuple((f"mdpo-off-on-{task}", f"sac-on-{task}") for task in TASKS),
    judge=judge,
    seeds=(0, 1, 2),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
