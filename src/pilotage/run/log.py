"""Run folders: what a run writes as it goes, and reading it back.

FOLDER/recipe.json             the recipe, whole
       manifest.json           schema, command, versions, commit, platform, and each resume
       metrics.jsonl           one JSON object per training step or evaluation, flushed line by line
       transcripts/step-N.jsonl  sampled episodes as text
       checkpoints/            see pilotage.run.checkpoint
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.run.provenance import provenance

SCHEMA = 1
RECIPE, MANIFEST, METRICS, TRANSCRIPTS = "recipe.json", "manifest.json", "metrics.jsonl", "transcripts"
Kind = Literal["train", "eval"]


class RunLog:
    """Writes one run's folder; made by `create` or `resume`, closed by `close` or as a context manager."""

    def __init__(self, folder: Path, stream: TextIO) -> None:
        self.folder = folder
        self.stream = stream

    @staticmethod
    def create(folder: Path | str, recipe: Mapping[str, Any], **details: Any) -> RunLog:
        """A new run folder with its recipe and manifest; `details` are further JSON-able entries of the manifest.

        Raises UsageError if the folder exists and is not empty.
        """
        folder = Path(folder)
        refuse_used(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / RECIPE, _document(recipe))
        _replace(folder / MANIFEST, _document({"schema": SCHEMA, **provenance(), **details, "resumed": []}))
        return RunLog(folder, (folder / METRICS).open("a", encoding="utf-8"))

    @staticmethod
    def resume(folder: Path | str, step: int | None) -> RunLog:
        """The log of a run that goes on from the checkpoint after `step` steps (None: from the start, all anew).

        Records and transcripts of later steps are dropped, as is a torn last line; the manifest notes the resume.
        Raises UsageError if the folder holds no run.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        limit = -1 if step is None else step
        kept = [record for record in _records(folder / METRICS) if record["step"] <= limit]
        _replace(folder / METRICS, "".join(_line(record) for record in kept))
        for path in _transcripts(folder):
            if _step_of(path) > limit:
                path.unlink()
        manifest["resumed"] = [*manifest.get("resumed", []), {"step": step, **provenance()}]
        _replace(folder / MANIFEST, _document(manifest))
        return RunLog(folder, (folder / METRICS).open("a", encoding="utf-8"))

    def record(self, step: int, kind: Kind, metrics: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: numbers, arrays and tensors of any shape, strings, lists.

        NaN and infinities become null, and `not_finite` in the record says which they were.
        """
        flags: dict[str, str] = {}
        plain = {name: _plain(value, name, flags) for name, value in metrics.items()}
        self.stream.write(_line({"step": step, "kind": kind, **plain, **({"not_finite": flags} if flags else {})}))
        self.stream.flush()

    def transcripts(self, step: int, episodes: Iterable[Mapping[str, Any]]) -> None:
        """Sampled episodes as text, each with `prompt`, `answer`, `reward`, `stop` and whatever else is known."""
        folder = self.folder / TRANSCRIPTS
        folder.mkdir(exist_ok=True)
        lines = []
        for episode in episodes:
            flags: dict[str, str] = {}
            plain = {name: _plain(value, name, flags) for name, value in episode.items()}
            lines.append(_line({"step": step, **plain, **({"not_finite": flags} if flags else {})}))
        _replace(folder / f"step-{step}.jsonl", "".join(lines))

    def close(self) -> None:
        """Brings the metrics to the disk and closes the file."""
        if not self.stream.closed:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """A run's manifest. Raises UsageError if the folder holds no run, or one of a newer schema."""
    manifest = _read_json(Path(folder), MANIFEST)
    if manifest.get("schema", SCHEMA) > SCHEMA:
        raise UsageError(f"{folder} was written by a newer pilotage (schema {manifest['schema']})")
    return manifest


def read_recipe(folder: Path | str) -> dict[str, Any]:
    """A run's recipe as JSON. Raises UsageError if the folder holds no run."""
    return _read_json(Path(folder), RECIPE)


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """Every record of a run, in order; a torn last line is left out. Raises UsageError if there is no run or a line
    other than the last is damaged."""
    path = Path(folder) / METRICS
    if not path.is_file():
        raise UsageError(f"{folder} is not a run folder: it has no {METRICS}")
    return _records(path)


def read_transcripts(folder: Path | str, step: int | None = None) -> list[dict[str, Any]]:
    """Sampled episodes of one step, or of all steps in order; empty where none were kept."""
    wanted = [path for path in _transcripts(Path(folder)) if step is None or _step_of(path) == step]
    return [record for path in wanted for record in _records(path)]


def curve(folder: Path | str, metric: str, x: str = "step") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x, values) of one metric over a run, null as NaN; x is "step" or another metric of the same records.

    Raises UsageError, with the nearest name, for a metric that the run does not have.
    """
    return curve_of(read_metrics(folder), metric, x, str(folder))


def curve_of(
    records: Iterable[Mapping[str, Any]], metric: str, x: str = "step", source: str = "the run"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `curve`, of records already read."""
    records = list(records)
    for name in (metric, x):
        known = {key for record in records for key in record if key not in ("kind", "not_finite")}
        if name not in known:
            raise UsageError(f"{source} has no metric {name!r}; {nearest(name, known)}")
    rows = [(record[x], record[metric]) for record in records if metric in record and x in record]
    pairs = [(np.nan if a is None else float(a), np.nan if b is None else float(b)) for a, b in rows]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def refuse_used(folder: Path) -> None:
    """Raises UsageError if a new run cannot have this folder."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        if (folder / MANIFEST).exists():
            raise UsageError(f"{folder} holds a run: go on with `pilotage resume {folder}`, or choose another --out")
        raise UsageError(f"{folder} exists and is not empty; choose another --out")


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        tree = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{folder} is not a run folder: it has no {name}") from None
    except ValueError:
        raise UsageError(f"{folder / name} is damaged: it is not JSON") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{folder / name} is damaged: it is not a JSON object")
    return tree


def _records(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    # as bytes: a line may be torn in the middle of a character; split at \n only, which JSON text never holds raw
    lines = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines):  # what follows the last newline was never finished
            break
        try:
            record = json.loads(line)
            record["step"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines) - 1:  # a torn line that a later writer closed, or a lost block at the end
                break
            raise UsageError(f"{path} is damaged at line {number}") from None
        found.append(record)
    return found


def _plain(value: Any, name: str, flags: dict[str, str]) -> Any:
    """The value as JSON has it; tensors and arrays through their own `tolist`, so that torch is not needed here."""
    if hasattr(value, "tolist"):
        value = (value.detach() if hasattr(value, "detach") else value).tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}/{key}", flags) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}/{i}", flags) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        flags[name] = repr(float(value))
        return None
    return value


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _document(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def _replace(path: Path, text: str) -> None:
    """Writes a whole file so that a reader, or a kill, finds the old text or the new, never a part."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def _transcripts(folder: Path) -> list[Path]:
    return sorted((folder / TRANSCRIPTS).glob("step-*.jsonl"), key=_step_of)


def _step_of(path: Path) -> int:
    match = re.fullmatch(r"step-(\d+)", path.stem)
    return int(match[1]) if match else -1
