"""An experiment: arms, seeds and a criterion, declared in a file before any run; run, judged and recorded.

    python -m experiments.nft [--quick] [--jobs J]

Each run is a process of its own with one thread, in runs/experiments/ARM-HASH/seed-S; what is finished is kept, what
was stopped goes on. The result is experiments/results/NAME.json: the criterion, every seed's numbers, the comparisons
and one of three words. `--quick` runs a small version to see that all works, and records nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.run import compare as runner
from pilotage.run import provenance, verdict
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult, read_run
from pilotage.run.wording import plain

RUNS = Path("runs/experiments")
RESULTS = Path(__file__).parent / "results"
SCHEMA = 1

Word = Literal["reproduced", "not reproduced", "inconclusive"]
Runs = Mapping[str, Sequence[RunResult]]
Comparisons = Mapping[tuple[str, str], verdict.Comparison]


@dataclass(frozen=True)
class Judged:
    """The word, and what it rests on in one or two sentences."""

    word: Word
    because: str


@dataclass(frozen=True)
class Experiment:
    """What is claimed, and how it is put to the test.

    name: SLUG or SLUG.WORLD, the result's file. arms: their recipes, by label, given whether this is the quick version.
    pairs: (candidate, baseline) labels that are compared. judge: the criterion as a function of runs and comparisons.
    others: runs that are not ours, given seeds and whether this is the quick version.
    """

    name: str
    claim: str
    criterion: str
    arms: Callable[[bool], Mapping[str, Recipe]]
    pairs: Sequence[tuple[str, str]]
    judge: Callable[[Runs, Comparisons], Judged]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    quick_seeds: Sequence[int] = (100, 101)
    others: Callable[[Sequence[int], bool], Runs] | None = None


def planned(arms: Mapping[str, Recipe], seeds: Sequence[int]) -> list[runner.Job]:
    """The runs, seed by seed. A run's folder is named by its recipe, so that experiments share what is the same."""
    found = []
    for seed in seeds:
        for label, recipe in arms.items():
            home = RUNS / f"{label}-{dataclasses.replace(recipe, seed=0).digest()[:8]}"
            made = dataclasses.replace(recipe, seed=seed, name=label)
            found.append(runner.Job(label, seed, made, home / f"seed-{seed}", home / f"seed-{seed}.log"))
    return found


def run(experiment: Experiment, *, quick: bool = False, jobs: int = 1) -> tuple[Runs, Judged, dict[str, Any]]:
    """Runs what is not finished, judges, and gives (runs, verdict, the record). Raises RuntimeError if a run failed."""
    arms, seeds = experiment.arms(quick), experiment.quick_seeds if quick else experiment.seeds
    plan = planned(arms, seeds)
    runner.make_starts(plan)
    failures = runner.run_all(plan, jobs)
    if failures:
        raise RuntimeError("; ".join(failures))
    runs: dict[str, Sequence[RunResult]] = {
        label: [read_run(job.folder) for job in plan if job.arm == label] for label in arms
    }
    if experiment.others is not None:
        runs |= experiment.others(seeds, quick)
    comparisons = {(a, b): verdict.compare_runs(runs[a], runs[b]) for a, b in experiment.pairs}
    judged = experiment.judge(runs, comparisons)
    return runs, judged, record(experiment, arms, seeds, runs, comparisons, judged)


def record(
    experiment: Experiment,
    arms: Mapping[str, Recipe],
    seeds: Sequence[int],
    runs: Runs,
    comparisons: Comparisons,
    judged: Judged,
) -> dict[str, Any]:
    """What is written down: enough to repeat it and to judge it differently."""
    every = [result for side in runs.values() for result in side]
    return {
        "schema": SCHEMA,
        "name": experiment.name,
        "claim": experiment.claim,
        "criterion": experiment.criterion,
        "verdict": judged.word,
        "because": judged.because,
        "metric": every[0].metric,
        "seeds": list(seeds),
        "seconds": round(sum(result.compute.seconds for result in every), 1),
        "arms": {label: _arm(side) for label, side in runs.items()},
        "comparisons": [_short(found.to_json()) | {"pair": list(pair)} for pair, found in comparisons.items()],
        "recipes": {label: recipe.to_json() for label, recipe in arms.items()},
        "provenance": {
            **provenance.provenance(),
            "command": f"python -m {_module()}",
            "commits_of_runs": sorted({str(r.manifest.get("commit")) for r in every if r.manifest.get("commit")}),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared with other work; one thread a run",
        },
    }


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else "experiments"


def _arm(side: Sequence[RunResult]) -> dict[str, Any]:
    over = verdict.side(side[0].name, side)
    intervals = {name: plain(getattr(over, name)) for name in ("start", "final", "best", "rise")}
    return {**intervals, "runs": [_of_run(result) for result in side]}


def _of_run(result: RunResult) -> dict[str, Any]:
    used = result.compute
    found: dict[str, Any] = {
        "seed": result.seed, "start": result.start, "final": result.final, "best": result.best,
        "curve": [[int(step), _rounded(value)] for step, value in zip(result.steps, result.values, strict=True)],
        "decisions": used.decisions, "episodes": used.episodes, "seconds": used.seconds,
    }  # fmt: skip
    for metric in ("train/entropy", "train/length"):
        if len(series := result.series(metric)[1]):
            found[f"last {metric}"] = float(series[-20:].mean())
    return {key: _rounded(value) for key, value in found.items()}


def _short(comparison: dict[str, Any]) -> dict[str, Any]:
    """Without the sides, which stand under "arms"."""
    return {key: value for key, value in comparison.items() if key not in ("candidate", "baseline")}


def _rounded(value: Any) -> Any:
    return None if value != value else round(value, 5) if isinstance(value, float) else value


def main(experiment: Experiment) -> int:
    """The command line of an experiment's file."""
    parser = argparse.ArgumentParser(description=f"{experiment.claim}\n\nCriterion: {experiment.criterion}")
    parser.add_argument("--quick", action="store_true", help="a small version, not recorded")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    asked = parser.parse_args()
    try:
        _, judged, found = run(experiment, quick=asked.quick, jobs=asked.jobs)
    except (RuntimeError, runner.ComparisonStopped) as error:
        print(error, file=sys.stderr)
        return 1
    for comparison in found["comparisons"]:
        print(comparison["verdict"])
    print(f"{judged.word}: {judged.because}")
    if asked.quick:
        print("quick: nothing was recorded")
        return 0
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{experiment.name}.json"
    path.write_text(json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"recorded in {path}")
    return 0
