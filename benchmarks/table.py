"""Rewrites the tables of docs/performance.md between their markers from recorded rows: `python -m benchmarks.table`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {} begins: written by benchmarks/table.py -->", "<!-- {} ends -->"
Record = Mapping[str, Any]


def number(value: float | None) -> str:
    """Three digits that mean something, thousands apart."""
    if value is None:
        return ""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "" if value is None else f"{value:.0%}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def verdict(record: Record) -> str:
    """met, missed, or nothing where nothing is asked."""
    return {True: "met", False: "**missed**", None: ""}[record["met"]]


def comparison(records: Sequence[Record]) -> list[str]:
    """Rows with a peer."""
    lines = [
        "| row | ours ÷ peer (pairs) | by processor time | wanted | | ours | peer | unit | share of the matrix limit, "
        "ours / peer |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        if "peer" not in record:
            continue
        ours, peer = record["ours"], record["peer"]
        spread = f"**{record['ratio']:.2f}** ({record['ratio_low']:.2f} – {record['ratio_high']:.2f})"
        wanted = (
            "" if record["target"] is None else f"{'≤' if record['kind'] == 'memory' else '≥'} {record['target']:g}"
        )
        shares = " / ".join(filter(None, (share(side["share_of_matrix_limit"]) for side in (ours, peer))))
        cells = (
            f"`{record['name']}`", spread, _two(record["ratio_by_processor_time"]), wanted, verdict(record),
            number(ours["median"]), number(peer["median"]), record["unit"], shares,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def starting(records: Sequence[Record]) -> list[str]:
    """Rows of seconds."""
    lines = ["| row | what | seconds | wanted | |", "|---|---|---|---|---|"]
    for record in records:
        if record["kind"] == "seconds":
            cells = (f"`{record['name']}`", record["line"], number(record["ours"]["median"]), f"≤ {record['target']:g}")
            lines.append(f"| {' | '.join(cells)} | {verdict(record)} |")
    return lines


def lengths(records: Sequence[Record]) -> list[str]:
    """How long completions were on both sides: that they did the same work."""
    lines = ["| row | side | mean | 10 % | median | 90 % | 99 % | cut |", "|---|---|---|---|---|---|---|---|"]
    for record in records:
        for side in ("ours", "peer"):
            facts = record.get(side, {}).get("facts", {})
            if "mean_length" in facts:
                quantiles = " | ".join(number(facts[f"length_p{q}"]) for q in (10, 50, 90, 99))
                mean, cut = number(facts["mean_length"]), f"{facts['cut']:.1%}"
                lines.append(f"| `{record['name']}` | {side} | {mean} | {quantiles} | {cut} |")
    return lines


def origin(records: Sequence[Record]) -> list[str]:
    """Where the numbers come from."""
    machines = sorted({(r["machine"]["processor"], r["machine"]["processors"]) for r in records})
    versions = sorted({f"{k} {v}" for r in records for s in ("ours", "peer") for k, v in _versions(r, s).items()})
    rates = [r["machine"]["matrix_gigaflops"] for r in records]
    loads = [r["machine"]["load"] for r in records]
    commits = sorted({str(r["commit"])[:7] + ("-modified" if "modified" in str(r["commit"]) else "") for r in records})
    return [
        f"- Machine: {'; '.join(f'{name}, {count} processors' for name, count in machines)}. One torch thread a side.",
        f"- float32 matrix product, one thread: {min(rates):.0f} to {max(rates):.0f} GFLOPS (each row's median).",
        f"- Load average at the end of each row: {min(loads):.1f} to {max(loads):.1f}; the benchmark itself adds 1.",
        f"- Repeats: {', '.join(sorted({str(r['repeats']) for r in records}))} pairs a row, in alternation.",
        f"- Recorded {min(r['started'] for r in records)[:10]} to {max(r['started'] for r in records)[:10]}, commit "
        f"{', '.join(commits)}.",
        f"- Versions: {', '.join(versions)}.",
    ]


def _versions(record: Record, side: str) -> Mapping[str, str]:
    found: Mapping[str, str] = record.get(side, {}).get("versions", {})
    return found


TABLES = {"comparison": comparison, "starting": starting, "lengths": lengths, "origin": origin}


def rewritten(text: str, records: Sequence[Record]) -> str:
    """The page with every table between its markers made anew. Raises ValueError where a marker is missing."""
    for name, table in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the page lacks the markers of {name!r}")
        text = "\n".join([before + begin, *table(records), end + after])
    return text


def recorded(folder: Path) -> list[Record]:
    """The recorded rows, in the order of the harness."""
    paths = (folder / f"{row.name}.json" for row in ROWS)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description="Recorded rows into the docs.")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results" / "bench", metavar="FOLDER")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", metavar="FILE")
    given = parser.parse_args()
    records = recorded(given.results)
    if not records:
        parser.error(f"{given.results} has no recorded rows; run: python -m benchmarks.run")
    given.page.write_text(rewritten(given.page.read_text(encoding="utf-8"), records), encoding="utf-8")


if __name__ == "__main__":
    main()
