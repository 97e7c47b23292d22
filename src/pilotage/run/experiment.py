"""An experiment: arms, seeds and a criterion, declared before any run; run, judged and put into a record.

Each run is a process of its own with one thread, in RUNS/ARM-HASH/seed-S; what is finished is kept, what was stopped
goes on. The verdict is one of three words.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pilotage.learn.learner import RunStopped
from pilotage.run import compare as runner
from pilotage.run import provenance, verdict
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult, read_run
from pilotage.run.statistics import Interval, mean_interval, paired_difference
from pilotage.run.wording import plain

RUNS = Path("runs/experiments")
SCHEMA = 1

Word = Literal["reproduced", "not reproduced", "inconclusive"]
Runs = Mapping[str, Sequence[RunResult]]
Comparisons = Mapping[tuple[str, str], verdict.Comparison]


@dataclass(frozen=True)
class Judged:
    """The word, and what it rests on in one or two sentences."""

    word: Word
    because: str

    @classmethod
    def by(cls, holds: bool, excluded: bool, because: str) -> Judged:
        """Reproduced if what is claimed holds; else not reproduced if it is excluded; otherwise inconclusive."""
        return cls("reproduced" if holds else "not reproduced" if excluded else "inconclusive", because)


@dataclass(frozen=True)
class Experiment:
    """What is claimed, and how it is put to the test.

    name: SLUG or SLUG.WORLD, the result's file. arms: their recipes, by label, given whether this is the quick version.
    pairs: (candidate, baseline) labels that are compared. judge: the criterion as a function of runs and comparisons.
    others: runs that are not ours, given seeds and whether this is the quick version. start_per_seed: each seed has a
    start of its own, of that seed; else all share the start as it stands in the recipe. prepare: makes what the arms
    need and is not there, such as data sets, before they are asked for, given whether this is the quick version. fewer:
    arms that decide nothing may run on some of the seeds only, by label; pairs are of the seeds that both have.
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
    start_per_seed: bool = False
    prepare: Callable[[bool], None] | None = None
    fewer: Mapping[str, Sequence[int]] = field(default_factory=dict)


def planned(
    arms: Mapping[str, Recipe],
    seeds: Sequence[int],
    start_per_seed: bool = False,
    fewer: Mapping[str, Sequence[int]] | None = None,
) -> list[runner.Job]:
    """The runs, seed by seed. A run's folder is named by its recipe, so that experiments share what is the same."""
    found = []
    for seed in seeds:
        for label, recipe in arms.items():
            if seed not in (fewer or {}).get(label, seeds):
                continue
            home = RUNS / f"{label}-{dataclasses.replace(recipe, seed=0).digest()[:8]}"
            made = dataclasses.replace(recipe, seed=seed, name=label)
            if start_per_seed and made.start is not None:
                made = dataclasses.replace(made, start=dataclasses.replace(made.start, seed=seed))
            found.append(runner.Job(label, seed, made, home / f"seed-{seed}", home / f"seed-{seed}.log"))
    return found


def run(
    experiment: Experiment, command: str, *, quick: bool = False, jobs: int = 1
) -> tuple[Runs, Judged, dict[str, Any]]:
    """Runs what is not finished, judges, and gives (runs, verdict, the record, which names the command).

    Raises RunStopped if a run failed, ComparisonStopped if asked to stop.
    """
    if experiment.prepare is not None:
        experiment.prepare(quick)
    arms, seeds = experiment.arms(quick), experiment.quick_seeds if quick else experiment.seeds
    plan = planned(arms, seeds, experiment.start_per_seed, {} if quick else experiment.fewer)
    runner.make_starts(plan)
    failures = runner.run_all(plan, jobs)
    if failures:
        raise RunStopped("; ".join(failures))
    runs: dict[str, Sequence[RunResult]] = {
        label: [read_run(job.folder) for job in plan if job.arm == label] for label in arms
    }
    if experiment.others is not None:
        runs |= experiment.others(seeds, quick)
    comparisons = {(a, b): verdict.compare_runs(runs[a], runs[b]) for a, b in experiment.pairs}
    judged = experiment.judge(runs, comparisons)
    return runs, judged, record(experiment, command, arms, seeds, runs, comparisons, judged)


def record(
    experiment: Experiment,
    command: str,
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
            "command": command,
            "commits_of_runs": sorted({str(r.manifest.get("commit")) for r in every if r.manifest.get("commit")}),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared with other work; one thread a run",
        },
    }


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
    generated = result.axis("count/generated")
    if np.isfinite(generated).all() and generated[-1] > 0:
        found["generated"], found["decode steps"] = generated[-1], result.axis("count/decode_steps")[-1]
    for metric in ("train/entropy", "train/length"):
        if len(series := result.series(metric)[1]):
            found[f"last {metric}"] = float(series[-20:].mean())
    # what `evaluation.measures` found out
    measures = {name for record in result.evaluations for name in record if "/" in name and name[:5] != "eval/"}
    for name in sorted(measures):
        beside = dataclasses.replace(result, metric=name)
        found[name] = [
            [int(step), _rounded(float(value))] for step, value in zip(beside.steps, beside.values, strict=True)
        ]
    return {key: _rounded(value) for key, value in found.items()}


def end(result: RunResult, measure: str) -> float:
    """What a measure beside the metric (`game/gap`) was at a run's last evaluation."""
    return dataclasses.replace(result, metric=measure).final


def begin(result: RunResult, measure: str) -> float:
    """The same of the starting policy."""
    return dataclasses.replace(result, metric=measure).start


def at_generated(result: RunResult, amount: float, measure: str = "", axis: str = "count/generated") -> float:
    """A run's metric (or another measure) when it had generated so many tokens, or used so much of another cumulative
    metric, on a line between evaluations; its last value where it never did. Raises ValueError where that was not
    counted."""
    judged = dataclasses.replace(result, metric=measure) if measure else result
    used = judged.axis(axis)
    if not np.isfinite(used).all():
        raise ValueError(f"{result.folder} has no {axis}")
    return float(np.interp(amount, used, judged.values))


def gap_at_equal_tokens(one: Sequence[RunResult], other: Sequence[RunResult], measure: str = "") -> Interval:
    """The difference in the metric (or another measure) at the tokens that the side which generated fewer had generated
    at its end, paired by seed. Raises KeyError where a seed has no partner."""
    known = {result.seed: result for result in other}
    pairs = [(result, known[result.seed]) for result in one]
    equal = [min(float(side.axis("count/generated")[-1]) for side in pair) for pair in pairs]
    first, second = (
        [at_generated(pair[i], tokens, measure) for pair, tokens in zip(pairs, equal, strict=True)] for i in (0, 1)
    )
    return paired_difference(first, second)


def gap(one: Sequence[RunResult], other: Sequence[RunResult], measure: str) -> Interval:
    """The last policies' difference in a measure, paired by seed. Raises KeyError where a seed has no partner."""
    known = {result.seed: end(result, measure) for result in other}
    pairs = [(end(result, measure), known[result.seed]) for result in one]
    return paired_difference([a for a, _ in pairs], [b for _, b in pairs])


def rise(side: Sequence[RunResult], measure: str) -> Interval:
    """How far a measure rose from the starting policies to the last ones."""
    return mean_interval([end(result, measure) - begin(result, measure) for result in side])


def _short(comparison: dict[str, Any]) -> dict[str, Any]:
    """Without the sides, which stand under "arms"."""
    return {key: value for key, value in comparison.items() if key not in ("candidate", "baseline")}


def _rounded(value: Any) -> Any:
    return None if value != value else round(value, 5) if isinstance(value, float) else value
