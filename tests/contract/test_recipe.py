"""Recipes: what may be changed, by whom, and what is refused with which words."""

import json
import math
from dataclasses import replace

import pytest

from helpers import control_recipe, logged_recipe, text_recipe
from pilotage import api
from pilotage.credit.groups import Relative, leave_one_out
from pilotage.data.piece import Piece, UsageError, piece
from pilotage.methods.method import find, lineage, methods
from pilotage.methods.roots import root
from pilotage.methods.stacks import split_names, stacked
from pilotage.run.recipe import Evaluation, Limits, Recipe, difference

LOSS = "terms.policy.objectives.policy.loss"
GRPO = text_recipe("grpo")


# ---- changing


def test_a_leaf_a_piece_and_a_field_can_be_changed():
    found = GRPO.vary(
        "me",
        {
            f"{LOSS}.high": 0.3,
            "credit.advantage": piece(leave_one_out),
            "steps": 7,
            "evaluation.tasks": 9,
            "limits": Limits(invalid=0.1),
            "terms.policy.optimiser.learning_rate": 0.5,
        },
    )
    assert found.get(f"{LOSS}.high") == 0.3
    assert found.get(f"{LOSS}.low") == 0.2
    assert found.credit["advantage"].target is leave_one_out
    assert (found.steps, found.evaluation.tasks, found.limits.invalid) == (7, 9, 0.1)
    assert found.get("terms.policy.optimiser.learning_rate") == 0.5
    assert found.changed["steps"] == found.changed[f"{LOSS}.high"] == "me"
    assert GRPO.get(f"{LOSS}.high") == 0.2
    assert GRPO.steps == 3


def test_none_removes_a_link_and_an_objective_and_unsets_a_field():
    found = GRPO.vary("me", {"credit.advantage": None, "terms.policy.objectives.kl": None})
    assert found.credit == {}
    assert list(found.terms["policy"].objectives) == ["policy"]
    unset = GRPO.vary("me", {"terms.policy.max_grad_norm": None, f"{LOSS}.low": None})
    assert unset.terms["policy"].max_grad_norm is None
    assert unset.get(f"{LOSS}.low") is None


def test_a_new_link_stands_last_and_a_changed_one_keeps_its_place():
    more = GRPO.vary("me", {"credit.more": piece(leave_one_out)})
    assert list(more.credit) == ["advantage", "more"]
    again = more.vary("me", {"credit.advantage": piece(Relative, std="none")})
    assert list(again.credit) == ["advantage", "more"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("stepz", "did you mean 'steps'"),
        ("evaluation.task", "did you mean 'tasks'"),
        ("terms.policy.epoch", "did you mean 'epochs'"),
        ("terms.polic.epochs", "did you mean 'policy'"),
        ("credit.advantag.std", "did you mean 'advantage'"),
        (f"{LOSS}.hihg", "did you mean 'high'"),
        ("terms.policy.objectives.policy.weigth", "did you mean 'weight'"),
    ],
)
def test_what_is_not_there_cannot_be_changed(path, named):
    with pytest.raises(UsageError, match=f"^me changes '{path}', which this recipe does not have: .*{named}"):
        GRPO.vary("me", {path: 1})


@pytest.mark.parametrize("path", ["stepz", "terms.policy.epoch", f"{LOSS}.hihg"])
def test_what_is_not_there_cannot_be_read(path):
    with pytest.raises(UsageError, match=f"the recipe has no '{path}'; did you mean"):
        GRPO.get(path)
    assert GRPO.get(path, missing="?") == "?"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("steps", 0, "steps is at least 1"),
        ("samples_per_prompt", -1, "samples_per_prompt is at least 1"),
        ("evaluation.tasks", 0, "evaluation.tasks is at least 1"),
        ("limits.mismatch", math.nan, "limits.mismatch is at least 0"),
        ("terms.policy.epochs", 0, "epochs"),
        ("terms.policy.max_grad_norm", 0.0, "max_grad_norm"),
        ("terms.policy.objectives.policy.reduction", "mean", "token, sequence, constant"),
    ],
)
def test_values_out_of_range_are_refused(path, value, named):
    with pytest.raises(UsageError, match=named):
        GRPO.vary("me", {path: value})


# ---- who set what


def test_two_of_a_stack_may_not_set_a_path_to_different_values():
    among = frozenset({"one", "other"})
    first = GRPO.vary("one", {"steps": 5}, among=among)
    with pytest.raises(UsageError, match=r"^one and other both set 'steps', to different values; choose one of them$"):
        first.vary("other", {"steps": 6}, among=among)
    assert first.vary("other", {"steps": 5}, among=among).steps == 5
    assert first.vary("you", {"steps": 6}).steps == 6
    assert first.vary("one", {"steps": 6}, among=among).steps == 6


def test_settings_take_pieces_of_ones_own_at_new_names_and_leave_out_what_is_there():
    settings = {
        "credit.more": piece(leave_one_out),
        "evaluation.measures.mine": Piece("pilotage.run.routing:Routing", {"tasks": 3}),
    }
    found = text_recipe("grpo", settings=settings)
    assert list(found.credit) == ["advantage", "more"]
    assert found.evaluation.measures["mine"].settings == {"tasks": 3}
    assert api.set_path(found, "credit.more", None).credit == GRPO.credit
    with pytest.raises(UsageError, match=r"no 'credit.mere'; did you mean 'credit.more"):
        api.set_path(found, "credit.mere", 3)


def test_a_piece_and_a_leaf_in_it_are_the_same_field():
    among = frozenset({"one", "other"})
    whole = {"credit.advantage": piece(leave_one_out)}
    leaf = {"credit.advantage.std": "none"}
    with pytest.raises(UsageError, match=r"both set 'credit.advantage'"):
        GRPO.vary("one", leaf, among=among).vary("other", whole, among=among)
    replaced = {"credit.advantage": piece(Relative, std="batch")}
    with pytest.raises(UsageError, match=r"both set 'credit\.advantage\.std'"):
        GRPO.vary("one", replaced, among=among).vary("other", leaf, among=among)


# ---- stacks


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("lite-ppo+dr-grpo", "credit.advantage.std"),
        ("dr-grpo+lite-ppo", "credit.advantage.std"),
        ("dr-grpo+dapo", "terms.policy.objectives.policy.reduction"),
        ("nft+dapo", "terms.policy.objectives.policy.loss"),
    ],
)
def test_stacks_that_disagree_name_the_field(name, path):
    with pytest.raises(UsageError, match=rf"both set '{path}"):
        text_recipe(name)


def test_a_stack_that_agrees_holds_both_differences():
    found = text_recipe("dapo+lite-ppo")
    base = text_recipe("grpo")
    both = {path for name in ("dapo", "lite-ppo") for path, *_ in difference(text_recipe(name), base)}
    assert {path for path, *_ in difference(found, base)} == both
    assert found.get("credit.advantage.std") == "batch"
    assert found.get(f"{LOSS}.high") == 0.28
    assert found.name == "dapo+lite-ppo"
    assert difference(found, text_recipe("lite-ppo+dapo")) == []


def test_equal_values_are_no_quarrel():
    # both ask for the batch's deviation and the token mean; reinforce++ adds the batch's mean
    found = text_recipe("lite-ppo+reinforce++")
    assert found.get("credit.advantage.mean") == found.get("credit.advantage.std") == "batch"


def test_methods_of_different_ground_do_not_stack():
    with pytest.raises(UsageError, match="mdpo stands on ppo, not on grpo: these do not stack"):
        text_recipe("dapo+mdpo")


@pytest.mark.parametrize(
    ("name", "slugs"),
    [
        ("grpo", ["grpo"]),
        ("reinforce++", ["reinforce++"]),
        ("reinforce+rloo", ["reinforce", "rloo"]),
        ("reinforce+++dapo", ["reinforce++", "dapo"]),
        ("dapo+reinforce++", ["dapo", "reinforce++"]),
    ],
)
def test_names_with_a_plus_of_their_own(name, slugs):
    assert split_names(name) == slugs


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grop", "did you mean 'grpo'"),
        ("nft+litepo", "did you mean 'lite-ppo'"),
        ("", "name a method"),
        ("+", "no method ''"),
    ],
)
def test_unknown_names(name, said):
    with pytest.raises(UsageError, match=said):
        text_recipe(name)


def test_lineages():
    assert [m.slug for m in lineage("nft")] == ["reinforce", "grpo", "rft", "nft"]
    assert find("mdpo").baseline == "ppo"
    kinds = [m.kind for m in methods().values()]
    assert kinds == sorted(kinds)


# ---- paths as users write them


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("steps", "steps"),
        ("learning_rate", "terms.policy.optimiser.learning_rate"),
        ("loss.high", "terms.policy.objectives.policy.loss.high"),
        ("advantage.std", "credit.advantage.std"),
        ("kl.weight", "terms.policy.objectives.kl.weight"),
        ("temperature", None),
        ("hidden", "policy.hidden"),
        ("terms.policy", "terms.policy"),
        ("advantage", "credit.advantage"),
    ],
)
def test_short_paths(short, full):
    if full is None:
        with pytest.raises(
            UsageError, match=r"could be evaluation.temperature, rollout.temperature: write one of them"
        ):
            GRPO.resolve(short)
    else:
        assert GRPO.resolve(short) == full


def test_short_paths_mean_the_run_and_not_its_start():
    started = GRPO.vary("me", {"start": text_recipe("sft")})
    assert started.resolve("learning_rate") == "terms.policy.optimiser.learning_rate"
    assert started.resolve("start.steps") == "start.steps"
    assert started.resolve("start.terms.policy.optimiser.learning_rate")
    assert api.set_path(started, "start.steps", 3).start.steps == 3


def test_unknown_short_paths_have_a_nearest():
    with pytest.raises(UsageError, match=r"did you mean 'terms.policy.optimiser.learning_rate'"):
        GRPO.resolve("terms.policy.optimiser.lerning_rate")


# ---- differences


def test_difference_is_what_was_changed():
    found = difference(GRPO, GRPO.vary("me", {f"{LOSS}.high": 0.3, "credit.more": piece(leave_one_out), "name": "x"}))
    assert found == [
        ("credit.more.use", None, "pilotage.credit.groups:leave_one_out"),
        (f"{LOSS}.high", 0.2, 0.3),
    ]
    assert difference(GRPO, GRPO) == []


def test_a_default_written_out_is_no_difference():
    spelled = GRPO.vary("me", {f"{LOSS}.low": 0.2})
    assert difference(GRPO, spelled) == []


# ---- digests


def test_a_digest_knows_what_is_learnt_and_nothing_else():
    same = [
        GRPO.vary("me", {"name": "other", "checkpoint_every": 9, "evaluation": Evaluation(tasks=3)}),
        replace(GRPO, changed={"steps": "somebody"}),
        Recipe.from_json(json.loads(json.dumps(GRPO.to_json()))),
        Recipe.from_json(dict(reversed(GRPO.to_json().items()))),
    ]
    assert {recipe.digest() for recipe in same} == {GRPO.digest()}
    changes = {
        "seed": 1, "steps": 99, "prompts_per_step": 99, "samples_per_prompt": 99, f"{LOSS}.high": 0.99,
        "credit.advantage": piece(leave_one_out), "policy.hidden": 8, "rollout.temperature": 0.5,
        "start": text_recipe("sft"), "limits.mismatch": 0.5, "world": Piece("toy_worlds:Flat"),
        f"{LOSS}.low": math.inf,
    }  # fmt: skip
    digests = [GRPO.vary("me", {path: value}).digest() for path, value in changes.items()]
    assert len({GRPO.digest(), *digests}) == 1 + len(changes)


def test_a_digest_looks_through_a_start_as_it_does_through_itself():
    sft = text_recipe("sft")
    one = GRPO.vary("me", {"start": sft})
    other = GRPO.vary("me", {"start": sft.vary("me", {"evaluation": Evaluation(tasks=7), "name": "warm"})})
    assert one.digest() == other.digest()
    assert one.digest() != GRPO.vary("me", {"start": sft.vary("me", {"steps": 77})}).digest()


# ---- JSON


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_survive_json(value):
    recipe = control_recipe("mdpo", "toy_worlds:Line").vary("me", {f"{LOSS}.pace": value})
    text = json.dumps(recipe.to_json(), allow_nan=False)
    assert Recipe.from_json(json.loads(text)).get(f"{LOSS}.pace") == value
    assert Recipe.from_json(json.loads(text)) == recipe


def test_starts_and_data_survive_json():
    for recipe in (GRPO.vary("me", {"start": text_recipe("sft")}), control_recipe("sft", "toy_worlds:Line")):
        again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert again == recipe
        assert (again.start is None) != (again.data is None)


def edited(path: str, value: object) -> dict:
    found = json.loads(json.dumps(GRPO.to_json()))
    *holders, key = path.split(".")
    inside = found
    for holder in holders:
        inside = inside[holder]
    inside[key] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("stepz", 1, "recipe has no key 'stepz'; did you mean 'steps'"),
        ("evaluation.task", 1, "recipe.evaluation has no key 'task'; did you mean 'tasks'"),
        ("terms.policy.epoch", 1, "recipe.terms.policy has no key 'epoch'; did you mean 'epochs'"),
        ("terms.policy.objectives.policy.loss.hihg", 1, "clipped_ratio has no setting 'hihg'; did you mean 'high'"),
        ("world.tempo", 1, "Echo has no setting 'tempo'"),
        ("steps", "ten", "recipe.steps takes a whole number, not 'ten'"),
        ("steps", 1.5, "recipe.steps takes a whole number, not 1.5"),
        ("steps", True, "recipe.steps takes a whole number, not True"),
        ("steps", 0, "steps is at least 1, not 0"),
        ("evaluation.greedy", 1, "recipe.evaluation.greedy takes true or false, not 1"),
        ("name", 3, "recipe.name takes a text, not 3"),
        ("limits.mismatch", "low", "recipe.limits.mismatch takes a number, not 'low'"),
        ("world", {"seed": 1}, "a piece needs 'use'"),
        ("schema", 99, "schema 99; this version reads 1"),
        ("schema", None, "schema None; this version reads 1"),
        ("terms.policy.objectives.policy.reduction", "mean", "reduction 'mean'"),
    ],
)
def test_what_json_may_not_say(path, value, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        Recipe.from_json(edited(path, value))


@pytest.mark.parametrize("key", ["world", "policy", "terms", "credit", "name"])
def test_what_json_may_not_leave_out(key):
    tree = GRPO.to_json()
    del tree[key]
    with pytest.raises(UsageError, match=f"recipe lacks {key}"):
        Recipe.from_json(tree)


def test_what_is_left_out_has_its_default():
    tree = GRPO.to_json()
    del tree["evaluation"], tree["limits"]
    assert Recipe.from_json(tree).limits == Limits()


# ---- pieces


def test_a_piece_refuses_settings_it_does_not_take():
    with pytest.raises(UsageError, match="Relative has no setting 'sdt'; did you mean 'std'"):
        piece(Relative, sdt="none")
    with pytest.raises(UsageError, match="'nowhere' is not an import path of the form module:name"):
        Piece("nowhere").having()
    with pytest.raises(UsageError, match="cannot import 'nowhere_at_all'"):
        Piece("nowhere_at_all:thing").having()
    with pytest.raises(UsageError, match="has no 'Relativ'; did you mean 'Relative'"):
        Piece("pilotage.credit.groups:Relativ").having()
    with pytest.raises(UsageError, match="is not a function or a class"):
        Piece("pilotage.credit.groups:SCOPES").having()


def test_a_root_is_bare():
    bare = root(GRPO.world, GRPO.policy, GRPO.world.build().action)
    assert bare.credit == {}
    assert bare.start is None
    assert bare.changed == {}
    assert difference(stacked("reinforce", bare), bare)


def test_a_users_setting_of_a_policy_is_the_last_word():
    # td3-bc standardises observations; who says otherwise is heard
    found = logged_recipe("td3-bc", settings={"policy.normalise": False})
    assert found.get("policy.normalise") is False
    assert found.changed["policy.normalise"] == "you"
    assert logged_recipe("td3-bc").changed["policy.normalise"] == "td3-bc"
