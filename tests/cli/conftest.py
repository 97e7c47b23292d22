"""Every test here runs in a folder of its own, with a cache of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilotage.cli import main

ECHO = '''
from pilotage import Task, Text, TextWorld


class Echo(TextWorld):
    """Say the number back."""

    observation = Text(max_tokens=4, alphabet="0123456789=")
    action = Text(max_tokens=3, alphabet="0123456789")

    def make(self, rng):
        number = str(rng.integers(100))
        return Task(prompt=f"{number}=", answer=number)

    def verify(self, task, answer):
        return float(answer == task.answer)


class Raises(Echo):
    def make(self, rng):
        return Task(prompt=no_such_name)


class Refuses(Echo):
    def __init__(self, *, size: int = 3):
        raise ValueError("size is not to its liking")
'''


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILOTAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PILOTAGE_DEBUG", raising=False)
    yield tmp_path
    sys.path[:] = before


@pytest.fixture
def pilotage(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command, in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def echo_world(own_folder: Path) -> str:
    """A module with worlds of a user's own, in the current directory; its name is its own, since modules are cached."""
    name = f"echo_{abs(hash(own_folder))}"
    (own_folder / f"{name}.py").write_text(ECHO)
    return name
