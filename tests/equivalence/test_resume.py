"""Ten steps are five, a stop of whatever kind, and five more, to the bit: parameters, optimiser, curves, counters."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import resumable
from helpers import differing, final_state, metrics
from pilotage import api
from pilotage.run import checkpoint, loop

KINDS = ["ppo", "pendulum", "text", "grpo", "sft"]
# kind, moment, at which call: all within the sixth step of ten
KILLS = [
    ("ppo", "update", 83),  # of 16 optimiser steps a step
    ("ppo", "checkpoint", 28),
    ("ppo", "rename", 6),
    ("pendulum", "record", 8),  # the two evaluations are records too
    ("text", "update", 21),
    ("text", "checkpoint", 27),
    ("grpo", "rename", 6),
]
ASKED = ("ppo", "term", 83)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`whole(kind)`: the folder of ten steps in one go, made once."""
    home, made = tmp_path_factory.mktemp("whole"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = api.train(resumable.make(kind), out=home / kind).folder
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """`stopped(kind, moment, count)`: folder, exit code and words of a process that got its signal."""
    home = tmp_path_factory.mktemp("stopped")
    program = Path(resumable.__file__)
    jobs, here = [":".join(map(str, job)) for job in (*KILLS, ASKED)], os.environ.get("PYTHONPATH")
    done = subprocess.run(
        [sys.executable, str(program), str(home), *jobs],
        # the code that this process runs, though another version be installed
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(program.parent), here]))},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads((home / "ends.json").read_text())

    def found(*of: object) -> tuple[Path, int, str]:
        job = ":".join(map(str, of))
        words = home / f"{job}.said"
        return home / job, codes[job], words.read_text() if words.exists() else done.stderr

    return found


def same(one: Path, other: Path) -> None:
    assert differing(final_state(one), final_state(other)) == []
    assert metrics(one) == metrics(other)
    transcripts = [sorted((f / "transcripts").iterdir()) for f in (one, other)]
    texts = [[(path.name, path.read_bytes()) for path in paths] for paths in transcripts]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", KINDS)
def test_five_and_five_are_ten(kind, whole, tmp_path):
    loop.train(resumable.make(kind), tmp_path / "run", until=5)
    assert len([r for r in metrics(tmp_path / "run") if r["kind"] == "train"]) == 5
    assert differing(final_state(tmp_path / "run"), final_state(whole(kind))) != []
    api.resume(tmp_path / "run")
    same(tmp_path / "run", whole(kind))
    counted = final_state(tmp_path / "run")["counters"]
    steps = [record for record in metrics(whole(kind)) if record["kind"] == "train"]
    # pieces of episodes that go on are counted when these end
    assert counted["episodes"] == steps[-1]["count/episodes"] <= sum(step["train/episodes"] for step in steps)
    assert counted["decisions"] > 0


@pytest.mark.parametrize(("kind", "moment", "count"), KILLS, ids=lambda value: str(value))
def test_a_kill_loses_nothing(kind, moment, count, stopped, whole):
    folder, code, said = stopped(kind, moment, count)
    assert code == -signal.SIGKILL, said
    last = checkpoint.load(checkpoint.latest(folder))[0]
    assert last == 5
    recorded = [r["step"] for r in metrics(folder) if r["kind"] == "train"][-1]
    assert recorded == (5 if moment in ("update", "record") else 6)
    left = {path.name for path in (folder / "checkpoints").glob(".partial*")}
    assert bool(left) == (moment in ("checkpoint", "rename"))
    api.resume(folder)
    same(folder, whole(kind))
    assert not list((folder / "checkpoints").glob(".partial*"))


def test_asked_to_stop_it_finishes_the_step_and_saves(stopped, whole):
    folder, code, words = stopped(*ASKED)
    assert code == 0
    assert words == (f"stopped after step 6, checkpoint written; go on with: pilotage resume {folder}")
    assert checkpoint.load(checkpoint.latest(folder))[0] == 6
    api.resume(folder)
    same(folder, whole("ppo"))


def test_a_run_without_a_checkpoint_starts_again(whole, tmp_path):
    recipe = resumable.make("text")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        loop.train(recipe, tmp_path / "run", watch=_fail)
    assert checkpoint.latest(tmp_path / "run") is None
    api.resume(tmp_path / "run")
    same(tmp_path / "run", whole("text"))


def _fail(step: int, found: object) -> None:
    raise RuntimeError("a fault of ours")


def test_a_finished_run_has_nothing_to_go_on_with(whole, tmp_path):
    folder = loop.train(resumable.make("text"), tmp_path / "run")
    before = final_state(folder)
    api.resume(folder)
    assert differing(before, final_state(folder)) == []
    assert metrics(folder) == metrics(whole("text"))
