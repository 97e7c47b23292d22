"""A user's settings: values at the paths of a recipe, from texts or from Python."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, is_dataclass
from typing import Any

from pilotage.data.piece import Piece, UsageError
from pilotage.run.recipe import KINDS, Recipe


def full_path(of: Recipe, path: str) -> str:
    """The full path a shorter one means; empty where the recipe has none."""
    try:
        return of.resolve(path)
    except UsageError:
        return ""


def set_path(of: Recipe, path: str, value: Any) -> Recipe:
    """A recipe with a user's value at a path; texts become what the path holds. Raises UsageError."""
    holder, _, key = path.rpartition(".")
    open_to_all = {"credit": of.credit, "evaluation.measures": of.evaluation.measures}
    named = Piece(value) if isinstance(value, str) and ":" in value else value
    if key not in open_to_all.get(holder, (key,)) and isinstance(named, Piece):
        return of.vary("you", {path: named})  # a measure, or a link at the end of the chain, of one's own
    full = of.resolve(path)
    holder, _, key = full.rpartition(".")
    declared = _declared(of.get(holder) if holder else of, key)
    return of.vary("you", {full: _fitted(full, of.get(full), value, declared)})


def _declared(holder: Any, key: str) -> str:
    """The type that stands in the code for a field or a setting; empty where any will do."""
    if isinstance(holder, Piece):
        parameter = inspect.signature(holder.target).parameters.get(key)
        return "" if parameter is None or parameter.annotation is parameter.empty else str(parameter.annotation)
    if is_dataclass(holder):
        return next((str(field.type) for field in fields(holder) if field.name == key), "")
    return ""


def apply(piece: Piece, prefix: str, asked: dict[str, Any]) -> Piece:
    """Takes the settings under a prefix out of `asked` and gives them to the piece."""
    for path in [p for p in asked if p.startswith(prefix + ".")]:
        key = path.removeprefix(prefix + ".")
        value = asked.pop(path)
        holder, _, inner = key.partition(".")
        if inner:  # an entry of a setting that is itself a mapping
            entries = dict(piece.defaults().get(holder) or {})
            piece = piece.having(**{holder: {**entries, inner: _parsed(value)}})
        else:
            piece = piece.having(**{key: _fitted(path, piece.defaults().get(key), value, _declared(piece, key))})
    return piece


def _parsed(value: Any) -> Any:
    """A text as JSON where it is JSON; `none` is None, lists are tuples."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    if value.lower() in ("none", "null"):
        return None
    try:
        found = json.loads(value.lower() if value in ("True", "False") else value)
    except json.JSONDecodeError:
        return value
    return tuple(found) if isinstance(found, list) else found


def _fitted(path: str, before: Any, value: Any, declared: str) -> Any:
    """A user's value in the kind of the one it replaces. Raises UsageError where it cannot be."""
    found = _parsed(value)
    if isinstance(before, Piece) and isinstance(found, str) and ":" in found:
        return Piece(found)
    if found is None and declared and "None" not in declared:
        raise UsageError(f"{path} takes {_kind(before)}, not none")
    if before is None and found is not None and declared:
        _check_declared(path, found, declared)
    if before is None or found is None or isinstance(value, Piece):
        return found
    if isinstance(before, str):
        return str(value)
    if isinstance(before, tuple) and isinstance(found, int | float):
        return (found,)
    if isinstance(before, float) and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    if isinstance(before, float) and found in ("inf", "-inf"):
        return float(found)
    if isinstance(before, int) and not isinstance(before, bool) and isinstance(found, float) and found.is_integer():
        return int(found)
    if not isinstance(found, type(before)) or isinstance(found, bool) != isinstance(before, bool):
        raise UsageError(f"{path} takes {_kind(before)}, not {value!r}")
    return found


def _check_declared(path: str, found: Any, declared: str) -> None:
    """Raises UsageError for a value that cannot be what is declared, as far as names of plain types tell."""
    if "Recipe" in declared and not isinstance(found, Recipe):
        raise UsageError(f"{path} is a recipe: from here it can be set to none, or changed by paths under it")
    names = {name.strip() for name in declared.split("|")} - {"None"}
    plain = {kind.__name__: kind for kind in (bool, int, float, str)}
    if not names <= plain.keys():
        return
    kinds = {plain[name] for name in names} | ({int} if "float" in names else set())
    if type(found) not in kinds:
        raise UsageError(f"{path} takes {' or '.join(KINDS[plain[name]] for name in sorted(names))}, not {found!r}")


def _kind(value: Any) -> str:
    names = {**KINDS, tuple: "a list such as [64,64]", Piece: "an import path module:name"}
    return names.get(type(value), "settings of its own, by their paths")
