"""Recorded results: what was measured of a method in `experiments/results`, if anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def folder() -> Path | None:
    """Where results are: beside the source tree, or under the current directory."""
    for place in (Path(__file__).parents[2], Path.cwd()):
        if (place / "experiments" / "results").is_dir():
            return place / "experiments" / "results"
    return None


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
        try:
            tree: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            tree = None
        verdict = tree.get("verdict") if isinstance(tree, dict) else None
        found.append(f"{verdict} ({path.name})" if verdict else f"see {path}")
    return found
