"""Numbers and intervals in words: percent and points for accuracies, plain numbers for returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pilotage.run.results import Compute
from pilotage.run.statistics import Interval

COMPUTE = {
    "steps": "steps",
    "decisions": "decisions (tokens, actions)",
    "episodes": "episodes",
    "verdicts": "reward calls",
    "seconds": "training time",
}


@dataclass(frozen=True)
class Wording:
    """How values of one held-out metric are said: eval/accuracy and eval/success in percent and points, all else as
    numbers."""

    metric: str

    @property
    def accuracy(self) -> bool:
        """Whether the values are shares of 1."""
        return self.metric.endswith(("accuracy", "success"))

    @property
    def name(self) -> str:
        """The metric's name in a sentence: "held-out accuracy"."""
        return f"held-out {self.metric.rpartition('/')[2]}"

    @property
    def unit(self) -> str:
        """What follows a difference: " points" for accuracies."""
        return " points" if self.accuracy else ""

    def number(self, value: float) -> str:
        """A value or a difference, without its unit: 62.3 for an accuracy of 0.623."""
        if not math.isfinite(value):
            return "–"
        text = f"{100 * value:.1f}" if self.accuracy else f"{value:.4g}"
        return minus("0" + text[2:] if text.startswith("-0") and not float(text) else text)

    def ends(self, interval: Interval) -> str:
        """ "0.4 to 5.8", or that there is no interval."""
        if not interval.known:
            return "no interval"
        return f"{self.number(interval.low)} to {self.number(interval.high)}"

    def value(self, interval: Interval) -> str:
        """ "62.3 % (58.1 to 66.5)"."""
        if not math.isfinite(interval.estimate):
            return "–"
        return f"{self.number(interval.estimate)}{' %' if self.accuracy else ''} ({self.ends(interval)})"

    def change(self, interval: Interval) -> str:
        """ "+3.1 points (0.4 to 5.8)"."""
        if not math.isfinite(interval.estimate):
            return "–"
        sign = "+" if interval.estimate > 0 else ""
        return f"{sign}{self.number(interval.estimate)}{self.unit} ({self.ends(interval)})"


def signed(interval: Interval, places: int, unit: str = "") -> str:
    """ "+1.25 nats (0.40 to 2.10)": a difference of plain numbers, to so many places."""
    ends = f"{interval.low:.{places}f} to {interval.high:.{places}f}" if interval.known else "no interval"
    return minus(f"{interval.estimate:+.{places}f}{unit} ({ends})")


def chance(interval: Interval) -> str:
    """A probability with its interval, in percent."""
    if not math.isfinite(interval.estimate):
        return "–"
    ends = f"{100 * interval.low:.0f} to {100 * interval.high:.0f}" if interval.known else "no interval"
    return f"{100 * interval.estimate:.0f} % ({ends})"


def compute_rows(sides: Sequence[Compute]) -> list[tuple[str, ...]]:
    """(what was used, one text per side, and for two sides the ratio) of everything that was recorded."""
    rows: list[tuple[str, ...]] = []
    for name, label in COMPUTE.items():
        values = [getattr(side, name) for side in sides]
        if not any(math.isfinite(value) for value in values):
            continue
        texts = [duration(value) if name == "seconds" else quantity(value) for value in values]
        ratio = [] if len(values) < 2 else [f"× {values[0] / values[1]:.2f}" if values[1] > 0 else "–"]
        rows.append((label, *texts, *ratio))
    return rows


def quantity(value: float) -> str:
    """A count in three digits: 950, 12.3 k, 4.56 M."""
    if not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.3g}")
    for start, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(rounded) >= start:
            return f"{rounded / size:.3g} {letter}"
    return f"{value:,.0f}".replace(",", " ")


def duration(seconds: float) -> str:
    """Seconds in words: 41 s, 12 min, 3 h 05 min."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def minus(text: str) -> str:
    """The text with a real minus sign."""
    return text.replace("-", "−")


def plain(value: Any) -> Any:
    """Dataclasses and tuples as plain JSON, null for what is not finite."""
    if isinstance(value, Interval):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
