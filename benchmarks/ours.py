"""Pilotage's side of training rows: the public recipe, run through the library's own loop."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.timing import clock
from pilotage.api import recipe as public_recipe
from pilotage.run.loop import train
from pilotage.run.recipe import Recipe

ENDLESS = 100_000  # steps that a recipe says it has, so that nothing ends within what is timed


def recipe(method: str, world: str, settings: Mapping[str, Any], policy: str | None = None) -> Recipe:
    """A method on a world, judged on as little as possible: only the start and the end are, and neither is timed."""
    quiet = {"evaluation.every": 0, "evaluation.tasks": 2, "evaluation.max_steps": 2, "checkpoint_every": ENDLESS}
    return public_recipe(method, world, policy, steps=ENDLESS, settings={**settings, **quiet})


def timed_run(made: Recipe, rounds: int, skipped: int = 0) -> tuple[float, float, list[dict[str, Any]]]:
    """Wall and processor seconds of `rounds` steps of a fresh run after its first `skipped`, log included, and each
    step's metrics, those of the last step skipped first.

    One more step is run after those: a run's last step is followed by a checkpoint, which the peers do not write.
    """
    marks: list[tuple[float, float]] = []
    metrics: list[dict[str, Any]] = []

    def watch(step: int, found: Mapping[str, Any]) -> None:
        marks.append(clock())  # the first call is the evaluation before the first step
        metrics.append(dict(found))

    with tempfile.TemporaryDirectory(prefix="pilotage-bench-") as aside:
        train(made, Path(aside) / "run", watch=watch, until=skipped + rounds + 1)
    (began, processor), (ended, processor_ended) = marks[skipped], marks[skipped + rounds]
    return ended - began, processor_ended - processor, metrics[max(1, skipped) : skipped + rounds + 1]
