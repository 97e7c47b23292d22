"""One run folder as results: its held-out curve, its last per-item scores, and what it used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError
from pilotage.run.log import read_manifest, read_metrics, read_recipe

Floats = NDArray[np.float64]
# what else an evaluation's record holds beside its metric
ASIDE = frozenset({"eval/low", "eval/high", "eval/items", "eval/length", "eval/invalid", "eval/regret", "eval/score"})
AXES = {"step": "steps", "count/decisions": "decisions", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Compute:
    """What a run used, or the mean over runs: decisions sampled (tokens, for language), episodes, reward calls, seconds
    of training without evaluations, steps. NaN where the run did not record it."""

    decisions: float
    episodes: float
    verdicts: float
    seconds: float
    steps: float


@dataclass(frozen=True)
class RunResult:
    """A run that has been read: `records` as in metrics.jsonl; `metric` is the held-out one, such as eval/accuracy."""

    folder: Path
    name: str
    seed: int | None
    metric: str
    records: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    recipe: Mapping[str, Any]

    @cached_property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """The evaluations in order of steps; the last word on a step counts. Where training tells a number of the same
        name, as it may of what a measure finds, that is left out."""
        told = [record for record in self.records if self.metric in record]
        judged = [record for record in told if record.get("kind") == "eval"] or told
        found = {record["step"]: record for record in judged}
        return [found[step] for step in sorted(found)]

    @cached_property
    def steps(self) -> Floats:
        """[evaluations] the step of each; 0 is the starting policy."""
        return np.array([record["step"] for record in self.evaluations], dtype=np.float64)

    @cached_property
    def values(self) -> Floats:
        """[evaluations] the held-out metric; NaN where it was not finite."""
        return floats(record[self.metric] for record in self.evaluations)

    @property
    def start(self) -> float:
        """The starting policy's value; NaN where step 0 was not evaluated."""
        return float(self.values[0]) if self.steps[0] == 0 else math.nan

    @property
    def final(self) -> float:
        """The value at the last evaluation."""
        return float(self.values[-1])

    @property
    def best(self) -> float:
        """The highest value of all evaluations; NaN if the last is, for then the run did not end well."""
        return float(np.nanmax(self.values)) if math.isfinite(self.final) else math.nan

    @property
    def items(self) -> Floats | None:
        """[held-out items] mean score of each at the last evaluation, where recorded; NaN where an item has none."""
        return self._items(-1)

    @property
    def start_items(self) -> Floats | None:
        """As `items`, of the starting policy; None where step 0 was not evaluated."""
        return self._items(0) if self.steps[0] == 0 else None

    def _items(self, place: int) -> Floats | None:
        found = self.evaluations[place].get("eval/items")
        return None if found is None else floats(found)

    def axis(self, name: str) -> Floats:
        """[evaluations] what had been used when each was made: "step", or a cumulative metric of training records."""
        if name == "step":
            return self.steps
        known = [(r["step"], r[name]) for r in self.records if r.get("kind") == "train" and r.get(name) is not None]
        if not known:
            return np.full(len(self.steps), np.nan)
        at, used = np.array(known, dtype=np.float64).T
        place = np.searchsorted(at, self.steps, side="right") - 1
        return np.where((self.steps == 0) | (place < 0), 0.0, used[np.maximum(place, 0)])

    def series(self, metric: str) -> tuple[Floats, Floats]:
        """(steps, values) of a training metric; both empty where the run has none."""
        rows = [(r["step"], r[metric]) for r in self.records if r.get("kind") == "train" and metric in r]
        return floats(step for step, _ in rows), floats(value for _, value in rows)

    @cached_property
    def compute(self) -> Compute:
        """Totals at the end of the run."""
        trained = [record for record in self.records if record.get("kind") == "train"]

        def total(name: str) -> float:
            found = [record[name] for record in trained if record.get(name) is not None]
            return float(found[-1]) if found else math.nan if trained or self.steps[-1] else 0.0

        return Compute(
            total("count/decisions"), total("count/episodes"), total("count/verdicts"), total("seconds"), total("step")
        )


def read_run(folder: Path | str) -> RunResult:
    """A run folder's results. Raises UsageError if it holds no run, or one without an evaluation."""
    folder = Path(folder)
    records, manifest, recipe = read_metrics(folder), read_manifest(folder), read_recipe(folder)
    judged = [record for record in records if record.get("kind") == "eval"]
    if not judged:
        raise UsageError(f"{folder} has no evaluation yet")
    metric = next((key for key in judged[0] if key.startswith("eval/") and key not in ASIDE), None)
    if metric is None:
        raise UsageError(f"{folder} has evaluations without a metric such as eval/accuracy")
    seed = manifest.get("seed", recipe.get("seed"))
    name = manifest.get("name") or recipe.get("name") or folder.name
    return RunResult(folder, str(name), seed, metric, records, manifest, recipe)


def mean_compute(runs: Sequence[RunResult]) -> Compute:
    """What one run used, in the mean."""
    return Compute(*(float(np.mean([getattr(run.compute, name) for run in runs])) for name in Compute.__annotations__))


def floats(values: Any) -> Floats:
    """Numbers and null as an array, null as NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
