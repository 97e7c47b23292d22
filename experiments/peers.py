"""Runs of another library, each in its own environment and made once, judged on the same episodes as ours.

Needs the benchmarks' environment (.venv-bench, made by `make bench`) for the other side.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import RUNS, Comparisons, Judged, Runs
from pilotage.run import verdict
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult

PYTHON = Path(os.environ.get("PILOTAGE_BENCH_PYTHON", ".venv-bench/bin/python"))


def held_out(recipe: Recipe) -> list[int]:
    """The environments' seeds that a recipe's policies are judged on."""
    world = recipe.world.build()
    try:
        return [world.task(key, "held_out").payload["seed"] for key in range(recipe.evaluation.tasks)]
    finally:
        world.close()


def runs(peer: str, child: str, home: str, asked: Mapping[str, Any], seeds: Sequence[int], steps: int) -> Runs:
    """Runs of `child`, a script of this folder that takes SETTINGS.json and OUT.json, one for each seed.

    home: a folder's name of its own for each version. steps: where the last evaluation stands, in our steps.
    """
    folder = RUNS / home
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in seeds:
        out, settings = folder / f"seed-{seed}.json", folder / f"seed-{seed}.settings"
        if not out.is_file():
            settings.write_text(json.dumps({**asked, "seed": seed}), encoding="utf-8")
            script = Path(__file__).with_name(child)
            subprocess.run([str(PYTHON), str(script), str(settings), str(out)], check=True)
        found.append(_as_run(peer, json.loads(out.read_text(encoding="utf-8")), out, steps))
    return {peer: found}


def _as_run(peer: str, found: Mapping[str, Any], out: Path, steps: int) -> RunResult:
    evaluations = [
        {"kind": "eval", "step": step, "eval/return": sum(items) / len(items), "eval/items": items}
        for step, items in ((0, found["start"]), (steps, found["final"]))
    ]
    trained = {
        "kind": "train",
        "step": steps,
        "count/decisions": found["decisions"],
        "count/verdicts": None,
        "seconds": found["seconds"],
    }
    name = f"{peer} {found['versions'][peer]}"
    return RunResult(out, name, found["seed"], "eval/return", [*evaluations, trained], {}, {})


def judge(label: str, peer: str, runs: Runs, comparisons: Comparisons) -> Judged:
    """Reproduced if our mean is at least the lower end of theirs and the difference's interval does not lie below 0;
    not reproduced if it lies below 0; otherwise inconclusive."""
    ours, theirs = (verdict.side(name, runs[name]).final for name in (label, peer))
    gap = comparisons[label, peer].difference
    said = (
        f"ours {ours.estimate:.0f} ({ours.low:.0f} to {ours.high:.0f}), theirs {theirs.estimate:.0f} "
        f"({theirs.low:.0f} to {theirs.high:.0f}), difference {gap.estimate:.0f} ({gap.low:.0f} to {gap.high:.0f})"
    )
    if gap.high < 0:
        return Judged("not reproduced", said)
    return Judged("reproduced" if ours.estimate >= theirs.low else "inconclusive", said)
