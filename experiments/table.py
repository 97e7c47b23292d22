"""docs/results.md from experiments/results/*.json: `python -m experiments.table [--check]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import RESULTS
from pilotage.run.wording import Wording, duration

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
START, END = "<!-- results: start -->", "<!-- results: end -->"


def table() -> str:
    """One row for each recorded result, then the details of each."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    if not found:
        return "Nothing is recorded yet."
    head = "| experiment | claim | measured | seeds | verdict |\n|---|---|---|---|---|"
    rows = [
        f"| [{one['name']}](#{one['name'].replace('.', '')}) | {_cell(one['claim'])} | {_cell(one['because'])} | "
        f"{len(one['seeds'])} | **{one['verdict']}** |"
        for one in found
    ]
    return "\n\n".join(["\n".join([head, *rows]), *map(_details, found)])


def page(text: str) -> str:
    """The page with a fresh table between its markers."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


def _details(one: Mapping[str, Any]) -> str:
    share = Wording(one["metric"]).accuracy
    head = "| arm | start | end | best | seconds a run |\n|---|---|---|---|---|"
    rows = [
        f"| {label} | {_interval(arm['start'], share)} | {_interval(arm['final'], share)} | "
        f"{_interval(arm['best'], share)} | {_seconds(arm['runs'])} |"
        for label, arm in one["arms"].items()
    ]
    said = "\n".join(f"- {comparison['verdict']}" for comparison in one["comparisons"])
    came = one["provenance"]
    commits = ", ".join(commit[:10] + commit[40:].replace("-", " ") for commit in came["commits_of_runs"])
    origin = (
        f"`{came['command']}` at commit {commits}; {duration(one['seconds'])} of training in all, {came['machine']}."
    )
    parts = [f"### {one['name']}", f"Criterion, written before the runs: {one['criterion']}", "\n".join([head, *rows])]
    return "\n\n".join([*parts, *([said] if said else []), origin])


def _interval(found: Mapping[str, float | None], share: bool) -> str:
    def shown(value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value * 100:.1f} %" if share else f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"

    estimate, low, high = (shown(found[key]) for key in ("estimate", "low", "high"))
    return f"{estimate} ({low} to {high})"


def _seconds(runs: list[Mapping[str, Any]]) -> str:
    return duration(sum(run["seconds"] for run in runs) / len(runs))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    fresh = page(text)
    if "--check" in sys.argv[1:]:
        if fresh != text:
            print(f"{PAGE} is out of date: python -m experiments.table", file=sys.stderr)
        return int(fresh != text)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
