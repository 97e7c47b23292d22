"""RTI-DP against a full diffusion policy on Meta-World, on its scripted experts (Duan et al. 2025, arXiv 2508.05396).

One network is trained for each task and seed, and acts in every way; only pick-place with its gripper scaled down has a
network of its own, for the data are others there. A perceptron of 3 x 256 on windows of 16 decisions, 100 levels, an
average of the weights (paper: a convolutional network). Reported beside the verdict: processor milliseconds a control
step takes on one lane, with one thread, on a machine shared with other work.

Tried on seed 100 only, with 10 held-out tasks: 2,500 batches on 50 demonstrations of reach, 4,000 on 74 of pick-place
(levels 5, 3, 1, 0 there rather than 2, 1, 0, and a factor of 10 rather than 1).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.acting import paces
from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import points
from experiments.logs import QUICK_DECISIONS, held, quick_name
from pilotage import api, datasets
from pilotage.run import verdict
from pilotage.run.recipe import Recipe

MARGIN = 0.10  # of the success rate: as much as few levels may be worse than all
EFFECT = 0.10  # what beginning with the last plan has to be worth at least, against beginning with noise
FASTER = 10.0  # times
GRIPPER = {"policy.discrete": (3,), "policy.factor": 10.0}


@dataclass(frozen=True)
class Task:
    """A task of Meta-World, its demonstrations, and how often its network is trained."""

    world: str
    data: str
    decisions: int
    steps: int
    settings: Mapping[str, Any]


SHARED = {"world.horizon": 100, "world.ends_at_success": True}
REACH = Task("metaworld:reach-v3", "reach/rti-v0", 4000, 30, SHARED)
PICK = Task("metaworld:pick-place-v3", "pick-place/rti-v0", 4000, 40, {**SHARED, "world.binary_gripper": True})

# label: task, method, how it acts, how it was trained otherwise than the rest
ARMS: Mapping[str, tuple[Task, str, Mapping[str, Any], Mapping[str, Any]]] = {
    "dp-reach": (REACH, "diffusion-policy", {"policy.execute": 1}, {}),
    "dp-chunk-8-reach": (REACH, "diffusion-policy", {}, {}),
    "ddim-3-reach": (REACH, "diffusion-policy", {"policy.execute": 1, "policy.sampler": "ddim", "policy.steps": 3}, {}),
    "noise-3-reach": (REACH, "rti-dp", {"policy.guess": "noise"}, {}),
    "rti-3-reach": (REACH, "rti-dp", {}, {}),
    "rti-4-reach": (REACH, "rti-dp", {"policy.warm": (5, 3, 1, 0)}, {}),
    "dp-pick": (PICK, "diffusion-policy", {"policy.execute": 1}, {}),
    "rti-4-pick": (PICK, "rti-dp", {"policy.warm": (5, 3, 1, 0)}, {}),
    "rti-4-clip-pick": (PICK, "rti-dp", {"policy.warm": (5, 3, 1, 0), **GRIPPER}, {}),
    "rti-4-scale-pick": (PICK, "rti-dp", {"policy.warm": (5, 3, 1, 0)}, {**GRIPPER, "policy.rule": "scale"}),
}


def prepare(quick: bool) -> None:
    """Logs the demonstrations, unless they are there."""
    for task in (REACH, PICK):
        decisions = QUICK_DECISIONS if quick else task.decisions
        datasets.ensure(_data(task, quick), task.world, "scripted:0.1", decisions, settings=dict(task.settings))


def arms(quick: bool) -> Mapping[str, Recipe]:
    found = {}
    for label, (task, method, acting, training) in ARMS.items():
        shared = {
            **task.settings,
            **training,
            "policy.levels": 100,
            "store.decisions_per_batch": 128,
            "steps": 1 if quick else task.steps,  # of 100 batches
            "evaluation.every": 0,
            "evaluation.tasks": 2 if quick else 30,
            "evaluation.max_steps": 10 if quick else 100,
        }
        data = held(_data(task, quick))
        planner = "realtime-planner" if training else None
        trained = api.recipe("diffusion-policy", task.world, planner, settings=shared).vary("data", data)
        start = replace(trained, evaluation=replace(trained.evaluation, tasks=1, max_steps=1))
        made = api.recipe(method, task.world, settings={**shared, **acting}).vary("data", data)
        found[label] = replace(made, start=start, steps=0)
    return found


def _data(task: Task, quick: bool) -> str:
    return quick_name(task.data) if quick else task.data


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    rates = {label: verdict.side(label, side).final.estimate for label, side in runs.items()}
    said = ["success " + ", ".join(f"{label} {rate:.0%}" for label, rate in rates.items())]
    said += [points(comparisons, pair) for pair in comparisons]
    faster = None
    if paced := paces(runs):
        faster = paced["dp-reach"] / paced["rti-3-reach"]
        said.append(
            "milliseconds a control step " + ", ".join(f"{label} {value:.2f}" for label, value in paced.items())
        )
    against_full = [comparisons[pair].difference for pair in PAIRS[:2]]
    against_noise = comparisons[PAIRS[2]].difference
    slow = faster is not None and faster < FASTER
    holds = all(gap.low > -MARGIN for gap in against_full) and against_noise.low > EFFECT and not slow
    excluded = any(gap.high < -MARGIN for gap in against_full) or against_noise.high < EFFECT or slow
    return Judged.by(holds, excluded, "; ".join(said))


PAIRS: Sequence[tuple[str, str]] = (
    ("rti-3-reach", "dp-reach"),
    ("rti-4-scale-pick", "dp-pick"),
    ("rti-3-reach", "noise-3-reach"),
    ("rti-4-clip-pick", "dp-pick"),
    ("rti-4-pick", "dp-pick"),
)

EXPERIMENT = Experiment(
    name="rti-dp.metaworld",
    claim="Plans that begin with the last one need about 3 of 100 denoising steps, at success comparable with the full "
    "policy; a gripper that is scaled down in the data keeps this so where grasps jump.",
    criterion=(
        "3 paired seeds, each with training of its own that all arms of a task share but for the scaled gripper; "
        "Meta-World's reach and pick-place, 100 decisions, an episode ends at success; share of 30 held-out tasks "
        "solved. The full policy takes all 100 levels for a plan and executes one action of it. Reproduced if the "
        "interval over seeds of RTI less the full policy lies above -10 points on reach (levels 2, 1, 0) and on "
        "pick-place with the gripper scaled (levels 5, 3, 1, 0), that of RTI less the same levels from noise on reach "
        "above +10 points, and a control step on reach takes a tenth of the full policy's processor time or less. Not "
        "reproduced if an interval against the full policy lies below -10 points, that against noise below +10, or a "
        "control step takes more than a tenth. Otherwise inconclusive. Chunks of 8, DDIM, other lists and grippers are "
        "stated and decide nothing."
    ),
    arms=arms,
    pairs=PAIRS,
    judge=judge,
    seeds=(0, 1, 2),
    quick_seeds=(100,),
    prepare=prepare,
    start_per_seed=True,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
