"""What there is: list, show, explain, worlds, policies; quick, and without torch where nothing needs it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pilotage as package
from pilotage import rollouts
from pilotage.methods.method import methods
from pilotage.rollouts.base import Rollout
from pilotage.rollouts.stops import Stops

HEAVY = ("torch", "transformers", "gymnasium", "reasoning_gym", "scipy", "plotly", "numpy")
VERBS = ("list", "show", "explain", "train", "resume", "eval", "compare", "worlds", "policies")


def imported_by(code: str) -> set[str]:
    """Which heavy packages a program imports."""
    program = f"import sys\n{code}\nprint(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(found.stderr.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import pilotage") == set()


def test_list_imports_nothing_heavy() -> None:
    code = "from pilotage.cli import main\ntry:\n    main(['list'])\nexcept SystemExit as e:\n    assert not e.code"
    assert imported_by(code) == set()


def test_the_installed_command_lists() -> None:
    command = Path(sys.executable).with_name("pilotage")
    found = subprocess.run([str(command), "list"], capture_output=True, text=True, check=True, timeout=60)
    assert "lite-ppo" in found.stdout


def test_every_public_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        package.trian  # noqa: B018


def test_list_as_json_has_every_method(pilotage: Callable) -> None:
    rows = json.loads(pilotage("list", "--json").out)
    assert {row["name"] for row in rows} == set(methods())
    assert all(row["family"] and row["line"] and row["status"] for row in rows)


@pytest.mark.parametrize("slug", list(methods()))
def test_show_says_what_each_changes(pilotage: Callable, slug: str) -> None:
    found = pilotage("show", slug)
    method = methods()[slug]
    assert found.status == 0
    assert method.paper in found.out
    assert method.claim in found.out
    assert "Settings, with defaults" in found.out
    assert method.baseline is None or f"What it changes in {method.baseline}" in found.out


def test_show_gives_a_recorded_result(pilotage: Callable, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = own_folder / "experiments" / "results"
    results.mkdir(parents=True)
    (results / "nft.json").write_text(json.dumps({"verdict": "nft is better than grpo by 3 points"}))
    monkeypatch.setattr("pilotage.recorded.folder", lambda: results)
    assert "nft is better than grpo by 3 points (nft.json)" in pilotage("show", "nft").out
    listed = {row["name"]: row["status"] for row in json.loads(pilotage("list", "--json").out)}
    assert (listed["nft"], listed["grpo"]) == ("result recorded", "tested")


def test_worlds_and_policies_say_how_to_bring_ones_own(pilotage: Callable) -> None:
    assert "--world my_module:Echo" in pilotage("worlds").out
    assert "hf:./my-model" in pilotage("policies").out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(pilotage: Callable, verb: str) -> None:
    found = pilotage(verb, "--help")
    assert found.status == 0
    assert f"Example:  pilotage {'train' if verb in ('worlds', 'policies') else verb}" in found.out


def test_version_and_bare_command(pilotage: Callable) -> None:
    assert pilotage("--version").out.startswith("pilotage 0.")
    bare = pilotage()
    assert bare.status == 0
    assert all(verb in bare.out for verb in VERBS)


def test_explain_gives_sizes_and_the_difference_and_runs_nothing(pilotage: Callable, own_folder: Path) -> None:
    found = pilotage("explain", "mdpo", "--world", "tabular", "--steps", "7", "--set", "evaluation.tasks=5")
    assert found.status == 0
    assert "128 decisions on each of 8 lanes: 1 024 decisions" in found.out
    assert "at most 7 168 decisions" in found.out
    assert "10 optimiser steps a batch, at most 70 in the run" in found.out
    assert "Difference from ppo" in found.out
    assert "learning rate 0.0003 throughout" in found.out
    assert list(own_folder.iterdir()) == []


def plans(of: type[Rollout] = Rollout) -> list[type[Rollout]]:
    """All plans of the library, those that only others derive from left out."""
    found = [one for kind in of.__subclasses__() for one in [kind, *plans(kind)]]
    return [one for one in found if one.__module__.startswith("pilotage.") and one is not Stops]


def test_every_plan_says_what_a_step_samples() -> None:
    for info in pkgutil.iter_modules(rollouts.__path__):
        importlib.import_module(f"pilotage.rollouts.{info.name}")
    said = {plan.__name__: plan().says(4, 8, 12) for plan in plans()}
    assert len(said) > 12
    assert [name for name, (text, _) in said.items() if text.startswith("samples with")] == []
    assert said["Messages"] == ("asks 4 prompts 8 times: 32 answers of at most 12 tokens each", 384)
    assert said["Pool"] == ("goes on with 32 responses, for at most 4 tokens each", 128)
    assert said["Rewritten"][1] == 2 * 384


def test_explain_refuses_a_plan_that_cannot_be(pilotage: Callable) -> None:
    found = pilotage("explain", "t-ppo", "--world", "reasoning:chain_sum", "--set", "rollout.window=-3")
    assert (found.status, "at least one token, not -3" in found.err) == (2, True)


def test_explain_of_a_knob_turned_off_shows_no_difference(pilotage: Callable) -> None:
    settings = ["--set", "credit.advantage.std=group", "--set", "terms.policy.objectives.policy.reduction=sequence"]
    assert "With these settings it is grpo" in pilotage("explain", "lite-ppo", "--world", "tabular", *settings).out


def test_explain_as_json_is_the_recipe(pilotage: Callable) -> None:
    tree = json.loads(pilotage("explain", "ppo", "--world", "tabular", "--json").out)
    assert package.Recipe.from_json(tree) == package.recipe("ppo", "tabular")


def test_explain_states_the_schedule_and_the_start(pilotage: Callable) -> None:
    found = pilotage("explain", "sft", "--world", "reasoning:chain_sum").out
    assert "worked solutions; nothing is sampled" in found
    assert "(cosine" in found
    assert "to be made first: 600 steps" in pilotage("explain", "grpo", "--world", "reasoning:chain_sum").out


def test_explain_counts_no_more_decisions_than_an_episode_can_have(pilotage: Callable) -> None:
    assert "episodes of at most 20 decisions" in pilotage("explain", "ddpo", "--world", "images:digits").out
    assert (
        "episodes of at most 7 decisions"
        in pilotage("explain", "ddpo", "--world", "images:digits", "--set", "world.steps=7").out
    )
    assert "episodes of at most 500 decisions" in pilotage("explain", "reinforce", "--world", "gym:CartPole-v1").out
