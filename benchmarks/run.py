"""Runs rows and prints a JSON line for each: `python -m benchmarks.run [--rows NAME ...] [--repeats 5] [--out FOLDER]`.

Ours and the peer run in a process each, one torch thread each, and take turns: while one works the other waits. Before
every pair of repeats the machine's rate of float32 matrix products is measured. Each row is written to
FOLDER/<row>.json with where it came from; what is printed is its gist.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, measure
from benchmarks.measure import Measured
from benchmarks.rows import ROWS, Row, chosen
from pilotage.run.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
SCHEMA = 1
UNITS = {"seconds": "seconds", "memory": "MiB"}  # of what a row tells; else its amount in a second


class Worker:
    """A side of a row in its own process; ready once made. Raises RuntimeError where it ends early."""

    def __init__(self, row: Row, side: str) -> None:
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", row.name, side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.printed,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD, **OFFLINE},
        )
        self.what = f"{side} of {row.name}"
        self.facts = self._hear()

    def repeat(self) -> Measured:
        """One repeat."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return Measured(**self._hear())

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.printed.seek(0)
            said = self.printed.read().decode(errors="replace").strip()[-2000:]
            raise RuntimeError(f"{self.what} ended with status {self.process.returncode}: {said}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.printed):
            if pipe is not None:
                pipe.close()


class Clock:
    """Says on stderr how far a run is and how long it will take."""

    def __init__(self, rows: list[Row], repeats: int) -> None:
        self.rows, self.repeats, self.began = rows, repeats, time.monotonic()
        self.planned = sum(row.about for row in rows) * (repeats + 2)
        self.done = 0.0

    def say(self, row: Row, what: str, weight: float = 1.0) -> None:
        """A line, after `weight` repeats' worth of a row."""
        self.done += row.about * weight
        gone = time.monotonic() - self.began
        left = gone / self.done * max(self.planned - self.done, 0) if self.done else self.planned
        print(f"[{gone:5.0f} s, about {left:4.0f} s left] {row.name}: {what}", file=sys.stderr, flush=True)


def run(row: Row, repeats: int, clock: Clock) -> dict[str, Any]:
    """The full record of a row."""
    began = time.monotonic()
    origin = provenance()
    workers: list[Worker] = []
    measured: list[list[Measured]] = [[], []]
    gigaflops = []
    try:
        for side in ("ours", "peer") if row.peer else ("ours",):
            workers.append(Worker(row, side))
            clock.say(row, f"{side} is ready", 1.0 if row.peer else 2.0)
        for number in range(repeats):
            gigaflops.append(machine.matrix_gigaflops())
            for worker, list_of_its in zip(workers, measured, strict=False):
                list_of_its.append(worker.repeat())
            found = " against ".join(f"{measure.values(m, row.kind)[-1]:.4g}" for m in measured if m)
            clock.say(row, f"repeat {number + 1} of {repeats}: {found} {unit(row)}")
    finally:
        for worker in workers:
            worker.close()
    rate = statistics.median(gigaflops)
    sides = {
        name: {**measure.summary(m, rate, row.kind), **worker.facts}
        for name, m, worker in zip(("ours", "peer"), measured, workers, strict=False)
    }
    return {
        "schema": SCHEMA,
        "name": row.name,
        "line": row.line,
        "unit": unit(row),
        "kind": row.kind,
        "target": row.target,
        **verdict(row, measured),
        **sides,
        "repeats": repeats,
        "settings": dict(row.settings),
        "machine": {
            "processor": machine.processor(),
            "processors": os.cpu_count(),
            "matrix_gigaflops": rate,
            "load": os.getloadavg()[0],
        },
        "seconds": time.monotonic() - began,
        **{key: origin[key] for key in ("started", "command", "commit", "versions", "platform")},
    }


def unit(row: Row) -> str:
    """What a row's numbers are of."""
    return UNITS.get(row.kind, f"{row.amount} per {row.per}")


def verdict(row: Row, measured: list[list[Measured]]) -> dict[str, Any]:
    """The ratio with its spread, by wall and by processor time, and whether the target is met."""
    if row.kind == "seconds":
        return {"met": row.met(statistics.median(r.seconds / r.amount for r in measured[0]))}
    wall = measure.ratio(*(measure.values(m, row.kind) for m in measured))
    processor = measure.ratio(*(measure.rates(m, cpu=True) for m in measured))
    return {
        "ratio": wall.value,
        "ratio_low": wall.low,
        "ratio_high": wall.high,
        "ratio_by_processor_time": None if row.kind == "memory" else processor.value,
        "met": row.met(wall.value),
    }


def gist(record: dict[str, Any]) -> dict[str, Any]:
    """What is printed of a record."""
    shown = ("name", "ratio", "ratio_low", "ratio_high", "ratio_by_processor_time", "target", "met", "unit", "repeats")
    found = {key: record[key] for key in shown if key in record}
    for side in ("ours", "peer"):
        if side in record:
            inner = record[side]
            found[side] = {key: inner[key] for key in ("median", "share_of_matrix_limit", "versions", "facts")}
            found["torch_threads"] = inner["torch_threads"]
    return {**found, "machine": record["machine"]}


def rounded(value: Any) -> Any:
    """A JSON tree with four digits to each float: more than repeats agree on."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def main() -> int:
    """The command; 1 if a row could not be run (a missed target is a result, not a failure)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Side by side with peers.")
    parser.add_argument("--rows", nargs="*", default=[], metavar="NAME", help="only rows whose name starts so")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of repeats (5)")
    parser.add_argument("--out", type=Path, default=ROOT / "experiments" / "results" / "bench", metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    given = parser.parse_args()
    try:
        rows = chosen(given.rows)
    except ValueError as error:
        parser.error(str(error))
    if given.repeats < 1:
        parser.error("--repeats is at least 1")
    if given.list:
        print("\n".join(f"{row.name:22s} {row.line}" for row in ROWS))
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    clock, failed = Clock(rows, given.repeats), 0
    for row in rows:
        try:
            record = run(row, given.repeats, clock)
        except RuntimeError as error:
            print(json.dumps({"name": row.name, "error": str(error).splitlines()[-1]}), flush=True)
            print(error, file=sys.stderr)
            failed = 1
            continue
        text = json.dumps(rounded(record), indent=2, ensure_ascii=False)
        (given.out / f"{row.name}.json").write_text(text + "\n", encoding="utf-8")
        print(json.dumps(rounded(gist(record)), ensure_ascii=False), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
