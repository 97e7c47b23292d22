"""From Python as from the command line: recipes by name, training, evaluation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import Piece, UsageError
from pilotage.data.tasks import Text
from pilotage.methods.method import stacked
from pilotage.methods.roots import root, speaks
from pilotage.policies.registry import resolve_policy
from pilotage.run import checkpoint, log, loop
from pilotage.run.assemble import Parts, assemble
from pilotage.run.evaluate import Evaluator
from pilotage.run.recipe import Recipe
from pilotage.worlds import registry

DEFAULT_WORLD = "reasoning:chain_sum"


def recipe(
    name: str,
    world: str | type | Piece = DEFAULT_WORLD,
    policy: str | type | Piece | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of a method, or of a stack `one+two`, on a world with a policy.

    settings: values at dotted paths (shorter where unique): `{"policy.hidden": (32, 32), "learning_rate": 1e-3}`.
    Those of world and policy are set before the method is applied, since defaults depend on them. Raises UsageError.
    """
    asked = dict(settings or {})
    world_piece = _apply(_piece_of(world, registry.resolve), "world", asked)
    made = world_piece.build()
    speaking = isinstance(made.action, Text)
    policy_piece = _apply(_piece_of(policy or ("lm" if speaking else "mlp"), resolve_policy), "policy", asked)
    base = root(world_piece, policy_piece, made.action, seed)
    found = stacked(name, base)
    if getattr(policy_piece.target, "untrained", False) and hasattr(made, "demonstrate") and speaks(found):
        found = replace(found, start=stacked("sft", replace(base, seed=0)))
    made.close()
    if steps is not None:
        asked["steps"] = steps
    for path, value in asked.items():
        found = set_path(found, path, value)
    return found


def set_path(of: Recipe, path: str, value: Any) -> Recipe:
    """A recipe with a user's value at a path; texts become what the path holds. Raises UsageError."""
    holder, _, key = path.rpartition(".")
    if holder == "credit" and key not in of.credit and isinstance(value, str) and ":" in value:
        return of.vary("you", {path: Piece(value)})  # a link of one's own, at the end of the chain
    full = of.resolve(path)
    return of.vary("you", {full: _fitted(full, of.get(full), value)})


def _apply(piece: Piece, prefix: str, asked: dict[str, Any]) -> Piece:
    """Takes the settings under a prefix out of `asked` and gives them to the piece."""
    for path in [p for p in asked if p.startswith(prefix + ".")]:
        key = path.removeprefix(prefix + ".")
        value = asked.pop(path)
        holder, _, inner = key.partition(".")
        if inner:  # an entry of a setting that is itself a mapping
            entries = dict(piece.defaults().get(holder) or {})
            piece = piece.having(**{holder: {**entries, inner: _parsed(value)}})
        else:
            piece = piece.having(**{key: _fitted(path, piece.defaults().get(key), value)})
    return piece


def _piece_of(given: str | type | Piece, resolve: Callable[[str], Piece]) -> Piece:
    if isinstance(given, Piece):
        return given
    if isinstance(given, type):
        return Piece(f"{given.__module__}:{given.__qualname__}")
    return resolve(given)


def _parsed(value: Any) -> Any:
    """A text as JSON where it is JSON, with `none` and lists a,b."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    if value.lower() in ("none", "null"):
        return None
    try:
        found = json.loads(value.lower() if value in ("True", "False") else value)
    except json.JSONDecodeError:
        return value
    return tuple(found) if isinstance(found, list) else found


def _fitted(path: str, before: Any, value: Any) -> Any:
    """A user's value in the kind of the one it replaces. Raises UsageError where it cannot be."""
    if isinstance(before, Piece) and isinstance(value, str):
        return Piece(value)
    found = _parsed(value)
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
    if not isinstance(found, type(before)):
        raise UsageError(f"{path} takes {_kind(before)}, not {value!r}")
    return found


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list such as [64,64]"}
    return names.get(type(value), f"a {type(value).__name__}")


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be read from it."""

    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe it ran."""
        return Recipe.from_json(log.read_recipe(self.folder))

    def metrics(self) -> list[dict[str, Any]]:
        """Every record of metrics.jsonl."""
        return log.read_metrics(self.folder)

    def curve(self, metric: str, x: str = "step") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, values) of one metric, e.g. `eval/accuracy`. Raises UsageError for one it does not have."""
        return log.curve(self.folder, metric, x)

    def resume(self, **settings: Any) -> Run:
        """Goes on exactly where the last checkpoint stands."""
        return Run(loop.resume(self.folder, **settings))

    def load(self) -> Parts:
        """The run's parts as its last checkpoint has them: `run.load().policy` is the trained policy."""
        found = checkpoint.latest(self.folder)
        if found is None:
            raise UsageError(f"{self.folder} has no checkpoint yet")
        parts = assemble(self.recipe)
        parts.load_state_dict(checkpoint.load(found)[1]["parts"])
        return parts

    def evaluate(self, tasks: int | None = None, samples: int | None = None) -> dict[str, Any]:
        """Judges the last checkpoint on held-out tasks: the metric, a 95 % interval, per-task means."""
        made = self.recipe
        judged = made.evaluation
        judged = replace(judged, tasks=tasks or judged.tasks, samples=samples or judged.samples)
        made = replace(made, evaluation=judged)
        parts = self.load()
        evaluator = Evaluator(made)
        try:
            return evaluator(parts.policy, step=made.steps)[0]
        finally:
            evaluator.close()
            parts.world.close()


def train(
    name: str | Recipe,
    world: str | type | Piece = DEFAULT_WORLD,
    policy: str | type | Piece | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: loop.Watch | None = None,
) -> Run:
    """Trains a method on a world; returns its Run. `out` is a new folder (a temporary one if not given)."""
    made = name if isinstance(name, Recipe) else recipe(name, world, policy, seed=seed, steps=steps, settings=settings)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="pilotage-")) / made.name
    return Run(loop.train(made, folder, watch=watch))


def resume(folder: str | Path) -> Run:
    """Goes on exactly where a run's last checkpoint stands."""
    return Run(loop.resume(Path(folder)))


__all__ = ["Run", "recipe", "resume", "set_path", "train"]
