"""`pilotage reproduce`: the claim beside what was measured, for the repository's experiments and for one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

OWN = """
from pilotage import api
from pilotage.run.experiment import Experiment, Judged


def arms(quick):
    settings = {"steps": 1 if quick else 3, "evaluation.tasks": 2, "policy.hidden": (4,)}
    return {name: api.recipe(name, "tabular", settings=settings) for name in ("rloo", "reinforce")}


def judge(runs, comparisons):
    return Judged("inconclusive", f"{len(runs['rloo'])} runs a side, {runs['rloo'][0].compute.steps:.0f} steps")


EXPERIMENT = Experiment(
    name="rloo.of-mine",
    claim="RLOO is better than REINFORCE.",
    criterion="None: this only shows the way.",
    arms=arms,
    pairs=(("rloo", "reinforce"),),
    judge=judge,
    seeds=(0, 1, 2),
)
"""


@pytest.fixture
def mine(own_folder: Path) -> str:
    name = f"mine_{abs(hash(own_folder))}"
    (own_folder / f"{name}.py").write_text(OWN)
    return f"{name}:EXPERIMENT"


def test_the_claim_stands_beside_what_was_measured(pilotage: Callable, mine: str, own_folder: Path) -> None:
    found = pilotage("reproduce", mine, "--out", "mine.json")
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    assert lines[0] == "claim      RLOO is better than REINFORCE."
    assert "measured   3 runs a side, 3 steps" in lines
    assert lines[-1] == "verdict    inconclusive"
    record = json.loads((own_folder / "mine.json").read_text())
    assert record["seeds"] == [0, 1, 2]
    assert record["provenance"]["command"] == f"pilotage reproduce {mine}"
    assert {len(arm["runs"]) for arm in record["arms"].values()} == {3}
    again = pilotage("reproduce", mine, "--json")  # nothing is trained twice: the numbers are those of the same runs
    repeated = json.loads(again.out)
    assert repeated["arms"] == record["arms"]


def test_a_quick_version_says_that_it_decides_nothing(pilotage: Callable, mine: str) -> None:
    found = pilotage("reproduce", mine, "--quick")
    assert found.status == 0, found.err
    assert "2 runs a side, 1 steps" in found.out
    assert "it decides nothing" in found.out


def test_the_list_has_every_experiment_with_its_verdict(pilotage: Callable) -> None:
    found = pilotage("reproduce")
    assert found.status == 0
    root = Path(__file__).parents[2] / "experiments"
    declared = [path for path in root.glob("*.py") if "EXPERIMENT = " in path.read_text(encoding="utf-8")]
    rows = {line.split()[1]: line for line in found.out.splitlines() if line.startswith("│") and line.split()[1] != "│"}
    assert len(rows) == len(declared)
    assert "inconclusive" in rows["nft"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nftt",), "no experiment 'nftt'; did you mean 'nft'?"),
        (("betso",), "no experiment 'betso'; did you mean 'beso'?"),
        (("json:JSONDecoder",), "is not an experiment"),
        (("no_such_module:EXPERIMENT",), "cannot import 'no_such_module'"),
        (("nft", "--out", "nowhere/nft.json"), "there is no folder nowhere"),
        (("nft", "--jobs", "0"), "--jobs"),
    ],
)
def test_mistakes(pilotage: Callable, own_folder: Path, arguments: tuple[str, ...], said: str) -> None:
    found = pilotage("reproduce", *arguments)
    assert found.status == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not list(own_folder.iterdir())


def test_names_of_files_do_as_well(pilotage: Callable) -> None:
    from pilotage.cli.reproducing import path_of

    assert path_of("ppo.halfcheetah") == path_of("ppo-halfcheetah") == "experiments.ppo_halfcheetah:EXPERIMENT"
