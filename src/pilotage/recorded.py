"""Experiments and recorded results: what is put to the test in `experiments/`, and what was measured."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any


def folder() -> Path | None:
    """Where results are: beside the source tree, or under the current directory."""
    for place in (Path(__file__).parents[2], Path.cwd()):
        if (place / "experiments" / "results").is_dir():
            return place / "experiments" / "results"
    return None


def modules() -> list[str]:
    """The modules of the repository's experiments, importable from here on; none where there is no checkout."""
    home = folder()
    if home is None:
        return []
    root = str(home.parents[1])
    if root not in sys.path:
        sys.path.append(root)
    declaring = (p for p in sorted(home.parent.glob("*.py")) if re.search("^EXPERIMENT = ", p.read_text("utf-8"), re.M))
    return [f"experiments.{path.stem}" for path in declaring]


def experiments() -> dict[str, str]:
    """Each experiment's name, which is also its result's, to its module; imports them all."""
    return {importlib.import_module(module).EXPERIMENT.name: module for module in modules()}


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
