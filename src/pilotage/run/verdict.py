"""Two lists of runs → what may be said about them: intervals on both sides, on the difference, and one sentence.

The sentence rests on the held-out metric of the *last* policies, paired by seed, with Student's t. Where scores of
single items were kept, the interval over seeds and items has to agree before one side is called better: seeds judged on
the same few items share their luck, which an interval over seeds cannot see. The best of many evaluations is reported
beside it, but it flatters both sides and decides nothing.
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
from pilotage.run.results import Compute, Floats, RunResult, mean_compute, read_run
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
OVER_ITEMS = "the same, over seeds and items"


@dataclass(frozen=True)
class Side:
    """One arm: intervals over its seeds of the held-out metric at the start, at the end, at its best evaluation, and of
    the rise from start to end (also over seeds and held-out items, where items were kept); and what one run
    used, in the mean."""

    name: str
    folders: tuple[str, ...]
    seeds: tuple[int | None, ...]
    start: Interval
    final: Interval
    best: Interval
    rise: Interval
    rise_over_items: Interval | None
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
            rows.append((OVER_ITEMS, "", "", say.change(self.difference_over_items)))
        return [
            *rows,
            (f"{say.name}, best", say.value(a.best), say.value(b.best), say.change(self.difference_best)),
            ("rise above the start", say.change(a.rise), say.change(b.rise), say.change(self.difference_rise)),
            *_rise_over_items(say, a, b),
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
    over_items = _over_items([run.items for run in a], [run.items for run in b], level)
    kind = _kind(difference, over_items, len(sound), bool(broken))
    notes += _cautions(sound, difference)
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
        verdict=_sentence(kind, name_a, name_b, difference, over_items, len(sound), broken, say),
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
        _over_items([run.items for run in runs], [run.start_items for run in runs], level),
        mean_compute(runs),
    )


def side_rows(arm: Side, metric: str) -> list[tuple[str, ...]]:
    """(what, value) of what was measured of one arm, as text."""
    say = Wording(metric)
    named = {"start": arm.start, "end": arm.final, "best": arm.best}
    rows: list[tuple[str, ...]] = [(f"{say.name}, {when}", say.value(found)) for when, found in named.items()]
    return [*rows, ("rise above the start", say.change(arm.rise)), *_rise_over_items(say, arm)]


def rise_sentence(arm: Side, metric: str) -> str:
    """What may be said of runs compared only with their own start."""
    say, n = Wording(metric), len(arm.seeds)
    if not math.isfinite(arm.rise.estimate):
        return f"{arm.name}: a run lacks a finite evaluation at its start or at its end, so no rise can be stated"
    ends = f"{say.number(arm.start.estimate)} to {say.number(arm.final.estimate)}{' %' if say.accuracy else ''}"
    moved = f"{arm.name} went from {ends} of {say.name}"
    named = [("seeds", arm.rise), ("seeds and held-out items" if n > 1 else "held-out items", arm.rise_over_items)]
    known = [(over, interval) for over, interval in named if interval is not None and interval.known]
    if not known:
        return f"{moved}; one seed gives no interval"
    up, down = (all(test(interval) for _, interval in known) for test in (_above, _below))
    shown = "a rise" if up else "a fall" if down else "no change shown"
    intervals = "; ".join(f"{say.ends(interval)} over {over}" for over, interval in known)
    few = "one seed" if n == 1 else f"{n} seeds"
    gap = say.change(arm.rise).partition(" (")[0]
    return f"{moved}: {shown}, {gap} (95 % interval {intervals}; {few})"


def _rise_over_items(say: Wording, *arms: Side) -> list[tuple[str, ...]]:
    found = [arm.rise_over_items for arm in arms]
    if not any(found):
        return []
    texts = ["" if interval is None else say.change(interval) for interval in found]
    return [(OVER_ITEMS, *texts, *([""] if len(arms) > 1 else []))]


def _above(interval: Interval) -> bool:
    return interval.low > 0


def _below(interval: Interval) -> bool:
    return interval.high < 0


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


def _over_items(a: Sequence[Floats | None], b: Sequence[Floats | None], level: float) -> Interval | None:
    """Of a - b over seeds and held-out items, where all runs kept scores of the same number of items."""
    tables = [table for arm in (a, b) for table in arm if table is not None]
    if not tables or len(tables) < len(a) + len(b) or len({len(table) for table in tables}) > 1:
        return None
    x, y = np.array(tables[: len(a)]), np.array(tables[len(a) :])
    known = np.isfinite(x).all(0) & np.isfinite(y).all(0)
    if known.sum() < 2:
        return None
    return hierarchical_difference(x[:, known], y[:, known], Streams(0).generator("verdict/items"), level=level)


def _improvement(a: Sequence[RunResult], b: Sequence[RunResult], level: float) -> Interval:
    if not a:
        return _unknown(level)
    x, y = ([run.final for run in arm] for arm in (a, b))
    found = probability_of_improvement(x, y, Streams(0).generator("verdict/improvement"), level=level)
    # resampling a handful of runs would say "100 to 100" whenever one side won every pair
    return found if len(a) >= FEW else replace(found, low=-math.inf, high=math.inf)


def _kind(difference: Interval, over_items: Interval | None, pairs: int, broken: bool) -> Kind:
    if broken or pairs < 2:
        return "undecided"
    asked = [difference, *([over_items] if over_items is not None else [])]
    return "better" if all(map(_above, asked)) else "worse" if all(map(_below, asked)) else "no difference shown"


def _sentence(
    kind: Kind,
    a: str,
    b: str,
    difference: Interval,
    over_items: Interval | None,
    pairs: int,
    broken: Sequence[RunResult],
    say: Wording,
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
    level = f"{difference.level * 100:g} % interval"
    if kind == "no difference shown":
        ends = f"{level} of the difference {say.ends(difference)}{say.unit}"
        if over_items is not None and (_above(difference) or _below(difference)):
            ends += f", but over seeds and held-out items {say.ends(over_items)}{say.unit}"
        return f"no difference shown: {a} minus {b} is {say.number(difference.estimate)}{say.unit} ({ends}, {count})"
    size = difference
    if kind == "worse":  # said as a positive amount
        size = Interval(-difference.estimate, -difference.high, -difference.low, difference.level)
    return f"{a} is {kind} than {b} by {gap} ({level} {say.ends(size)}, {count})"


def _cautions(pairs: Sequence[Pair], difference: Interval) -> list[str]:
    """What a careful reader would ask."""
    notes = []
    if 2 <= len(pairs) < FEW:
        notes.append(f"{len(pairs)} seeds are few: the interval assumes that differences between seeds are normal.")
    if len(pairs) >= 2 and difference.low == difference.high:
        notes.append("All pairs differ by the same amount, so the interval over seeds has no width.")
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
