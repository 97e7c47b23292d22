"""docs/results.md is what experiments/results says, and every result can be judged by its reader."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from pilotage.run.recipe import Recipe, difference

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "experiments" / "results").glob("*.json"))
WORDS = {"reproduced", "not reproduced", "inconclusive"}


@pytest.fixture
def experiments(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    yield lambda name: importlib.import_module(f"experiments.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        del sys.modules[name]


def test_the_page_is_up_to_date(experiments):
    table = experiments("table")
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.START in text
    assert table.page(text) == text, "python -m experiments.table"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_states_what_it_rests_on(path, experiments):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["name"] == path.stem
    assert found["verdict"] in WORDS
    assert path.stat().st_size < 80_000  # ten arms, each with its recipe and that of its start
    assert {"command", "commit", "versions", "commits_of_runs"} <= found["provenance"].keys()
    module = experiments(found["provenance"]["command"].rpartition(".")[2])
    for label, arm in found["arms"].items():
        seeds = list(module.EXPERIMENT.fewer.get(label, found["seeds"]))
        assert [run["seed"] for run in arm["runs"]] == seeds
    assert max(found["seeds"]) < 100, "seeds from 100 up are for trying settings"
    assert module.EXPERIMENT.criterion == found["criterion"], "the criterion changed after the run"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_of_the_recipes_that_its_experiment_has_today(path, experiments):
    found = json.loads(path.read_text(encoding="utf-8"))
    arms = experiments(found["provenance"]["command"].rpartition(".")[2]).EXPERIMENT.arms(False)
    assert arms.keys() == found["recipes"].keys()
    for label, recipe in arms.items():
        changed = {changed for changed, *_ in difference(recipe, Recipe.from_json(found["recipes"][label]))}
        assert not {one for one in changed if not one.endswith("store.digest")}, label  # data may not be here


def test_every_experiment_states_its_criterion(experiments):
    for path in sorted((ROOT / "experiments").glob("*.py")):
        if "EXPERIMENT = " in path.read_text(encoding="utf-8"):
            made = experiments(path.stem).EXPERIMENT
            assert all(word in made.criterion for word in ("eproduced if", "ot reproduced", "nconclusive"))
            assert set(made.seeds).isdisjoint(made.quick_seeds)
            assert max(made.seeds) < 100 <= min(made.quick_seeds)
