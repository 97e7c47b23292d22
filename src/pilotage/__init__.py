"""Pilotage: policy optimisation, one loop and 48 published methods as differences from their baselines.

`import pilotage as pl`: names are loaded when first used, so that importing this costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotage.api import Run, compare, recipe, resume, train
    from pilotage.data.batch import Batch
    from pilotage.data.piece import Piece, UsageError, piece
    from pilotage.data.tasks import Task, Text, Verdict
    from pilotage.learn.terms import Objective, Term
    from pilotage.methods.method import method
    from pilotage.policies.base import ActingPolicy, Policy, SpeakingPolicy
    from pilotage.run.recipe import Recipe
    from pilotage.worlds.base import Outcome, World
    from pilotage.worlds.text import TextWorld

_HOMES = {
    "pilotage.api": ("Run", "compare", "recipe", "resume", "train"),
    "pilotage.data.batch": ("Batch",),
    "pilotage.data.piece": ("Piece", "UsageError", "piece"),
    "pilotage.data.tasks": ("Task", "Text", "Verdict"),
    "pilotage.learn.terms": ("Objective", "Term"),
    "pilotage.methods.method": ("method",),
    "pilotage.policies.base": ("ActingPolicy", "Policy", "SpeakingPolicy"),
    "pilotage.run.recipe": ("Recipe",),
    "pilotage.worlds.base": ("Outcome", "World"),
    "pilotage.worlds.text": ("TextWorld",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ActingPolicy",
    "Batch",
    "Objective",
    "Outcome",
    "Piece",
    "Policy",
    "Recipe",
    "Run",
    "SpeakingPolicy",
    "Task",
    "Term",
    "Text",
    "TextWorld",
    "UsageError",
    "Verdict",
    "World",
    "compare",
    "method",
    "piece",
    "recipe",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pilotage' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
