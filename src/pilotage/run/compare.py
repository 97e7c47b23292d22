"""Paired runs: every arm with every seed, each run in a process of its own, all of them continued where they stopped.

OUT/ARM/seed-S     a run's folder
    plan.json      which runs there are to be
    logs/          what each process said
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilotage.data.piece import UsageError
from pilotage.run import checkpoint, loop, starts
from pilotage.run.child import STOPPED
from pilotage.run.log import MANIFEST, METRICS, RECIPE, read_recipe
from pilotage.run.progress import Follower, Progress
from pilotage.run.provenance import COMMAND, command_line
from pilotage.run.recipe import Recipe, difference
from pilotage.run.signals import asked_to_stop

PLAN = "plan.json"
POLL = 0.2  # seconds between looks at the processes


class ComparisonStopped(Exception):
    """The runs were asked to stop, and did, with checkpoints."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    arm: str
    seed: int
    recipe: Recipe
    folder: Path
    log: Path

    @property
    def name(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run has reached its last step."""
        found = checkpoint.latest(self.folder)
        return found is not None and found.name.rstrip("~") == f"step-{self.recipe.steps:06d}"


def plan(arms: Mapping[str, Mapping[int, Recipe]], out: Path) -> list[Job]:
    """The runs, seed by seed, so that pairs are complete early. arms: {name: {seed: recipe}}."""
    seeds = sorted({seed for recipes in arms.values() for seed in recipes})
    return [
        Job(arm, seed, recipes[seed], out / arm / f"seed-{seed}", out / "logs" / f"{arm}-seed-{seed}.log")
        for seed in seeds
        for arm, recipes in arms.items()
        if seed in recipes
    ]


def check_folder(out: Path, jobs: Sequence[Job], resume: bool) -> None:
    """Raises UsageError where the folder is in use, or holds runs of other recipes than these."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; choose another --out")
    if not (out.is_dir() and any(out.iterdir())):
        return
    if not resume:
        raise UsageError(f"{out} exists and is not empty: go on with --resume, or choose another --out")
    if not (out / PLAN).is_file():
        raise UsageError(f"{out} holds something other than a comparison: choose another --out")
    for job in jobs:
        if (job.folder / RECIPE).is_file():
            before = Recipe.from_json(read_recipe(job.folder))
            if before != job.recipe:
                differs = [f"{path}={old}, not {new}" for path, new, old in difference(job.recipe, before)]
                said = f" has {differs[0]}" if differs else " is of another recipe"
                raise UsageError(f"the run in {job.folder}{said}: choose another --out")


def open_folder(out: Path, jobs: Sequence[Job]) -> None:
    """Makes the folder, and writes down what is to run in it."""
    out.mkdir(parents=True, exist_ok=True)
    runs = [{"arm": job.arm, "seed": job.seed, "folder": str(job.folder.relative_to(out))} for job in jobs]
    (out / PLAN).write_text(json.dumps({"runs": runs}, indent=2) + "\n", encoding="utf-8")


def make_starts(jobs: Sequence[Job], show: bool = True) -> None:
    """Makes what the unfinished runs start from, once for all; other comparisons that want the same wait."""
    needed = {
        recipe.digest(): recipe
        for job in jobs
        if not job.finished
        for recipe in (job.recipe.start, job.recipe.data)
        if recipe is not None
    }
    for recipe in needed.values():
        make_start(recipe, show)


def make_start(start: Recipe, show: bool = True) -> None:
    """Makes a start that is not there yet, with a bar of its own. Raises ComparisonStopped if asked to stop."""
    if starts.is_made(start):
        return
    name = f"start ({start.name})"
    with _shown({name: start.steps}, show) as progress:
        watch = progress.watch(name) if progress is not None else None
        try:
            starts.ensure(start, lambda recipe, folder: loop.train_or_resume(recipe, folder, watch=watch))
        except loop.Interrupted:
            raise ComparisonStopped("stopped while making the start, which goes on from its checkpoint") from None


def run_all(jobs: Sequence[Job], at_once: int, *, threads: int = 1, show: bool = True) -> list[str]:
    """Runs what is not finished, `at_once` processes side by side; returns one line for each run that failed.

    Raises ComparisonStopped after SIGTERM or Ctrl-C, all runs stopped with checkpoints.
    """
    pool = _Pool([job for job in jobs if not job.finished], at_once, threads)
    totals = {job.name: job.recipe.steps for job in jobs}
    with asked_to_stop() as asked, pool, _shown(totals, show) as progress:
        follower = Follower(progress, {job.name: job.folder for job in jobs}) if progress is not None else None
        while pool.waiting or pool.running:
            if asked:
                pool.stop()
            pool.turn()
            if follower is not None:
                follower.poll()
            time.sleep(POLL)
        if follower is not None:
            follower.poll()
    if asked:
        raise ComparisonStopped(f"stopped; {sum(job.finished for job in jobs)} of {len(jobs)} runs are finished")
    return pool.failures


@contextlib.contextmanager
def _shown(totals: Mapping[str, int], show: bool) -> Iterator[Progress | None]:
    if not show:
        yield None
        return
    with Progress(totals) as progress:
        yield progress


@dataclass
class _Pool:
    """Processes that are to run, run, and have failed; leaving it kills what still runs."""

    waiting: list[Job]
    at_once: int
    threads: int
    running: dict[str, tuple[Job, subprocess.Popen[str]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    stopping: bool = False

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        for _, process in self.running.values():
            process.kill()
            process.wait()

    def turn(self) -> None:
        """Notes which processes have ended, and starts others in their place."""
        for name, (job, process) in list(self.running.items()):
            if process.poll() is not None:
                del self.running[name]
                self._end(job, process)
        while self.waiting and len(self.running) < self.at_once:
            job = self.waiting.pop(0)
            self.running[job.name] = (job, _start(job, self.threads))

    def stop(self) -> None:
        """Asks all to stop with a checkpoint; once."""
        if not self.stopping:
            self.stopping = True
            self.waiting.clear()
            for _, process in self.running.values():
                process.send_signal(signal.SIGTERM)

    def _end(self, job: Job, process: subprocess.Popen[str]) -> None:
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        code = process.returncode
        if code == 0 or (self.stopping and code in (STOPPED, -signal.SIGTERM)):
            return
        self.failures.append(f"{job.name} failed: {_last_line(job.log) or _ending(code)} (log: {job.log})")


def _start(job: Job, threads: int) -> subprocess.Popen[str]:
    _clear_unborn(job.folder)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    count = str(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment[COMMAND] = json.dumps(command_line())
    with job.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pilotage.run.child", str(job.folder), count],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, who ask each run to stop
        )
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died at once; its log says why
            process.stdin.write(json.dumps(job.recipe.to_json()) + "\n")
            process.stdin.flush()
    return process


def _clear_unborn(folder: Path) -> None:
    """Removes a run folder that was killed while it was being made: without a manifest nothing has happened in it."""
    born = {MANIFEST, METRICS, "checkpoints", "transcripts"}
    if folder.is_dir() and not born & {path.name for path in folder.iterdir()}:
        shutil.rmtree(folder)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _ending(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
