"""PPO against Stable-Baselines3's on HalfCheetah-v5, with that library's default hyper-parameters on both sides.

What still differs: advantages are standardised over the whole batch here, over each minibatch there.
Needs the benchmarks' environment (.venv-bench, made by `make bench`) for the other side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import RUNS, Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult

ENV = "HalfCheetah-v5"
PEER = "stable-baselines3"
PYTHON = Path(os.environ.get("PILOTAGE_BENCH_PYTHON", ".venv-bench/bin/python"))
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


def peers(seeds: Sequence[int], quick: bool) -> Runs:
    """The other side's runs, each made once and kept; judged on the same episodes as ours."""
    recipe = arms(quick)["ppo"]
    world = recipe.world.build()
    tasks = [world.task(key, "held_out").payload["seed"] for key in range(recipe.evaluation.tasks)]
    world.close()
    home = RUNS / f"{PEER}-{'quick' if quick else 'full'}"
    home.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in seeds:
        out, settings = home / f"seed-{seed}.json", home / f"seed-{seed}.settings"
        asked = {"env_id": ENV, "seed": seed, "decisions": windows(quick) * WINDOW, "held_out": tasks}
        if not out.is_file():
            settings.write_text(json.dumps(asked), encoding="utf-8")
            child = Path(__file__).with_name("sb3_child.py")
            subprocess.run([str(PYTHON), str(child), str(settings), str(out)], check=True)
        found.append(_as_run(json.loads(out.read_text(encoding="utf-8")), out))
    return {PEER: found}


def _as_run(found: Mapping[str, Any], out: Path) -> RunResult:
    last = windows(quick=False)
    evaluations = [
        {"kind": "eval", "step": step, "eval/return": sum(items) / len(items), "eval/items": items}
        for step, items in ((0, found["start"]), (last, found["final"]))
    ]
    trained = {
        "kind": "train",
        "step": last,
        "count/decisions": found["decisions"],
        "count/verdicts": None,
        "seconds": found["seconds"],
    }
    version = found["versions"]["stable-baselines3"]
    return RunResult(out, f"{PEER} {version}", found["seed"], "eval/return", [*evaluations, trained], {}, {})


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    ours, theirs = (verdict.side(label, runs[label]).final for label in ("ppo", PEER))
    gap = comparisons["ppo", PEER].difference
    said = (
        f"ours {ours.estimate:.0f} ({ours.low:.0f} to {ours.high:.0f}), theirs {theirs.estimate:.0f} "
        f"({theirs.low:.0f} to {theirs.high:.0f}), difference {gap.estimate:.0f} ({gap.low:.0f} to {gap.high:.0f})"
    )
    if gap.high < 0:
        return Judged("not reproduced", said)
    return Judged("reproduced" if ours.estimate >= theirs.low else "inconclusive", said)


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
    judge=judge,
    others=peers,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
