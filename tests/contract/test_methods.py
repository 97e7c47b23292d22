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
# where every action pays something, so that there is always something to learn
PAYING = {"tokens": lambda slug: text_recipe(slug, settings=SHORT),
          "classes": lambda slug: control_recipe(slug, "toy_worlds:Line", settings=SHORT),
          "tables": lambda slug: table_recipe(slug, settings={"steps": 12, "world.horizon": 2})}  # fmt: skip
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


def policy_of(recipe: Recipe) -> dict[str, torch.Tensor]:
    """The parameters of its policy before training."""
    parts = assemble(recipe)
    parts.world.close()
    return {name: value.clone() for name, value in parts.policy.state_dict().items()}


def trained(recipe: Recipe, tmp_path: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """The last policy's parameters and the records of training, after the run and one that was stopped half-way."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    api.train(recipe, out=whole)
    loop.train(recipe, parted, until=recipe.steps // 2)
    api.resume(parted)
    assert differing(final_state(whole), final_state(parted)) == []
    assert metrics(whole) == metrics(parted)
    assert api.Run(whole).recipe == recipe
    assert Path(whole / "manifest.json").exists()
    after = final_state(whole)["parts"]["policy"]
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    records = [r for r in metrics(whole) if r["kind"] == "train"]
    assert [r["step"] for r in records] == list(range(1, recipe.steps + 1))
    assert not any("not_finite" in r for r in records)
    return after, records


@everywhere
def test_it_trains_saves_goes_on_and_repeats_itself(slug, world, tmp_path):
    recipe = {**WORLDS, **PAYING}[world](slug)
    before = policy_of(recipe)
    after, _ = trained(recipe, tmp_path)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert [name for name in moved if not name.startswith("critic.")]
    if recipe.policy.defaults().get("critic"):
        assert [name for name in moved if name.startswith("critic.")]


SPARSE = [(slug, world) for slug, world in EVERYWHERE if world in PAYING]


@pytest.mark.parametrize(("slug", "world"), SPARSE, ids=["-".join(pair) for pair in SPARSE])
def test_it_goes_on_and_repeats_itself_where_few_actions_pay(slug, world, tmp_path):
    recipe = WORLDS[world](slug)
    before = policy_of(recipe)
    after, records = trained(recipe, tmp_path)
    if not any(r.get("optimiser_steps") for r in records):  # nobody found the reward: said so, and nothing moved
        assert all(r.get("train/no_signal", 1.0) == 1.0 for r in records)
        assert all(torch.equal(before[name], after[name]) for name in before)


@everywhere
def test_another_seed_is_another_run(slug, world, tmp_path):
    one, other = WORLDS[world](slug), WORLDS[world](slug).vary("you", {"seed": 1})
    assert one.digest() != other.digest()
    states = [policy_of(recipe) for recipe in (one, other)]
    if not differing(*states):  # a start without chance, such as a uniform table: then what is met differs
        states = [final_state(api.train(made, out=tmp_path / made.digest()).folder) for made in (one, other)]
    assert differing(*states) != []
