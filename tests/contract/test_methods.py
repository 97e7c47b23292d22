"""What every method and baseline keeps, whoever wrote it, on tokens, classes and torques."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from helpers import control_recipe, differing, final_state, metrics, text_recipe
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.methods.method import Method, find, lineage, methods
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.recipe import Recipe, difference

SLUGS = sorted(methods())
PARTS = {"world", "policy", "rollout", "sampler", "credit", "loss", "reduction", "learner", "regulariser", "store"}
BASELINES = {"reinforce", "rloo", "grpo", "dr-grpo", "dapo", "ppo", "reinforce++", "rft", "sft"}
SHORT = {"steps": 2, "evaluation.tasks": 1, "evaluation.max_steps": 4}


def tokens(slug: str) -> Recipe:
    verified_here = {"world.time_limit": None, "world.partial_credit": True, "policy.context": 96}
    return text_recipe(slug, world="reasoning:chain_sum", settings={**SHORT, **verified_here})


def classes(slug: str) -> Recipe:
    return control_recipe(slug, "minigrid:Empty-5x5", settings=SHORT)


def torques(slug: str) -> Recipe:
    return control_recipe(slug, "gym:Pendulum-v1", settings=SHORT)


WORLDS = {"tokens": tokens, "classes": classes, "torques": torques}


@pytest.fixture(params=SLUGS)
def method(request) -> Method:
    return find(request.param)


def test_the_methods_asked_for_are_there():
    assert BASELINES | {"nft", "lite-ppo", "mdpo"} <= set(SLUGS)


def test_it_says_what_it_is(method):
    assert method.line
    assert "\n" not in method.line
    assert method.paper
    assert method.family
    assert method.parts
    assert set(method.parts) <= PARTS
    assert method.kind == ("baseline" if method.slug in BASELINES else "method")
    assert method.claim or method.kind == "baseline"
    first, *rest = method.card.splitlines()
    assert first.endswith(".")
    assert any("=" in line or "∝" in line or "mean[" in line for line in rest), "the card has no equation"
    assert (method.changes.__doc__ or "").strip()


def test_it_stands_on_known_ground(method):
    line = lineage(method.slug)
    assert line[-1] is method
    assert line[0].baseline is None
    assert all(one.slug == other.baseline for one, other in itertools.pairwise(line))


@pytest.mark.parametrize("world", WORLDS)
def test_its_recipe_survives_json(method, world):
    recipe = WORLDS[world](method.slug)
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json(), allow_nan=False)))
    assert again == recipe
    assert again.digest() == recipe.digest()
    assert again.changed == recipe.changed
    assert difference(again, recipe) == []


def test_its_changes_are_remembered_as_its_own(method):
    recipe = tokens(method.slug)
    base = tokens(method.baseline or "reinforce")
    said = {path for path in method.changes(base) if recipe.changed[path] != "you"}
    assert said
    assert said == {path for path, by in recipe.changed.items() if by == method.slug}
    if method.baseline is not None:
        assert difference(recipe, tokens(method.baseline)) != []


def test_unknown_keys_are_refused_with_the_nearest(method):
    tree = tokens(method.slug).to_json()
    with pytest.raises(UsageError, match=r"'stepz'.*did you mean 'steps'"):
        Recipe.from_json({**tree, "stepz": 3})
    with pytest.raises(UsageError, match=r"recipe\.terms\.policy.*'epoch'.*did you mean 'epochs'"):
        Recipe.from_json({**tree, "terms": {"policy": {**tree["terms"]["policy"], "epoch": 2}}})
    with pytest.raises(UsageError, match=r"learning_rat'; did you mean '[a-z.]*learning_rate'"):
        api.set_path(tokens(method.slug), "terms.policy.optimiser.learning_rat", 0.1)


@pytest.mark.parametrize("world", WORLDS)
def test_it_trains_saves_goes_on_and_repeats_itself(method, world, tmp_path):
    recipe = WORLDS[world](method.slug)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    parts = assemble(recipe)
    before = {name: value.clone() for name, value in parts.policy.state_dict().items()}
    parts.world.close()
    api.train(recipe, out=whole)
    loop.train(recipe, parted, until=1)
    api.resume(parted)
    assert differing(final_state(whole), final_state(parted)) == []
    assert metrics(whole) == metrics(parted)
    if world == "classes":  # on the others, parting the run has shown that it repeats itself
        again = api.train(recipe, out=tmp_path / "again").folder
        assert differing(final_state(whole), final_state(again)) == []

    after = final_state(whole)["parts"]["policy"]
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    records = [r for r in metrics(whole) if r["kind"] == "train"]
    assert [r["step"] for r in records] == [1, 2]
    assert not any("not_finite" in r for r in records)
    if any(r["optimiser_steps"] for r in records):
        assert any(not torch.equal(before[name], after[name]) for name in before)
    else:  # a sparse reward that nobody found: nothing to learn, said so, and nothing moved
        assert all(r.get("train/no_signal", 1.0) == 1.0 for r in records)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert api.Run(whole).recipe == recipe
    assert Path(whole / "manifest.json").exists()


@pytest.mark.parametrize("world", WORLDS)
def test_its_parameters_move(method, world, tmp_path):
    # on worlds where every action pays something, there is always something to learn
    worlds = {"tokens": lambda: text_recipe(method.slug, settings=SHORT),
              "classes": lambda: control_recipe(method.slug, "toy_worlds:Line", settings=SHORT),
              "torques": lambda: torques(method.slug)}  # fmt: skip
    recipe = worlds[world]()
    parts = assemble(recipe)
    before = {name: value.clone() for name, value in parts.policy.state_dict().items()}
    parts.world.close()
    api.train(recipe, out=tmp_path / "run")
    after = final_state(tmp_path / "run")["parts"]["policy"]
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert [name for name in moved if not name.startswith("critic.")]
    if recipe.policy.defaults().get("critic"):
        assert [name for name in moved if name.startswith("critic.")]


@pytest.mark.parametrize("world", WORLDS)
def test_another_seed_is_another_run(method, world):
    one, other = WORLDS[world](method.slug), WORLDS[world](method.slug).vary("you", {"seed": 1})
    assert one.digest() != other.digest()
    states = []
    for recipe in (one, other):
        parts = assemble(recipe)
        states.append({name: value.clone() for name, value in parts.policy.state_dict().items()})
        parts.world.close()
    assert differing(*states) != []
