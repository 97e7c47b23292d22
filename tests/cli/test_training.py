"""One run from the command line: training, going on, evaluation, stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import pilotage as pl

SMALL = ("--world", "tabular", "--set", "evaluation.tasks=4", "--set", "rollout.steps=16")


def test_train_writes_a_run_and_says_how_it_ended(pilotage: Callable) -> None:
    found = pilotage("train", "ppo", *SMALL, "--steps", "2", "--seed", "3")
    assert found.status == 0
    assert "ppo went from" in found.out
    assert "runs/ppo-tabular-seed3" in found.out
    assert "ppo 2/2" in found.err
    assert torch.get_num_threads() == 1
    run = pl.Run(Path("runs/ppo-tabular-seed3"))
    assert run.recipe.seed == 3
    steps, values = run.curve("eval/return")
    assert steps.tolist() == [0, 2]
    assert len(values) == 2


def test_a_run_that_is_stopped_goes_on_to_the_same_end(pilotage: Callable, own_folder: Path) -> None:
    recipe = ("ppo", *SMALL, "--steps", "2000", "--set", "evaluation.every=0")
    command = [sys.executable, "-m", "pilotage", "train", *recipe, "--out", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(own_folder / "run" / "metrics.jsonl", lines=5)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "checkpoint written; go on with: pilotage resume run" in said


def test_resume_ends_where_an_unbroken_run_ends(pilotage: Callable, own_folder: Path) -> None:
    from pilotage.run import loop

    recipe = pl.recipe("ppo", "tabular", steps=4, settings={"rollout.steps": 16, "evaluation.tasks": 4})
    loop.train(recipe, own_folder / "broken", until=2)
    assert pilotage("resume", "broken").status == 0
    pl.train(recipe, out="whole")
    ends = [own_folder / name / "checkpoints" / "step-000004" / "tensors.safetensors" for name in ("broken", "whole")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_eval_gives_an_interval(pilotage: Callable) -> None:
    pilotage("train", "ppo", *SMALL, "--steps", "1", "--out", "run")
    found = pilotage("eval", "run", "--tasks", "6", "--samples", "2")
    assert found.status == 0
    assert found.out.startswith("held-out return ")
    assert "interval over 6 tasks, 2 episodes each" in found.out
    tree = json.loads(pilotage("eval", "run", "--json").out)
    assert tree["eval/low"] <= tree["eval/return"] <= tree["eval/high"]
    assert len(tree["eval/items"]) == 4


def test_an_altered_checkpoint_is_one_line(pilotage: Callable, own_folder: Path) -> None:
    pilotage("train", "ppo", *SMALL, "--steps", "1", "--out", "run")
    tensors = own_folder / "run" / "checkpoints" / "step-000001" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    for verb in ("eval", "resume"):
        found = pilotage(verb, "run")
        assert found.status == 1
        assert "tensors.safetensors" in found.err
        assert len(found.err.strip().splitlines()) == 1


def test_a_run_that_cannot_go_on_is_one_line(pilotage: Callable) -> None:
    found = pilotage("train", "ppo", *SMALL, "--steps", "9", "--set", "learning_rate=1e30", "--out", "run")
    assert found.status == 1
    last = found.err.strip().splitlines()[-1]
    assert last.startswith("pilotage: ")
    assert "step" in last


def test_a_folder_that_cannot_be_made_is_one_line(pilotage: Callable, own_folder: Path) -> None:
    (own_folder / "file").write_text("")
    found = pilotage("train", "ppo", *SMALL, "--steps", "1", "--out", "file/run")
    assert found.status == 1
    assert "Not a directory" in found.err
    assert len(found.err.strip().splitlines()) == 1


def test_a_world_of_ones_own_from_the_current_directory(pilotage: Callable, echo_world: str) -> None:
    small = ("--steps", "1", "--set", "evaluation.tasks=4", "--set", "prompts_per_step=2", "--set", "hidden=16")
    found = pilotage("train", "grpo", "--world", f"{echo_world}:Echo", *small, "--out", "run")
    assert found.status == 0
    assert "held-out accuracy" in found.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_start_leaves_the_same_command_to_go_on(own_folder: Path, number: int) -> None:
    command = [sys.executable, "-m", "pilotage", "train", "grpo", "--steps", "1", "--set", "hidden=16", "--out", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started = next(wait_until(lambda: list((own_folder / "cache" / "starts").glob("*/metrics.jsonl"))))
    wait_for(started, lines=3)
    os.kill(process.pid, number)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert "goes on from its checkpoint when the same command is given again" in said
    assert not (own_folder / "run").exists()


def wait_until(look: Callable[[], list[Path]], seconds: float = 90):
    """What a look finds, as soon as it finds something."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.05)
    return iter(found)


def wait_for(file: Path, lines: int) -> None:
    wait_until(lambda: [file] if file.exists() and file.read_bytes().count(b"\n") >= lines else [])
