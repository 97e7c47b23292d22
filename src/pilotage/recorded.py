"""Experiments and recorded results: what is put to the test in `experiments/`, and what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def folder() -> Path | None:
    """Where results are: beside the source tree, or under the current directory."""
    for place in (Path(__file__).parents[2], Path.cwd()):
        if (place / "experiments" / "results").is_dir():
            return place / "experiments" / "results"
    return None


def experiments() -> dict[str, str]:
    """Each experiment's name, which is also its result's, to its module's: read off the files, none is imported."""
    home = folder()
    found = {}
    for path in sorted(home.parent.glob("*.py")) if home else ():
        declared = re.search(r'^EXPERIMENT = Experiment\(\s*name="([^"]+)"', path.read_text(encoding="utf-8"), re.M)
        if declared:
            found[declared[1]] = f"experiments.{path.stem}"
    return found


def result(name: str) -> dict[str, Any] | None:
    """What is recorded of an experiment; None where nothing is, or nothing that can be read."""
    home = folder()
    try:
        tree = json.loads((home / f"{name}.json").read_text(encoding="utf-8")) if home else None
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def files(slug: str) -> list[Path]:
    """The recorded results of a method: SLUG.json, or SLUG.WORLD.json and the like."""
    home = folder()
    return sorted(p for p in home.glob("*.json") if p.name.split(".")[0] == slug) if home else []


def status(slug: str) -> str:
    """ "result recorded" or "tested": every method in the package is in the tests."""
    return "result recorded" if files(slug) else "tested"


def results(slug: str) -> list[str]:
    """One line for each recorded result: its verdict where it states one, and its file."""
    found = []
    for path in files(slug):
        verdict = (result(path.stem) or {}).get("verdict")
        found.append(f"{verdict} ({path.name})" if verdict else f"see {path}")
    return found
