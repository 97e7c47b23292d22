"""Charts as plain Plotly figures (dicts): curves of one or two arms over steps, decisions or seconds.

Colours are CSS variables by name, `var(--a)`; the page's script puts in what they are in the light or the dark theme.
Nothing here imports plotly.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.run.results import AXES, RunResult
from pilotage.run.statistics import Interval, mean_interval
from pilotage.run.wording import Wording, minus

Floats = NDArray[np.float64]
Numbers = Floats | Sequence[float]
Figure = dict[str, Any]
POINTS = 300  # a longer training curve is averaged in blocks
# (title, metrics that can stand for it: a full name, or the last part of one), in the order of the page
PANELS = (
    ("Reward in training", ("train/reward",)),
    ("Entropy", ("entropy",)),
    ("Length in decisions", ("train/length",)),
    ("Episode length", ("train/episode_length",)),
    ("Share clipped by the loss", ("clipped",)),
    ("Share cut by the length limit", ("train/cut",)),
    ("Mismatch of sampler and trainer (KL)", ("mismatch/kl", "mismatch")),
    ("KL to the reference", ("kl_reference",)),
    ("Variance of returns that the critic explains", ("value/explained_variance",)),
    ("Gradient norm", ("gradient_norm",)),
    ("Groups without a signal", ("train/no_signal",)),
)


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe that differ in their seeds; `key` is "a" (candidate) or "b" (baseline)."""

    key: str
    name: str
    runs: Sequence[RunResult]

    @property
    def colour(self) -> str:
        return f"var(--{self.key})"

    @property
    def dash(self) -> str:
        return "solid" if self.key == "a" else "dash"


@dataclass(frozen=True)
class Point:
    """One place of an arm's mean curve."""

    step: int
    x: Mapping[str, float]
    interval: Interval


def held_out_points(arm: Arm) -> list[Point]:
    """The mean over seeds at every step that all seeds were evaluated at, finite ones only.

    With one seed the interval is the evaluation's own, over held-out items.
    """
    shared = sorted(set.intersection(*(set(run.steps.astype(int).tolist()) for run in arm.runs)))
    axes = {id(run): {name: run.axis(name) for name in AXES} for run in arm.runs}
    points = []
    for step in shared:
        places = [int(np.flatnonzero(run.steps == step)[0]) for run in arm.runs]
        values = [float(run.values[i]) for run, i in zip(arm.runs, places, strict=True)]
        if not np.isfinite(values).all():
            continue
        found = mean_interval(values)
        if len(values) == 1:
            record = arm.runs[0].evaluations[places[0]]
            ends = [record.get("eval/low"), record.get("eval/high")]
            if None not in ends:
                found = Interval(values[0], float(ends[0]), float(ends[1]))  # type: ignore[arg-type]
        elif Wording(arm.runs[0].metric).accuracy:
            found = found.clipped(0.0, 1.0)
        x = {
            name: float(np.mean([axes[id(run)][name][i] for run, i in zip(arm.runs, places, strict=True)]))
            for name in AXES
        }
        points.append(Point(step, x, found))
    return points


def held_out_figures(arms: Sequence[Arm]) -> dict[str, Figure]:
    """The learning curve by axis: means with bands, and thin lines for seeds."""
    say = Wording(arms[0].runs[0].metric)
    factor = 100.0 if say.accuracy else 1.0
    points = {arm.key: held_out_points(arm) for arm in arms}
    figures = {}
    for axis in available_axes(arms):
        data: list[dict[str, Any]] = []
        for arm in arms:
            data += [_band(arm, points[arm.key], axis, factor)]
            data += [_thin(arm, run.axis(axis), run.values * factor) for run in arm.runs if len(arm.runs) > 1]
        for arm in arms:  # means above everything else
            x = [point.x[axis] for point in points[arm.key]]
            y = [point.interval.estimate * factor for point in points[arm.key]]
            text = [f"{html.escape(arm.name)}: {say.value(point.interval)}" for point in points[arm.key]]
            data.append(_line(arm, x, y, text, markers=True))
        layout = _layout(AXES[axis], " %" if say.accuracy else "", _range(arms, points, factor, say))
        figures[axis] = {"data": [trace for trace in data if trace["x"]], "layout": layout}
    return figures


def available_axes(arms: Sequence[Arm]) -> list[str]:
    """The axes that every run has numbers for."""
    return [name for name in AXES if all(np.isfinite(run.axis(name)).all() for arm in arms for run in arm.runs)]


def training_panels(arms: Sequence[Arm]) -> list[tuple[str, str, dict[str, Figure]]]:
    """(title, what a screen reader hears, figure by axis) of each training metric that a run recorded."""
    panels = []
    for title, wanted in PANELS:
        series = {arm.key: _training(arm, wanted, available_axes(arms)) for arm in arms}
        if not any(series.values()):
            continue
        figures, heard = {}, []
        means = {arm.key: _mean_series(series[arm.key]) for arm in arms}
        for axis in available_axes(arms):
            data: list[dict[str, Any]] = []
            for arm in arms:
                mean = means[arm.key]
                if mean:
                    calm = _running_mean(mean["y"])
                    said = [f"{html.escape(arm.name)}: {minus(f'{value:.4g}')}" for value in calm]
                    data.insert(0, _thin(arm, mean[axis], mean["y"]))
                    data.append(_line(arm, mean[axis], calm, said))
                    heard.append(f"{arm.name} from {calm[0]:.3g} to {calm[-1]:.3g}")
            figures[axis] = {"data": data, "layout": _layout(AXES[axis], "", None, small=True)}
        half = len(heard) // max(len(figures), 1)
        panels.append((title, "; ".join(heard[:half]), figures))
    return panels


def _training(arm: Arm, wanted: Sequence[str], axes: Sequence[str]) -> list[dict[str, Floats]]:
    """Per seed: y, step and the other axes, of the first metric that matches."""
    found = []
    for run in arm.runs:
        keys = {key for record in run.records if record.get("kind") == "train" for key in record}
        metric = next((key for name in wanted for key in sorted(keys) if key == name or key.endswith("/" + name)), None)
        if metric is None:
            continue
        steps, values = run.series(metric)
        table = {"step": steps, "y": values}
        for axis in axes:
            if axis != "step":
                at, used = run.series(axis)
                table[axis] = np.interp(steps, at, used)
        if np.isfinite(values).any():
            found.append({name: _blocks(column) for name, column in table.items()})
    return found


def _mean_series(runs: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """The mean over seeds as far as all of them got."""
    if not runs:
        return {}
    length = min(len(run["y"]) for run in runs)
    return {name: np.mean([run[name][:length] for run in runs], axis=0) for name in runs[0]}


def _running_mean(values: Floats) -> Floats:
    """Centred, over a 25th of the curve; over what there is at the ends and at gaps."""
    reach = len(values) // 50
    known = np.isfinite(values)
    kernel = np.ones(2 * reach + 1)
    total = np.convolve(np.where(known, values, 0.0), kernel)[reach : reach + len(values)]
    count = np.convolve(known.astype(np.float64), kernel)[reach : reach + len(values)]
    return np.where(known, total / np.maximum(count, 1), np.nan)


def _blocks(values: Floats) -> Floats:
    size = math.ceil(len(values) / POINTS)
    if size <= 1:
        return values
    whole = len(values) // size * size
    head = values[:whole].reshape(-1, size).mean(1)
    return np.append(head, values[whole:].mean()) if whole < len(values) else head


def _line(arm: Arm, x: Numbers, y: Numbers, text: Sequence[str], *, markers: bool = False) -> Figure:
    return {
        "type": "scatter",
        "x": _numbers(x),
        "y": _numbers(y),
        "mode": "lines+markers" if markers else "lines",
        "line": {"color": arm.colour, "width": 2.5 if markers else 2, "dash": arm.dash},
        "marker": {"size": 7, "symbol": "circle" if arm.key == "a" else "square", "color": arm.colour},
        "text": list(text),
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }


def _thin(arm: Arm, x: Floats, y: Floats) -> Figure:
    line = {"color": arm.colour, "width": 1, "dash": arm.dash}
    common = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "opacity": 0.35}
    return {**common, "x": _numbers(x), "y": _numbers(y), "line": line}


def _band(arm: Arm, points: Sequence[Point], axis: str, factor: float) -> Figure:
    known = [point for point in points if point.interval.known]
    x = [point.x[axis] for point in known]
    low, high = ([getattr(point.interval, end) * factor for point in known] for end in ("low", "high"))
    common = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, "fill": "toself"}
    line = {"color": arm.colour, "width": 0}
    return {
        **common,
        "x": _numbers(x + x[::-1]),
        "y": _numbers(high + low[::-1]),
        "line": line,
        "fillcolor": f"var(--{arm.key}-band)",
    }


def _range(
    arms: Sequence[Arm], points: Mapping[str, Sequence[Point]], factor: float, say: Wording
) -> list[float] | None:
    """The lines fill the chart; a band may go beyond them by half their height, then the frame cuts it.

    Without this the intervals of two seeds, twelve standard deviations wide, would press the curves flat.
    """
    lines = np.concatenate([run.values for arm in arms for run in arm.runs])
    lines = lines[np.isfinite(lines)] * factor
    if not len(lines):
        return None
    low, high = float(lines.min()), float(lines.max())
    room = 0.5 * (high - low) or abs(high) * 0.1 or 1.0
    ends = [point.interval for arm in arms for point in points[arm.key] if point.interval.known]
    bottom = max(min([low, *(i.low * factor for i in ends)]), low - room)
    top = min(max([high, *(i.high * factor for i in ends)]), high + room)
    pad = 0.04 * (top - bottom) or room
    if say.accuracy:
        return [max(bottom - pad, -2.0), min(top + pad, 102.0)]
    return [bottom - pad, top + pad]


def _layout(title: str, suffix: str, y_range: list[float] | None, *, small: bool = False) -> Figure:
    grid = {"gridcolor": "var(--rule)", "zeroline": False, "linecolor": "var(--rule)", "automargin": True}
    y_axis: Figure = {**grid, "ticksuffix": suffix, "nticks": 4 if small else 7, "exponentformat": "power"}
    if y_range is not None:
        y_axis["range"] = y_range
    size = 12 if small else 13
    return {
        "xaxis": {**grid, "title": {"text": title, "standoff": 8}, "showgrid": False, "nticks": 5 if small else 8},
        "yaxis": y_axis,
        "height": 210 if small else 400,
        "margin": {"l": 44, "r": 12, "t": 10, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": size, "color": "var(--soft)"},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--rule)", "font": {"color": "var(--ink)"}},
        "dragmode": False,
        "showlegend": False,
    }


def _numbers(values: Numbers) -> list[float | None]:
    """Six digits are more than a screen shows; null leaves a gap."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
