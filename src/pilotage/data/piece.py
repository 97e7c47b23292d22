"""A Piece names a function or class by import path, with settings: what recipes are made of, and JSON-able."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

LISTED = 30  # names that a message lists at most


class UsageError(Exception):
    """A user's mistake, said in one line; the command line prints it and exits with status 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence part naming the nearest known name, or the known ones where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(names) > LISTED:
        return f"known: {', '.join(names[:LISTED])} and {len(names) - LISTED} more"
    return f"known: {', '.join(names)}" if names else "there are none"


def load(path: str) -> Any:
    """The object an import path `package.module:name` stands for. Raises UsageError."""
    module_name, _, name = path.partition(":")
    if not name:
        raise UsageError(f"{path!r} is not an import path of the form module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}") from None
    try:
        return getattr(module, name)
    except AttributeError:
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UsageError(f"{module_name!r} has no {name!r}; {nearest(name, public)}") from None


@dataclass(frozen=True)
class Piece:
    """`use` is the import path of a function or class; `settings` are keyword arguments of it, all JSON-able."""

    use: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Callable[..., Any]:
        """The function or class itself."""
        found = load(self.use)
        if not callable(found):
            raise UsageError(f"{self.use!r} is not a function or a class")
        return found  # type: ignore[no-any-return]

    def defaults(self) -> dict[str, Any]:
        """Every setting this piece takes, with its value here (explicit or default). Parameters without a default that
        are not set here are left out: those are what the library passes in."""
        found: dict[str, Any] = {}
        for parameter in inspect.signature(self.target).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
                found[parameter.name] = parameter.default
        return {**found, **self.settings}

    def having(self, **settings: Any) -> Piece:
        """This piece with some settings changed. Raises UsageError for a name the target does not take."""
        known = inspect.signature(self.target).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
        takes = {n for n, p in known.items() if p.kind is p.KEYWORD_ONLY}
        for name in settings:
            if name not in takes and not open_ended:
                raise UsageError(f"{self.use.partition(':')[2]} has no setting {name!r}; {nearest(name, takes)}")
        return replace(self, settings={**self.settings, **settings})

    def build(self, *arguments: Any, **context: Any) -> Any:
        """Calls the target with these arguments, its settings, and those of `context` that its signature names.

        Raises UsageError where the target refuses them.
        """
        try:
            return call(self.target, arguments, self.settings, context)
        except (TypeError, ValueError, RuntimeError) as error:  # a rate below 0, a width that is a text
            raise UsageError(f"{self.use.partition(':')[2]}: {error}") from error

    def bound(self) -> Bound:
        """A callable: an instance where the target is a class, else the function with its settings; either way it takes
        from a keyword context only what its signature names."""
        target = self.target
        if not inspect.isclass(target):
            return Bound(target, self.settings)
        made = self.build()
        if not callable(made):
            raise UsageError(f"{self.use!r} cannot be used here: its instances cannot be called")
        return Bound(made, {})

    def to_json(self) -> dict[str, Any]:
        return {"use": self.use, **self.settings}

    @staticmethod
    def from_json(tree: Mapping[str, Any]) -> Piece:
        rest = dict(tree)
        use = rest.pop("use", None)
        if not isinstance(use, str):
            raise UsageError(f"a piece needs 'use': an import path module:name; got {tree!r}")
        return Piece(use).having(**rest)


def piece(target: Callable[..., Any], **settings: Any) -> Piece:
    """The Piece of a function or class that can be imported, e.g. `piece(clipped_ratio, low=0.1)`."""
    return Piece(f"{target.__module__}:{target.__qualname__}").having(**settings)


def passes_settings_on(made: type) -> None:
    """Gives a class whose constructor hands settings that it does not name to its base a signature with all of them, so
    that they are listed, checked and remembered as its own are."""
    own = inspect.signature(made.__init__)  # type: ignore[misc]  # the class's own, whatever its bases take
    parameters = list(own.parameters.values())[1:]
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        named = {parameter.name for parameter in parameters}
        inherited = inspect.signature(made.__mro__[1]).parameters.values()
        more = [p for p in inherited if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in named]
        parameters = [*parameters[:-1], *more]
    made.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]


def call(
    target: Callable[..., Any], arguments: Iterable[Any], settings: Mapping[str, Any], context: Mapping[str, Any]
) -> Any:
    """Calls target with what its signature names out of context; settings win."""
    names = inspect.signature(target).parameters
    given = {name: value for name, value in context.items() if name in names and name not in settings}
    return target(*arguments, **settings, **given)


class Bound:
    """A callable with its settings, and the names of what it takes, read once."""

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self.function = function
        self.settings = dict(settings)
        self.names = tuple(n for n in inspect.signature(function).parameters if n not in settings)

    def check(self, what: str, positional: int, context: Iterable[str]) -> None:
        """Raises UsageError for a parameter that nobody would fill: so many come by position, the others by name."""
        parameters = inspect.signature(self.function).parameters.values()
        open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        left = [p for p in parameters if p.name in self.names and p.kind not in open_ended][positional:]
        for parameter in left:
            if parameter.default is parameter.empty and parameter.name not in context:
                raise UsageError(
                    f"{what} asks for {parameter.name!r}, which it cannot have; it may ask for "
                    f"{', '.join(sorted(context))}, and for settings of its own, keyword-only with a default"
                )

    def __call__(self, *arguments: Any, **context: Any) -> Any:
        given = {name: context[name] for name in self.names if name in context}
        return self.function(*arguments, **self.settings, **given)
