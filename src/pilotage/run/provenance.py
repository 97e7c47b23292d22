"""Where a run came from: versions, commit, command line and platform, without secrets or the machine's name."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RECORDED = (
    "pilotage",
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "transformers",
    "gymnasium",
    "mujoco",
    "reasoning-gym",
)
SECRET = re.compile(r"token|secret|passw|credential|api.?key|access.?key|private.?key|auth", re.IGNORECASE)
# settings of the field that only look like secrets: max_tokens, tokens_per_microbatch, author
HARMLESS = re.compile(r"tokens|token_(?:budget|limit|mean)|tokeni[sz]er|author", re.IGNORECASE)
HIDDEN = "(hidden)"
COMMAND = "PILOTAGE_COMMAND"  # in the environment of a run that another process started


def library_versions() -> dict[str, str]:
    """Python's version and those of the installed libraries that can change a result."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """The commit checked out in a folder, with "-modified" where tracked files differ from it; None outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("-modified" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    # optional locks off: reading the status must not take index.lock from under a commit that is being made
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def command_line(arguments: Sequence[str] | None = None) -> list[str]:
    """The command as it was given, with values of options named like secrets hidden and the home folder as ~."""
    if arguments is None and os.environ.get(COMMAND):  # a run of a comparison: what was asked for is the comparison
        return [str(part) for part in json.loads(os.environ[COMMAND])]
    given = list(sys.argv if arguments is None else arguments)
    if given:
        given[0] = Path(given[0]).name
    shown: list[str] = []
    hide_next = False
    for argument in given:
        name, separator, _ = argument.partition("=")
        secret = bool(SECRET.search(name)) and not HARMLESS.search(name)
        if hide_next and not argument.startswith("-"):
            argument = HIDDEN
        elif secret and separator:
            argument = f"{name}={HIDDEN}"
        hide_next = secret and not separator and argument.startswith("-")
        shown.append(_plain(argument))
    return shown


def _plain(argument: str) -> str:
    argument = re.sub(r"(\w+://)[^/@\s]+@", r"\1", argument)  # user:password@ in an address
    home = os.path.expanduser("~").rstrip("/")
    return re.sub(rf"(^|=){re.escape(home)}(?=/|$)", r"\1~", argument) if home else argument


def provenance() -> dict[str, Any]:
    """What a manifest says of the process that writes it; JSON-able."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "commit": git_commit(Path.cwd()) or git_commit(Path(__file__).parent),
        "versions": library_versions(),
        "platform": {"system": platform.system(), "machine": platform.machine(), "processors": os.cpu_count()},
    }
