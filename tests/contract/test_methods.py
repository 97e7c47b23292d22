"""What every method and baseline keeps, whoever wrote it, on tokens, classes and torques."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from helpers import (
    chain_recipe,
    control_recipe,
    differing,
    final_state,
    goals_recipe,
    learns_from_a_log,
    logged_recipe,
    metrics,
    table_recipe,
    text_recipe,
)
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.methods.method import Method, find, lineage, methods
from pilotage.methods.roots import root
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


def tagged(slug: str) -> Recipe:
    return text_recipe(slug, world="toy_worlds:Tagged", settings=SHORT)


def classes(slug: str) -> Recipe:
    return control_recipe(slug, "minigrid:Empty-5x5", settings=SHORT)


def torques(slug: str) -> Recipe:
    return control_recipe(slug, "gym:Pendulum-v1", settings=SHORT)


def rounds(slug: str) -> Recipe:
    small = {"prompts_per_step": 64, "learner.diagnose": 50, "checkpoint_every": 1, "evaluation.tasks": 4}
    return api.recipe(slug, "bandit:logistic", settings={**SHORT, **small})


def tables(slug: str) -> Recipe:
    return table_recipe(slug, "finite:frozen-lake", settings={"steps": 2, "world.horizon": 5})


def logged(slug: str) -> Recipe:
    return logged_recipe(slug, settings=SHORT)


def goals(slug: str) -> Recipe:
    return goals_recipe(slug, settings=SHORT)


def chains(slug: str) -> Recipe:
    return chain_recipe(slug, settings=SHORT)


WORLDS = {"tokens": tokens, "tagged": tagged, "classes": classes, "torques": torques, "logged": logged,
          "rounds": rounds, "tables": tables, "goals": goals, "chains": chains}  # fmt: skip
KINDS = {"tokens": "text", "tagged": "modes", "classes": "discrete", "torques": "box", "logged": "box",
         "rounds": "bandit", "tables": "finite", "goals": "goals", "chains": "denoise"}  # fmt: skip


def applicable(method: Method) -> list[str]:
    """The worlds of this file that a method is for: methods that play get worlds, those that do not a log."""
    fits = [name for name, kind in KINDS.items() if kind in method.worlds]
    return [name for name in fits if KINDS[name] != "box" or (name == "logged") == learns_from_a_log(method)]


def usual(method: Method) -> Recipe:
    """Its recipe on the first world it is for."""
    return WORLDS[applicable(method)[0]](method.slug)


EVERYWHERE = [(slug, world) for slug in SLUGS for world in applicable(find(slug))]
HERE = sorted({slug for slug, _ in EVERYWHERE})  # those for one of these worlds
everywhere = pytest.mark.parametrize(("slug", "world"), EVERYWHERE, ids=["-".join(pair) for pair in EVERYWHERE])


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
    assert method.kind == "baseline" or method.slug not in BASELINES
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


@everywhere
def test_its_recipe_survives_json(slug, world):
    recipe = WORLDS[world](slug)
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json(), allow_nan=False)))
    assert again == recipe
    assert again.digest() == recipe.digest()
    assert again.changed == recipe.changed
    assert difference(again, recipe) == []


@pytest.mark.parametrize("method", HERE, indirect=True)
def test_its_changes_are_remembered_as_its_own(method):
    recipe = usual(method)
    if method.baseline is None:
        base = root(recipe.world, recipe.policy, recipe.world.build().action)
    else:
        base = WORLDS[applicable(method)[0]](method.baseline)
        assert difference(recipe, base) != []
    said = {path for path in method.changes(base) if recipe.changed[path] not in ("you", "tests")}
    assert said
    assert said == {path for path, by in recipe.changed.items() if by == method.slug}


@pytest.mark.parametrize("method", HERE, indirect=True)
def test_unknown_keys_are_refused_with_the_nearest(method):
    recipe = usual(method)
    tree, name = recipe.to_json(), next(iter(recipe.terms), "")
    with pytest.raises(UsageError, match=r"'stepz'.*did you mean 'steps'"):
        Recipe.from_json({**tree, "stepz": 3})
    if not name:  # its learner takes no gradients
        with pytest.raises(UsageError, match=r"no setting 'see'; did you mean 'seed'"):
            Recipe.from_json({**tree, "world": {**tree["world"], "see": 2}})
        return
    with pytest.raises(UsageError, match=rf"recipe\.terms\.{name}.*'epoch'.*did you mean 'epochs'"):
        Recipe.from_json({**tree, "terms": {name: {**tree["terms"][name], "epoch": 2}}})
    with pytest.raises(UsageError, match=r"learning_rat'; did you mean '[a-z.]*learning_rate'"):
        api.set_path(recipe, f"terms.{name}.optimiser.learning_rat", 0.1)


@everywhere
def test_it_trains_saves_goes_on_and_repeats_itself(slug, world, tmp_path):
    recipe = WORLDS[world](slug)
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
    if any(r.get("optimiser_steps") for r in records):
        assert any(not torch.equal(before[name], after[name]) for name in before)
    else:  # a sparse reward that nobody found: nothing to learn, said so, and nothing moved
        assert all(r.get("train/no_signal", 1.0) == 1.0 for r in records)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert api.Run(whole).recipe == recipe
    assert Path(whole / "manifest.json").exists()


@everywhere
def test_its_parameters_move(slug, world, tmp_path):
    # on worlds where every action pays something, there is always something to learn
    worlds = {"tokens": lambda: text_recipe(slug, settings=SHORT),
              "tagged": lambda: tagged(slug),
              "classes": lambda: control_recipe(slug, "toy_worlds:Line", settings=SHORT),
              "torques": lambda: torques(slug),
              "logged": lambda: logged(slug),
              "goals": lambda: goals(slug),
              "rounds": lambda: rounds(slug),
              "chains": lambda: chains(slug),
              "tables": lambda: table_recipe(slug, settings={"steps": 12, "world.horizon": 2})}  # fmt: skip
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


@everywhere
def test_another_seed_is_another_run(slug, world, tmp_path):
    one, other = WORLDS[world](slug), WORLDS[world](slug).vary("you", {"seed": 1})
    assert one.digest() != other.digest()
    states = []
    for recipe in (one, other):
        parts = assemble(recipe)
        states.append({name: value.clone() for name, value in parts.policy.state_dict().items()})
        parts.world.close()
    if not differing(*states):  # a start without chance, such as a uniform table: then what is met differs
        states = [final_state(api.train(made, out=tmp_path / made.digest()).folder) for made in (one, other)]
    assert differing(*states) != []
