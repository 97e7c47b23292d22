"""Packages whose modules are imported when first named: `losses.policy.clipped_ratio` costs nothing until it is used.

So a method's file can be read (`pilotage list`, `pilotage show`) without torch, which takes a second or more to import.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any


def submodules(package: str) -> Callable[[str], Any]:
    """A package's `__getattr__`: its modules by name, imported at first use."""

    def load(name: str) -> Any:
        if name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return load
