"""Preference files: JSON lines of a prompt, a chosen and a rejected answer. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.data.piece import UsageError, nearest

FIELDS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Preference:
    """One line: two different answers to a prompt."""

    prompt: str
    chosen: str
    rejected: str


def read(path: Path) -> list[Preference]:
    """The pairs of a file, one a line; blank lines are skipped.

    A field is a text, or a list with one message `{"role": …, "content": …}`; without a prompt, both sides hold the
    same user's message first. Raises UsageError, with the line's number, for a line that is no such pair, for one whose
    sides are the same, and for a file without a pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    found = [_pair(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UsageError(f"{path} holds no pair: each line is an object with {', '.join(FIELDS)}")
    return found


def digest(path: Path) -> str:
    """A hash of the file's bytes. Raises UsageError where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _pair(line: str, where: str) -> Preference:
    try:
        tree = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON ({error.msg}, column {error.colno})") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{where}: an object with {', '.join(FIELDS)} is needed, not {type(tree).__name__}")
    tree = _prompted(tree)
    for name in FIELDS:
        if name not in tree:
            raise UsageError(f"{where}: {name!r} is missing; {nearest(name, tree)}")
    made = Preference(*(_text(tree[name], name, where) for name in FIELDS))
    if made.chosen == made.rejected:
        raise UsageError(f"{where}: chosen and rejected are the same, so nothing is preferred")
    return made


def _prompted(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Conversations without a prompt of their own, with what both begin with taken out as the prompt."""
    sides = [tree.get("chosen"), tree.get("rejected")]
    if "prompt" in tree or not all(isinstance(side, list) and len(side) == 2 for side in sides):
        return tree
    (one, chosen), (other, rejected) = sides  # type: ignore[misc]
    return {**tree, "prompt": [one], "chosen": [chosen], "rejected": [rejected]} if one == other else tree


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    one = value[0] if isinstance(value, list) and len(value) == 1 else None
    if isinstance(one, dict) and isinstance(one.get("content"), str):
        return str(one["content"])
    raise UsageError(f"{where}: {name!r} is a text or a list of one message with a text as content")
