"""The command line of an experiment's file: python -m experiments.NAME [--quick] [--jobs J].

The result is experiments/results/NAME.json: the criterion, every seed's numbers, the comparisons and the verdict.
`--quick` runs a small version to see that all works, and records nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pilotage.learn.learner import RunStopped
from pilotage.run.compare import ComparisonStopped
from pilotage.run.experiment import RUNS, Comparisons, Experiment, Judged, Runs, run
from pilotage.run.wording import plain

RESULTS = Path(__file__).parent / "results"


def main(experiment: Experiment) -> int:
    """Runs, prints the verdict and records it; returns the exit status."""
    parser = argparse.ArgumentParser(description=f"{experiment.claim}\n\nCriterion: {experiment.criterion}")
    parser.add_argument("--quick", action="store_true", help="a small version, not recorded")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    asked = parser.parse_args()
    module = getattr(sys.modules["__main__"].__spec__, "name", experiment.name)
    try:
        _, judged, found = run(experiment, f"python -m {module}", quick=asked.quick, jobs=asked.jobs)
    except (RunStopped, ComparisonStopped) as error:
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
    path.write_text(written(found), encoding="utf-8")
    print(f"recorded in {path}")
    return 0


def written(found: Any) -> str:
    """A record as a file holds it: JSON, a line for each entry, and for each point of a curve."""
    number = r"(-?[\d.e+-]+|null)"
    lines = json.dumps(plain(found), indent=1, ensure_ascii=False)
    return re.sub(rf"\[\s+{number},\s+{number}\s+\]", r"[\1, \2]", lines) + "\n"


__all__ = ["RESULTS", "RUNS", "Comparisons", "Experiment", "Judged", "Runs", "main", "run"]
