"""Errors as one line and an exit status: 2 for a mistake of the user, 1 for a run that could not go on."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from pilotage.data.piece import UsageError

OURS = Path(__file__).resolve().parents[1]
HINT = "PILOTAGE_DEBUG=1 shows where"


def described(error: BaseException) -> tuple[str, int]:
    """(one line, exit status) of what went wrong.

    What Pilotage raises itself is already one line. Anything else gets its type, and the place in the user's own code
    where it came from, or else the place in ours.
    """
    text = " ".join(str(error).split())
    if isinstance(error, UsageError):
        place = _place(error.__cause__)
        return text + (f" ({place})" if place else ""), 2
    if type(error).__module__.startswith("pilotage."):
        return text, 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    place = _place(error)
    if place:
        return f"{said} ({place}; {HINT})", 1
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if OURS in Path(frame.filename).parents]
    where = f"at {inside[-1].filename}:{inside[-1].lineno}; " if inside else ""
    return f"unexpected {said} ({where}{HINT})", 1


def _place(error: BaseException | None) -> str:
    """The innermost `file:line` in the user's own code; empty if there is none."""
    if error is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        foreign = frame.filename.startswith("<") or any(folder in path.parents for folder in (*installed, OURS))
        if not foreign and path.name != "pilotage":  # the installed script itself
            return f"{frame.filename}:{frame.lineno}"
    return ""
