"""The recipe: one of each concept, with sizes and a seed. It is the configuration, the explanation and the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pilotage.data.piece import Piece, UsageError, nearest
from pilotage.learn.terms import Objective, Target, Term

SCHEMA = 1
FLOAT = "$float"
MISSING = object()
# fields younger than recorded runs: with these values they leave digests as they were
ADDED = {"where": "", "by": "", "after": 0}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Evaluation:
    """When and on what a policy is judged: `tasks` held-out tasks, `samples` episodes each, every `every` steps.

    temperature applies to language (0: greedy); `greedy` to actions. The first and the last policy are always judged.
    policy: the name of a target that is judged in place of the policy itself, such as an average of its weights.
    measures: what else is found out of a policy each time, see `pilotage.run.measures`.
    """

    every: int = 20
    tasks: int = 200
    samples: int = 1
    temperature: float = 1.0
    greedy: bool = False
    max_steps: int = 1000
    policy: str = ""
    measures: Mapping[str, Piece] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least(self, 0, "evaluation.", "every", "temperature")
        _at_least(self, 1, "evaluation.", "tasks", "samples", "max_steps")


@dataclass(frozen=True)
class Limits:
    """Where a run stops rather than go on wrongly.

    mismatch: mean KL between the sampler's and the trainer's log-probs of the same decisions. invalid: share of
    episodes of a step without a valid verdict.
    """

    mismatch: float = 1e-2
    invalid: float = 0.5

    def __post_init__(self) -> None:
        _at_least(self, 0, "limits.", "mismatch", "invalid")


@dataclass(frozen=True)
class Recipe:
    """A method on a world with a policy, in full.

    credit: links applied to what a step played, in order, before it is stored. drawn: links applied to each batch as
    the learner draws it (targets of critics, noise). targets: copies of the policy that follow it. `changed` names who
    set each path last; it is not part of the identity. A recipe with a start may have 0 steps: its run judges the
    start, acting as this recipe says.
    """

    name: str
    world: Piece
    policy: Piece
    sampler: Piece
    rollout: Piece
    credit: Mapping[str, Piece]
    terms: Mapping[str, Term]
    store: Piece
    drawn: Mapping[str, Piece] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    learner: Piece = field(default_factory=lambda: Piece("pilotage.learn.learner:Learner"))
    start: Recipe | None = None
    data: Recipe | None = None
    prompts_per_step: int = 32
    samples_per_prompt: int = 8
    steps: int = 100
    seed: int = 0
    checkpoint_every: int = 50
    evaluation: Evaluation = field(default_factory=Evaluation)
    limits: Limits = field(default_factory=Limits)
    changed: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _at_least(self, 1, "", "prompts_per_step", "samples_per_prompt", "checkpoint_every")
        _at_least(self, 1 if self.start is None else 0, "", "steps")

    def vary(self, by: str, changes: Mapping[str, Any], *, among: frozenset[str] = frozenset()) -> Recipe:
        """This recipe with the values at dotted paths replaced, remembered as set by `by`.

        A path whose piece is replaced (`credit.advantage`) or a leaf in it (`credit.advantage.std`). None removes a
        named credit or objective. Raises UsageError where one of `among` (the other methods of a stack) has set the
        same path to a different value, with the path's name.
        """
        recipe, changed = self, dict(self.changed)
        for path, value in changes.items():
            before = recipe.get(path, missing=None)
            for other_path, owner in self.changed.items():
                overlap = _covers(path, other_path) or _covers(other_path, path)
                if owner in among and owner != by and overlap and before != value:
                    raise UsageError(f"{owner} and {by} both set {path!r}, to different values; choose one of them")
            try:
                recipe = typing.cast(Recipe, _put(recipe, path.split("."), value, path))
            except UsageError as error:
                if recipe.get(path, missing=MISSING) is not MISSING:
                    raise  # it is there, and refuses the value
                raise UsageError(f"{by} changes {path!r}, which this recipe does not have: {error}") from None
            changed[path] = by
        return replace(recipe, changed=changed)

    def get(self, path: str, **default: Any) -> Any:
        """The value at a dotted path. Raises UsageError for an unknown one, unless a default `missing=` is given."""
        here: Any = self
        for i, key in enumerate(path.split(".")):
            inside = _children(here)
            if key not in inside:
                if default:
                    return default["missing"]
                raise UsageError(f"the recipe has no {path!r}; {nearest(key, inside)}" + _under(path, i))
            here = inside[key]
        return here

    def leaves(self) -> dict[str, Any]:
        """Every leaf by dotted path, pieces' default settings included: what two recipes are compared by."""
        return dict(_leaves(self, ""))

    def resolve(self, path: str) -> str:
        """The full path that a user's shorter one means: exact, or the only path that ends with it; where several
        objectives have it, as all have a `loss`, the policy's. Raises UsageError."""
        known = list(self.leaves())
        containers = {p.rsplit(".", n)[0] for p in known for n in range(1, p.count(".") + 1)}
        if path in known or path in containers:
            return path
        # a name by itself means the shallowest place it stands in
        ends = [p for p in (*known, *containers) if p.endswith("." + path)]
        ends = [p for p in ends if not p.startswith(("start.", "data."))] or ends
        if ends and all(".objectives." in p for p in ends):
            ends = [p for p in ends if p.startswith("terms.policy.objectives.policy.")] or ends
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise UsageError(f"{path!r} could be {', '.join(sorted(ends))}: write one of them")
        parent = path.rpartition(".")[0]
        candidates = [p for p in known if p.startswith(parent + ".")] if parent else known
        raise UsageError(f"the recipe has no {path!r}; {nearest(path, candidates or known)}")

    def to_json(self) -> dict[str, Any]:
        """A JSON tree that `from_json` reads back to an equal recipe."""
        return {"schema": SCHEMA, **_encode(self)}

    @staticmethod
    def from_json(tree: Mapping[str, Any]) -> Recipe:
        """Raises UsageError for another schema, an unknown or a missing key."""
        if tree.get("schema") != SCHEMA:
            raise UsageError(f"this recipe has schema {tree.get('schema')!r}; this version reads {SCHEMA}")
        rest = {k: v for k, v in tree.items() if k != "schema"}
        return typing.cast(Recipe, _decode(Recipe, rest, "recipe"))

    def digest(self) -> str:
        """A hash of everything that can change what is learnt: default settings too, so that a default changed in code
        makes another recipe; not names, nor when it is judged or saved."""
        aside = {"name", "evaluation", "checkpoint_every"}
        learnt = {
            path: value
            for path, value in self.leaves().items()
            if not aside & set(path.split(".")) and ADDED.get(path.rpartition(".")[2], MISSING) != value
        }
        return hashlib.sha256(json.dumps(learnt, sort_keys=True, default=str).encode()).hexdigest()[:16]


def difference(a: Recipe, b: Recipe) -> list[tuple[str, Any, Any]]:
    """Paths at which two recipes differ, with both values (None where absent); names and provenance aside."""
    left, right = a.leaves(), b.leaves()
    return [
        (path, left.get(path), right.get(path))
        for path in sorted(left.keys() | right.keys())
        if path != "name" and left.get(path) != right.get(path)
    ]


def _at_least(of: Any, least: int, where: str, *names: str) -> None:
    """Raises UsageError for a field below its least value; NaN is below everything."""
    for name in names:
        if not getattr(of, name) >= least:
            raise UsageError(f"{where}{name} is at least {least}, not {getattr(of, name)}")


def _under(path: str, depth: int) -> str:
    return f" (under {'.'.join(path.split('.')[:depth])})" if depth else ""


def _covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer + ".")


def _children(value: Any) -> dict[str, Any]:
    if isinstance(value, Piece):
        return {"use": value.use, **value.defaults()}
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value) if f.name != "changed"}
    return {}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    inside = _children(value)
    # settings that are mappings themselves (a world's own options) stay one leaf
    if not inside or (isinstance(value, Mapping) and path.count(".") > 1 and not _has_parts(value)):
        yield path, value
        return
    for key, child in inside.items():
        yield from _leaves(child, f"{path}.{key}" if path else key)


def _has_parts(value: Mapping[str, Any]) -> bool:
    return any(isinstance(v, Piece | Objective | Term) for v in value.values())


def _put(holder: Any, keys: list[str], value: Any, path: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(holder, Piece):
        if rest:
            inner = dict(holder.defaults().get(key) or {})
            return holder.having(**{key: _put(inner, rest, value, path)})
        return Piece(value) if key == "use" else holder.having(**{key: value})
    if isinstance(holder, Mapping):
        if not rest:
            kept = {k: v for k, v in holder.items() if k != key}
            if value is None:
                return kept
            return {k: (value if k == key else v) for k, v in holder.items()} if key in holder else {**kept, key: value}
        if key not in holder:
            raise UsageError(f"there is no {key!r} in {path!r}; {nearest(key, holder)}")
        return {**holder, key: _put(holder[key], rest, value, path)}
    known = {f.name for f in fields(holder)} - {"changed"}
    if key not in known:
        raise UsageError(f"there is no {key!r} in {path!r}; {nearest(key, known)}")
    if not rest:
        return replace(holder, **{key: value})
    return replace(holder, **{key: _put(getattr(holder, key), rest, value, path)})


def _encode(value: Any) -> Any:
    if isinstance(value, Piece):
        return {k: _encode(v) for k, v in value.to_json().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        tree = {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
        return {"schema": SCHEMA, **tree} if isinstance(value, Recipe) else tree
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}  # JSON has no infinity
    return value


def _decode(kind: Any, tree: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in typing.get_args(kind) if a is not type(None)]
        return None if tree is None else _decode(options[0], tree, where)
    if kind is Piece:
        return Piece.from_json({k: _settled(v) for k, v in tree.items()})
    if kind is Recipe and where != "recipe":
        return Recipe.from_json(tree)
    if origin is not None and issubclass(origin, Mapping):
        inner = typing.get_args(kind)[1]
        return {k: _decode(inner, v, f"{where}.{k}") for k, v in tree.items()}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for key in tree:
            if key not in hints:
                raise UsageError(f"{where} has no key {key!r}; {nearest(key, hints)}")
        missing = [f.name for f in fields(kind) if f.name not in tree and _needed(f)]
        if missing:
            raise UsageError(f"{where} lacks {', '.join(missing)}")
        return kind(**{k: _decode(hints[k], v, f"{where}.{k}") for k, v in tree.items()})  # type: ignore[operator]
    found = _settled(tree)
    if kind is float and type(found) is int:
        return float(found)
    if isinstance(kind, type) and not (isinstance(found, kind) and isinstance(found, bool) == (kind is bool)):
        raise UsageError(f"{where} takes {KINDS.get(kind, kind.__name__)}, not {tree!r}")
    return found


def _needed(of: dataclasses.Field[Any]) -> bool:
    return of.default is dataclasses.MISSING and of.default_factory is dataclasses.MISSING


def _settled(value: Any) -> Any:
    """JSON has no tuples; settings that are sequences are tuples here, so that recipes stay comparable."""
    if isinstance(value, list):
        return tuple(_settled(v) for v in value)
    if isinstance(value, dict):
        return float(value[FLOAT]) if value.keys() == {FLOAT} else {k: _settled(v) for k, v in value.items()}
    return value
