"""Comparisons: paired runs in processes of their own, the table, the report, and going on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pilotage as pl
from pilotage import api
from pilotage.run import compare as runner
from pilotage.run.log import read_metrics

SMALL = {"evaluation.tasks": 4, "rollout.steps": 16, "evaluation.every": 0}
SETTINGS = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]
ARMS = ("compare", "mdpo", "ppo", "--world", "tabular", "--seeds", "2", "--steps", "2", *SETTINGS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two arms with two seeds, as the installed command makes it."""
    home = tmp_path_factory.mktemp("comparison")
    command = [sys.executable, "-m", "pilotage", *ARMS, "--out", "out"]
    said = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True, timeout=250)
    (home / "said").write_text(said.stdout)
    (home / "progress").write_text(said.stderr)
    return home


def test_it_ends_with_the_table_the_verdict_and_the_report(finished: Path) -> None:
    said = (finished / "said").read_text()
    for row in ("held-out return, end", "held-out return, best", "chance that a run is better", "reward calls"):
        assert row in said
    assert re.search(r"^(mdpo is|no difference shown:|no verdict:).*2 paired seeds", said, re.MULTILINE)
    report = Path(re.search(r"^report: (.*)$", said, re.MULTILINE)[1])
    page = report.read_text().replace("<wbr>", "")
    assert report == finished / "out" / "report.html"
    assert "mirror_descent" in page
    assert "on par with or better than TRPO and PPO" in page
    assert "4 of 4 runs finished" in (finished / "progress").read_text()


def test_arms_share_seeds_and_starts(finished: Path) -> None:
    first = [read_metrics(finished / "out" / arm / "seed-1")[0] for arm in ("mdpo", "ppo")]
    assert first[0]["eval/items"] == first[1]["eval/items"]
    recipes = [pl.Run(finished / "out" / "ppo" / f"seed-{seed}").recipe for seed in (0, 1)]
    assert [recipe.seed for recipe in recipes] == [0, 1]


def test_a_run_in_a_process_is_the_run_in_this_one(finished: Path, own_folder: Path) -> None:
    pl.train("ppo", "tabular", seed=1, steps=2, settings=SMALL, out="run")
    name = Path("checkpoints") / "step-000002" / "tensors.safetensors"
    assert (own_folder / "run" / name).read_bytes() == (finished / "out" / "ppo" / "seed-1" / name).read_bytes()


def test_a_finished_comparison_is_reported_again(
    finished: Path, pilotage: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(runner, "_start", None)  # nothing may be run
    found = pilotage(*ARMS, "--out", "out", "--resume")
    assert found.status == 0
    assert "every run was finished before; none was run now" in found.out
    assert "report: " in found.out
    tree = json.loads(pilotage(*ARMS, "--out", "out", "--resume", "--json").out)
    assert tree["results"][0]["candidate"]["name"] == "mdpo"
    assert tree["failures"] == []


def test_a_folder_in_use_is_not_touched(finished: Path, pilotage: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    found = pilotage(*ARMS, "--out", "out")
    assert (found.status, found.err) == (
        2,
        "pilotage: out exists and is not empty: go on with --resume, or choose another --out\n",
    )
    other = pilotage(*ARMS, "--steps", "3", "--out", "out", "--resume")
    assert other.status == 2
    assert "has steps=2, not 3: choose another --out" in other.err
    assert "something other than a comparison" in pilotage(*ARMS, "--out", ".", "--resume").err


def test_a_failed_run_is_one_line_with_its_reason(pilotage: Callable, echo_world: str) -> None:
    small = ("--seeds", "1", "--steps", "1", "--set", "evaluation.tasks=2", "--set", "hidden=16")
    found = pilotage("compare", "grpo", "rloo", "--world", f"{echo_world}:Raises", *small, "--out", "out")
    assert found.status == 1
    lines = [line for line in found.err.splitlines() if "failed" in line]
    assert len(lines) == 2
    assert "grpo seed 0 failed: NameError: name 'no_such_name' is not defined" in found.err
    assert "--resume" in found.err.splitlines()[-1]
    assert found.out == ""


def test_settings_that_some_arms_lack_are_noted() -> None:
    settings = {"terms.policy.objectives.policy.loss.floor": 0.1, "policy.hidden": (8,), "hidden": (8,)}
    arms, notes = api._arms(("mdpo", "ppo"), "tabular", None, 2, 1, settings)
    assert notes == ["terms.policy.objectives.policy.loss.floor applies to mdpo only"]
    assert [recipe.seed for recipe in arms["ppo"].values()] == [0, 1]
    assert all(recipes[0].get("policy.hidden") == (8,) for recipes in arms.values())


def test_of_three_arms_each_meets_the_last(finished: Path, own_folder: Path) -> None:
    arms = {name: {0: pl.recipe(name, "tabular")} for name in ("mdpo", "reinforce", "ppo")}
    folders = {"mdpo": "mdpo", "reinforce": "ppo", "ppo": "ppo"}  # what was run does not matter here
    runs = {arm: [pl.Run(finished / "out" / made / f"seed-{seed}") for seed in (0, 1)] for arm, made in folders.items()}
    results, reports = api._judged(arms, runs, own_folder)
    assert len(results) == 2
    assert [report.name for report in reports] == ["report-mdpo.html", "report-reinforce.html"]


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_children_end_with_their_parent_and_go_on(own_folder: Path, pilotage: Callable, end: str) -> None:
    arms = ("compare", "mdpo", "ppo", "--world", "tabular", "--seeds", "1", "--steps", "1500", *SETTINGS)
    command = [sys.executable, "-m", "pilotage", *arms, "--set", "checkpoint_every=5", "--out", "out"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    files = [own_folder / "out" / arm / "seed-0" / "metrics.jsonl" for arm in ("mdpo", "ppo")]
    until = time.monotonic() + 120
    while not all(file.exists() and file.read_bytes().count(b"\n") > 6 for file in files):
        assert time.monotonic() < until
        time.sleep(0.05)
    getattr(process, end)()
    said = process.communicate(timeout=60)[0]
    if end == "terminate":
        assert process.returncode == 0
        assert "0 of 2 runs are finished; go on with: " in said
        assert "--resume" in said
    assert stands_still(files)
    steps = [runner.checkpoint.latest(file.parent).name for file in files]
    assert all(0 < int(step.removeprefix("step-")) < 1500 for step in steps)


def stands_still(files: list[Path]) -> bool:
    """Whether nobody writes to these files any more, soon."""
    for _ in range(40):
        before = [file.stat().st_size for file in files]
        time.sleep(0.5)
        if before == [file.stat().st_size for file in files]:
            return True
    return False


def test_an_interrupted_comparison_goes_on_exactly(own_folder: Path, finished: Path) -> None:
    from pilotage.run import loop

    whole = finished / "out"
    for arm in ("mdpo", "ppo"):
        recipe = pl.Run(whole / arm / "seed-0").recipe
        loop.train(recipe, own_folder / "out" / arm / "seed-0", until=1)
    (own_folder / "out" / runner.PLAN).write_text("{}")
    found = pl.compare("mdpo", "ppo", world="tabular", seeds=1, steps=2, settings=SMALL, out="out", resume=True)
    assert found.failures == []
    assert "one seed each cannot tell" in found.verdict
    name = Path("seed-0") / "checkpoints" / "step-000002" / "tensors.safetensors"
    for arm in ("mdpo", "ppo"):
        assert (own_folder / "out" / arm / name).read_bytes() == (whole / arm / name).read_bytes()
