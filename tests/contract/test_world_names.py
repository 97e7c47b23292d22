"""Worlds by name: every example works, every mistake is answered, and looking does not import what is heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage.data.piece import Piece, UsageError
from pilotage.worlds import registry
from pilotage.worlds.base import World


@pytest.mark.parametrize("family", registry.catalogue(), ids=lambda family: family.name)
def test_every_example_of_the_catalogue_is_a_world(
    family: registry.Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"prompt": str(i), "chosen": "a", "rejected": "b"}) for i in range(40)]
    (tmp_path / "FILE.jsonl").write_text("\n".join(lines))  # a file of one's own
    assert family.available
    for example in family.examples:
        piece = registry.resolve(example)
        assert Piece.from_json(json.loads(json.dumps(piece.to_json()))) == piece
        world = piece.build()
        assert isinstance(world, World)
        world.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chain_sum", "did you mean 'reasoning:chain_sum'"),
        ("reasonin:chain_sum", "did you mean 'reasoning:chain_sum'"),
        ("gymn:CartPole-v1", "did you mean 'gym:CartPole-v1'"),
        ("reasoning:chain_sun", "did you mean 'chain_sum'"),
        ("gym:CartPol-v1", "did you mean 'CartPole-v1'"),
        ("minigrid:Emty-5x5", "did you mean 'MiniGrid-Empty-5x5-v0'"),
        ("metaworld:reech-v3", "did you mean 'reach-v3'"),
        ("gym", "which one"),
        ("tabular:9", "takes no name"),
        ("images:digts", "did you mean 'digits'"),
        ("images:", "which one"),
        ("no_such_module:World", "worlds are named like"),
        ("pilotage.worlds.tabular:TabularWord", "did you mean 'TabularWorld'"),
        ("pilotage.data.tasks:Task", "does not derive from"),
        ("pilotage.worlds.text:TextWorld", "lacks make, verify"),
        ("", "worlds are named like"),
    ],
)
def test_names_that_are_no_world(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        registry.resolve(spec)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "pilotage\[control\]"'):
        registry.resolve("gym:CartPole-v1")
    assert not any(family.available for family in registry.catalogue() if family.package)


MINE = """
from pilotage.data.tasks import Task, Text
from pilotage.worlds.text import TextWorld

class Echo(TextWorld):
    observation = action = Text(4, "0123456789")
    def make(self, rng):
        return Task(prompt=str(rng.integers(1000)))
    def verify(self, task, answer):
        return answer == task.prompt
"""


def test_a_world_in_the_current_directory_works_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_echo.py").write_text(MINE)
    (tmp_path / "json.py").write_text("raise SystemExit('a file here took the place of a package')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    world = registry.resolve("my_echo:Echo").build()
    tasks = [world.task(index, "train") for index in range(2)]
    world.reset(tasks, [0, 1])
    assert world.step([tasks[0].prompt, "x"], [0, 1]).reward.tolist() == [1.0, 0.0]
    world.close()


def test_the_catalogue_and_texts_are_light() -> None:
    heavy = "{'torch', 'gymnasium', 'reasoning_gym', 'minigrid', 'transformers'}"
    script = (
        "import sys; from pilotage.worlds import registry, text, guard; registry.catalogue()[0].available;"
        f"assert not {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
