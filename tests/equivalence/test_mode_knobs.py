"""Without forced answers and without the tax A2FM is GRPO, to the bit; each of the two makes it another."""

import pytest

from helpers import differing, final_state, metrics, text_recipe
from pilotage import api
from pilotage.credit.modes import Taxed, charged
from pilotage.data.piece import piece
from pilotage.run.recipe import Recipe, difference

WORLDS = {
    "toy_worlds:Tagged": {},
    "modes:sums": {"world.time_limit": None, "world.terms": [2], "policy.context": 96, "steps": 2},
}
OFF = {"rollout.forced": 0, "credit.tax": None, "evaluation.measures": {}}


def made(name: str, world: str, **settings: object) -> Recipe:
    return text_recipe(name, world=world, settings={**WORLDS[world], **settings})


def ends(recipe: Recipe, folder):
    api.train(recipe, out=folder)
    return {n: part for n, part in final_state(folder)["parts"].items() if n != "links"}


@pytest.mark.parametrize("world", WORLDS)
def test_off_is_the_baseline(world, tmp_path):
    off, base = made("a2fm", world).vary("test", OFF), made("grpo", world)
    one, other = ends(off, tmp_path / "off"), ends(base, tmp_path / "base")
    assert differing(one, other) == []
    extra = {name for record in metrics(tmp_path / "off") for name in record}
    for left, right in zip(metrics(tmp_path / "off"), metrics(tmp_path / "base"), strict=True):
        assert {name: left[name] for name in right} == right  # the off side tells its modes besides
    assert "mode/entropy" in extra


def test_each_knob_is_one(tmp_path):
    base = ends(made("grpo", "toy_worlds:Tagged"), tmp_path / "base")["policy"]
    taxed = {**OFF, "credit.tax": piece(Taxed, rate="instant")}
    forced = {**OFF, "rollout.forced": 1}
    charge = {**OFF, "credit.tax": piece(charged)}
    for i, turned in enumerate((taxed, forced, charge)):
        assert differing(
            ends(made("a2fm", "toy_worlds:Tagged").vary("test", turned), tmp_path / str(i))["policy"], base
        )


def test_it_differs_from_its_baseline_in_its_knobs_only():
    paths = {path for path, *_ in difference(made("a2fm", "toy_worlds:Tagged"), made("grpo", "toy_worlds:Tagged"))}
    knobs = ("rollout.", "credit.tax.", "evaluation.measures")
    assert {path for path in paths if not path.startswith(knobs)} == set()
