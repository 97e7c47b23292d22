"""Two lists of runs → what may be said about them: intervals on both sides, on the difference, and one sentence.

The sentence rests on the held-out metric of the *last* policies, paired by seed, with Student's t. The best of many
evaluations is reported beside it, but it flatters both sides and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.run.results import Compute, RunResult, mean_compute, read_run
from pilotage.run.statistics import (
    Interval,
    hierarchical_difference,
    mean_interval,
    paired_difference,
    probability_of_improvement,
)
from pilotage.run.wording import Wording, chance, compute_rows, plain

if TYPE_CHECKING:
    from rich.table import Table

Kind = Literal["better", "worse", "no difference shown", "undecided"]
Pair = tuple[RunResult, RunResult]
FEW = 5  # below this many pairs a note says what the interval rests on
UNEQUAL = 1.1  # a ratio of compute that is worth a note


@dataclass(frozen=True)
class Side:
    """One arm: intervals over its seeds of the held-out metric at the start, at the end, at its best evaluation, and of
    the rise from start to end; and what one run used, in the mean."""

    name: str
    folders: tuple[str, ...]
    seeds: tuple[int | None, ...]
    start: Interval
    final: Interval
    best: Interval
    rise: Interval
    compute: Compute


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline, paired by seed; differences are candidate minus baseline, in the metric's unit."""

    metric: str
    candidate: Side
    baseline: Side
    difference: Interval
    difference_over_items: Interval | None
    difference_best: Interval
    difference_rise: Interval
    improvement: Interval
    kind: Kind
    verdict: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; null for what is not finite."""
        found: dict[str, Any] = plain(self)
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """(what, candidate, baseline, difference) as text: what was measured, however it is drawn."""
        say, a, b = Wording(self.metric), self.candidate, self.baseline
        rows: list[tuple[str, ...]] = [
            (f"{say.name}, start", say.value(a.start), say.value(b.start), ""),
            (f"{say.name}, end", say.value(a.final), say.value(b.final), say.change(self.difference)),
        ]
        if self.difference_over_items is not None:
            rows.append(("the same, over seeds and items", "", "", say.change(self.difference_over_items)))
        return [
            *rows,
            (f"{say.name}, best", say.value(a.best), say.value(b.best), say.change(self.difference_best)),
            ("rise above the start", say.change(a.rise), say.change(b.rise), say.change(self.difference_rise)),
            ("chance that a run is better", "", "", chance(self.improvement)),
        ]

    def compute_rows(self) -> list[tuple[str, ...]]:
        """(what, candidate, baseline, ratio) as text: what one run used, in the mean."""
        return compute_rows([self.candidate.compute, self.baseline.compute])

    def table(self) -> Table:
        """The rows as a table for the terminal."""
        from rich.table import Table

        table = Table(title=self.verdict, caption="\n".join(self.notes), title_justify="left", caption_justify="left")
        table.add_column("")
        for name in (self.candidate.name, self.baseline.name, "difference"):
            table.add_column(name, justify="right")
        for part in (self.rows(), self.compute_rows()):
            for row in part:
                table.add_row(*row)
            table.add_section()
        return table


def compare(candidate: Sequence[Path | str], baseline: Sequence[Path | str], level: float = 0.95) -> Comparison:
    """Compares two arms given as run folders; see `compare_runs`."""
    return compare_runs([read_run(f) for f in candidate], [read_run(f) for f in baseline], level)


def compare_runs(candidate: Sequence[RunResult], baseline: Sequence[RunResult], level: float = 0.95) -> Comparison:
    """Compares two arms of runs that have been read, paired by their seeds.

    Runs without a partner and pairs whose last evaluation is not finite are left out, and said so. Raises UsageError if
    the arms were judged by different metrics, a seed occurs twice, or no seed occurs in both.
    """
    metrics = {run.metric for run in (*candidate, *baseline)}
    if len(metrics) > 1:
        raise UsageError(f"runs judged by different metrics cannot be compared: {', '.join(sorted(metrics))}")
    pairs, notes = _paired(candidate, baseline)
    name_a, name_b = (pairs[0][0].name, pairs[0][1].name)
    if name_a == name_b:  # a method against itself with another setting
        name_a, name_b = f"{name_a} (candidate)", f"{name_b} (baseline)"
    broken = [run for pair in pairs for run in pair if not math.isfinite(run.final)]
    sound = [pair for pair in pairs if all(math.isfinite(run.final) for run in pair)]
    a, b = ([pair[i] for pair in sound] for i in (0, 1))
    difference = _difference(a, b, "final", level)
    say = Wording(next(iter(metrics)))
    kind = _kind(difference, len(sound), bool(broken))
    over_items = _over_items(sound, level)
    notes += _cautions(sound, difference, over_items, say)
    return Comparison(
        metric=say.metric,
        candidate=side(name_a, a or [pair[0] for pair in pairs], level),
        baseline=side(name_b, b or [pair[1] for pair in pairs], level),
        difference=difference,
        difference_over_items=over_items,
        difference_best=_difference(a, b, "best", level),
        difference_rise=_difference(a, b, "rise", level),
        improvement=_improvement(a, b, level),
        kind=kind,
        verdict=_sentence(kind, name_a, name_b, difference, len(sound), broken, say),
        notes=tuple(notes),
    )


def side(name: str, runs: Sequence[RunResult], level: float = 0.95) -> Side:
    """One arm's intervals over its seeds, for a report on runs that are compared with nothing."""

    def interval(part: str) -> Interval:
        values = [_part(run, part) for run in runs]
        if not np.isfinite(values).all():
            return _unknown(level)
        found = mean_interval(values, level)
        share = Wording(runs[0].metric).accuracy and part != "rise"
        return found.clipped(0.0, 1.0) if share else found

    return Side(
        name,
        tuple(str(run.folder) for run in runs),
        tuple(run.seed for run in runs),
        interval("start"),
        interval("final"),
        interval("best"),
        interval("rise"),
        mean_compute(runs),
    )


def side_rows(arm: Side, metric: str) -> list[tuple[str, ...]]:
    """(what, value) of what was measured of one arm, as text."""
    say = Wording(metric)
    named = {"start": arm.start, "end": arm.final, "best": arm.best}
    rows: list[tuple[str, ...]] = [(f"{say.name}, {when}", say.value(found)) for when, found in named.items()]
    return [*rows, ("rise above the start", say.change(arm.rise))]


def rise_sentence(arm: Side, metric: str) -> str:
    """What may be said of runs compared only with their own start."""
    say, n = Wording(metric), len(arm.seeds)
    if not math.isfinite(arm.rise.estimate):
        return f"{arm.name}: a run lacks a finite evaluation at its start or at its end, so no rise can be stated"
    moved = f"{arm.name} went from {say.value(arm.start)} to {say.value(arm.final)} of {say.name}"
    if not arm.rise.known:
        shares = f"{say.number(arm.start.estimate)} to {say.number(arm.final.estimate)}{' %' if say.accuracy else ''}"
        return f"{arm.name} went from {shares} of {say.name}; one seed gives no interval"
    shown = "a rise" if arm.rise.low > 0 else "a fall" if arm.rise.high < 0 else "no change shown"
    return f"{moved}: {shown}, {say.change(arm.rise)} over {n} seeds"


def _paired(candidate: Sequence[RunResult], baseline: Sequence[RunResult]) -> tuple[list[Pair], list[str]]:
    tables = []
    for arm in (candidate, baseline):
        seeds = [run.seed for run in arm]
        twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise UsageError(f"seed {twice[0]} occurs twice among the runs of {arm[0].name}")
        tables.append({run.seed: run for run in arm})
    a, b = tables
    shared = [seed for seed in a if seed in b]
    if not shared:
        raise UsageError("the two arms have no seed in common, so their runs cannot be paired")
    alone = [f"{run.name} seed {run.seed}" for run in (*candidate, *baseline) if run.seed not in shared]
    notes = [f"Left out, for want of a partner: {', '.join(alone)}."] if alone else []
    return [(a[seed], b[seed]) for seed in shared], notes


def _part(run: RunResult, part: str) -> float:
    return run.final - run.start if part == "rise" else float(getattr(run, part))


def _difference(a: Sequence[RunResult], b: Sequence[RunResult], part: str, level: float) -> Interval:
    values = [[_part(run, part) for run in arm] for arm in (a, b)]
    if not a or not np.isfinite(values).all():
        return _unknown(level)
    return paired_difference(values[0], values[1], level)


def _over_items(pairs: Sequence[Pair], level: float) -> Interval | None:
    """Over seeds and held-out items, where all runs kept scores of the same number of items."""
    tables = [[run.items for run in arm] for arm in zip(*pairs, strict=True)]
    if not pairs or any(items is None for arm in tables for items in arm):
        return None
    if len({len(items) for arm in tables for items in arm if items is not None}) != 1:
        return None
    a, b = (np.array(arm, dtype=np.float64) for arm in tables)
    known = np.isfinite(a).all(0) & np.isfinite(b).all(0)
    if known.sum() < 2:
        return None
    return hierarchical_difference(a[:, known], b[:, known], Streams(0).generator("verdict/items"), level=level)


def _improvement(a: Sequence[RunResult], b: Sequence[RunResult], level: float) -> Interval:
    if not a:
        return _unknown(level)
    x, y = ([run.final for run in arm] for arm in (a, b))
    found = probability_of_improvement(x, y, Streams(0).generator("verdict/improvement"), level=level)
    # resampling a handful of runs would say "100 to 100" whenever one side won every pair
    return found if len(a) >= FEW else replace(found, low=-math.inf, high=math.inf)


def _kind(difference: Interval, pairs: int, broken: bool) -> Kind:
    if broken or pairs < 2:
        return "undecided"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "no difference shown"


def _sentence(
    kind: Kind, a: str, b: str, difference: Interval, pairs: int, broken: Sequence[RunResult], say: Wording
) -> str:
    if broken:
        runs = ", ".join(f"{run.name} seed {run.seed}" for run in broken)
        return f"no verdict: the last evaluation of {runs} is not finite, and leaving it out would flatter its side"
    gap = f"{say.number(abs(difference.estimate))}{say.unit}"
    if pairs < 2:
        where = "above" if difference.estimate > 0 else "below"
        seen = f"{a} ended {gap} {where} {b}" if difference.estimate else f"{a} and {b} ended the same"
        return f"no verdict: {seen}, but one seed each cannot tell a better method from luck"
    count = f"{'only ' if pairs == 2 else ''}{pairs} paired seeds"
    if kind == "no difference shown":
        ends = f"{difference.level * 100:g} % interval of the difference {say.ends(difference)}{say.unit}, {count}"
        return f"no difference shown: {a} minus {b} is {say.number(difference.estimate)}{say.unit} ({ends})"
    size = difference
    if kind == "worse":  # said as a positive amount
        size = Interval(-difference.estimate, -difference.high, -difference.low, difference.level)
    return f"{a} is {kind} than {b} by {gap} ({difference.level * 100:g} % interval {say.ends(size)}, {count})"


def _cautions(pairs: Sequence[Pair], difference: Interval, over_items: Interval | None, say: Wording) -> list[str]:
    """What a careful reader would ask."""
    notes = []
    if 2 <= len(pairs) < FEW:
        notes.append(f"{len(pairs)} seeds are few: the interval assumes that differences between seeds are normal.")
    if len(pairs) >= 2 and difference.low == difference.high:
        notes.append("All pairs differ by the same amount, so the interval over seeds has no width.")
    settled = difference.known and (difference.low > 0 or difference.high < 0)
    if settled and over_items is not None and over_items.low <= 0 <= over_items.high:
        notes.append(f"With other held-out items it could be otherwise: over seeds and items {say.change(over_items)}.")
    runs = [run for pair in pairs for run in pair]
    last = sorted({int(run.steps[-1]) for run in runs})
    if len(last) > 1:
        notes.append(f"The runs were not judged last at the same step: {', '.join(map(str, last))}.")
    if pairs:
        used = [mean_compute(arm) for arm in zip(*pairs, strict=True)]
        for name, label in (("decisions", "decisions"), ("verdicts", "reward calls"), ("seconds", "training time")):
            a, b = (getattr(compute, name) for compute in used)
            if a > 0 and b > 0 and max(a / b, b / a) > UNEQUAL:
                notes.append(
                    f"Unequal compute: {pairs[0][0].name} used × {a / b:.2f} the {label} of {pairs[0][1].name}."
                )
    return notes


def _unknown(level: float) -> Interval:
    return Interval(math.nan, -math.inf, math.inf, level)
