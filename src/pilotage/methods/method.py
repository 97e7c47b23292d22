"""What a method is: a difference from its baseline, with what its paper claims."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pilotage.data.piece import UsageError, nearest
from pilotage.run.recipe import Recipe

Changes = Callable[[Recipe], Mapping[str, Any]]
PLAYED = ("text", "discrete", "box")  # kinds of worlds, see World.kind
ALL_PLAYED = (*PLAYED, "denoise")  # for methods that ask nothing of a policy but log-probs


@dataclass(frozen=True)
class Method:
    """A published method or a baseline. `changes` gives, for its baseline's recipe, new values at dotted paths."""

    slug: str
    changes: Changes
    family: str
    paper: str
    line: str
    baseline: str | None
    parts: tuple[str, ...]
    claim: str
    kind: Literal["method", "baseline"]
    policy: str = ""  # the policy it takes where none is named, if not the world's usual one
    worlds: tuple[str, ...] = PLAYED  # kinds of worlds it applies to
    # how else it asks problems: forms of `pilotage.rollouts.variants` and their shares of a warm start's demonstrations
    forms: Mapping[str, float] = field(default_factory=dict)

    @property
    def card(self) -> str:
        """The module's text: idea, equation, source, departures of released code."""
        return (importlib.import_module(self.changes.__module__).__doc__ or "").strip()


def method(
    slug: str,
    *,
    family: str,
    paper: str,
    line: str,
    baseline: str | None,
    parts: tuple[str, ...],
    claim: str = "",
    kind: Literal["method", "baseline"] = "method",
    policy: str = "",
    worlds: tuple[str, ...] = PLAYED,
    forms: Mapping[str, float] | None = None,
) -> Callable[[Changes], Method]:
    """Makes a Method of a function that returns changes. `parts`: which concepts it changes; `line`: what it is."""

    def make(changes: Changes) -> Method:
        return Method(slug, changes, family, paper, line, baseline, parts, claim, kind, policy, worlds, forms or {})

    return make


@cache
def methods() -> dict[str, Method]:
    """All methods and baselines by slug: every `Method` that a module of `pilotage.methods` defines."""
    import pilotage.methods as package

    found: dict[str, Method] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"pilotage.methods.{info.name}")).values():
            if isinstance(value, Method):
                found[value.slug] = value
    return dict(sorted(found.items(), key=lambda item: (item[1].kind, item[0])))


def find(slug: str) -> Method:
    """The method of this slug. Raises UsageError with the nearest name."""
    known = methods()
    if slug not in known:
        raise UsageError(f"no method {slug!r}; {nearest(slug, known)}")
    return known[slug]


def lineage(slug: str) -> list[Method]:
    """From the first ancestor to the method itself."""
    chain = [find(slug)]
    while chain[0].baseline is not None:
        chain.insert(0, find(chain[0].baseline))
    return chain
