"""How far runs are, and how long they still take: bars in a terminal, a line now and then elsewhere.

One run reports through the loop's `watch`; runs in other processes are followed by reading their metrics.jsonl.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotage.run.log import METRICS
from pilotage.run.results import ASIDE
from pilotage.run.statistics import Interval
from pilotage.run.wording import Wording, duration, minus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_EVERY = 10.0  # seconds between lines where there is no terminal


@dataclass
class Meter:
    """One run: how far it is, what it last said, and its pace since it was first seen (a resumed run starts late)."""

    total: int
    step: int = 0
    since: tuple[int, float] | None = None  # (step, time) at first sight
    reward: float | None = None
    held_out: str = ""

    def observe(self, step: int, metrics: Mapping[str, Any], now: float) -> None:
        """Takes one training or evaluation record."""
        self.step = max(self.step, step)
        if self.since is None:
            self.since = (step, now)
        self.reward = metrics.get("train/reward", self.reward)
        name = next((key for key in metrics if key.startswith("eval/") and key not in ASIDE), None)
        if name is not None and metrics[name] is not None:
            say = Wording(name)
            value = say.value(Interval(float(metrics[name]), 0.0, 0.0)).partition(" (")[0]
            self.held_out = f"{say.name} {value}"

    @property
    def ended(self) -> bool:
        """Whether its last step was seen; of a run without steps, its evaluation."""
        return self.since is not None and self.step >= self.total

    def left(self, now: float) -> float | None:
        """Seconds until the last step at the pace so far; None until a step has been timed."""
        if self.step >= self.total:
            return 0.0
        if self.since is None or self.step <= self.since[0]:
            return None
        return (now - self.since[1]) / (self.step - self.since[0]) * (self.total - self.step)

    def said(self) -> str:
        """What the run last said of itself."""
        parts = [] if self.reward is None else [f"reward {minus(f'{self.reward:.3g}')}"]
        return ", ".join([*parts, *([self.held_out] if self.held_out else [])])


class Progress:
    """Shows several runs, or one; a context manager.

    runs: {name: number of steps}. Bars where the console is a terminal, else one line every LINE_EVERY seconds.
    """

    def __init__(
        self,
        runs: Mapping[str, int],
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)
        self.clock = clock
        self.meters = {name: Meter(total) for name, total in runs.items()}
        self.last_line = clock()
        self.bars: Bars | None = None
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.bars = _bars(self.console)
            self.tasks = {
                name: self.bars.add_task(name, total=meter.total, left="", said="")
                for name, meter in self.meters.items()
            }
            if len(self.meters) > 1:
                steps = sum(meter.total for meter in self.meters.values())
                self.tasks[""] = self.bars.add_task("all runs", total=steps, left="", said="")
            self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bars is not None:
            self.bars.stop()
        elif any(meter.since is not None for meter in self.meters.values()):
            self._line()

    def watch(self, name: str) -> Callable[[int, Mapping[str, Any]], None]:
        """What the loop calls with (step, metrics) after each step and each evaluation of the run of this name."""
        return lambda step, metrics: self.update(name, step, metrics)

    def update(self, name: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes one record of one run, and shows it."""
        now = self.clock()
        meter = self.meters[name]
        meter.observe(step, metrics, now)
        if self.bars is not None:
            self.bars.update(self.tasks[name], completed=meter.step, left=_left(meter.left(now)), said=meter.said())
            if "" in self.tasks:
                together = sum(meter.step for meter in self.meters.values())
                self.bars.update(self.tasks[""], completed=together, left=_left(self.left(now)))
        elif now - self.last_line >= LINE_EVERY:
            self._line()

    def left(self, now: float) -> float | None:
        """Seconds until all runs have ended, at their joint pace so far; None until a step has been timed.

        Joint, because runs that wait for a processor have no pace of their own yet.
        """
        begun = [meter for meter in self.meters.values() if meter.since is not None]
        remaining = sum(meter.total - meter.step for meter in self.meters.values())
        taken = sum(meter.step - meter.since[0] for meter in begun if meter.since is not None)
        if not remaining:
            return 0.0
        if not taken:
            return None
        first = min(meter.since[1] for meter in begun if meter.since is not None)
        return (now - first) / taken * remaining

    def _line(self) -> None:
        """How many runs have ended, where those under way are, and the time left for all."""
        self.last_line = self.clock()
        ended = sum(meter.ended for meter in self.meters.values())
        several = len(self.meters) > 1
        parts = [f"{ended} of {len(self.meters)} runs finished"] if several else []
        for name, meter in self.meters.items():
            if several and (meter.since is None or meter.ended):
                continue
            said = meter.said()
            parts.append(f"{name} {meter.step}/{meter.total}" + (f" ({said})" if said else ""))
        left = self.left(self.last_line)
        if left:
            parts.append(_left(left))
        self.console.print(" · ".join(parts), markup=False, highlight=False, soft_wrap=True)


class Follower:
    """Reads what runs in other processes append to their metrics.jsonl, and passes it on to a Progress."""

    def __init__(self, progress: Progress, folders: Mapping[str, Path]) -> None:
        self.progress = progress
        self.files = {name: Path(folder) / METRICS for name, folder in folders.items()}
        self.read = dict.fromkeys(folders, 0)

    def poll(self) -> None:
        """Takes in every record that is whole by now; a run that has not begun is waited for."""
        for name, file in self.files.items():
            for record in self._new(name, file):
                self.progress.update(name, record["step"], record)

    def _new(self, name: str, file: Path) -> list[dict[str, Any]]:
        try:
            if file.stat().st_size < self.read[name]:  # cut back by a resume
                self.read[name] = 0
            with file.open("rb") as stream:
                stream.seek(self.read[name])
                fresh = stream.read()
        except OSError:
            return []
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self.read[name] += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # reading the run properly will complain; a progress bar need not
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                found.append(record)
        return found


def follow(
    folders: Mapping[str, Path],
    totals: Mapping[str, int],
    running: Callable[[], bool],
    *,
    console: Console | None = None,
    interval: float = 1.0,
) -> None:
    """Shows runs in other processes until `running()` is false.

    folders and totals: {name: run folder} and {name: number of steps}. `running` is asked every `interval` seconds.
    """
    with Progress(totals, console=console) as progress:
        follower = Follower(progress, folders)
        while running():
            follower.poll()
            time.sleep(interval)
        follower.poll()


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(float(round(seconds)))} left" if seconds > 0 else "finished"


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    # no markup: a run's name may hold brackets
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", style="cyan", markup=False),
        TextColumn("{task.fields[said]}", style="dim", markup=False),
        console=console,
    )
