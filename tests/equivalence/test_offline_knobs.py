"""Offline methods with their knobs off are what they stand on, to the bit, after nine real batches of the same log."""

from collections.abc import Mapping
from typing import Any

import pytest

from helpers import control_recipe, differing, final_state, logged_recipe
from pilotage import api, credit, losses
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.run.recipe import Recipe, difference

ACTOR, CRITIC = "terms.actor.objectives", "terms.critic.objectives"


def ends(recipe: Recipe, folder: Any) -> dict[str, Any]:
    """Policy and learner after a run of three steps of three batches."""
    api.train(recipe, out=folder)
    return {name: final_state(folder)["parts"][name] for name in ("policy", "learner")}


def changed(name: str, **changes: Any) -> Recipe:
    return logged_recipe(name).vary("test", changes)


def offline(name: str, like: str, **changes: Any) -> Recipe:
    """A method of play, made to learn from the log as `like` does, with nothing else of it."""
    log = logged_recipe(like)
    shared = {path: log.get(path) for path in ("rollout", "store", "steps", "policy")}
    return control_recipe(name, "gym:Pendulum-v1").vary("test", {**shared, **changes})


def same(left: Recipe, right: Recipe, folder: Any, parts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Where two runs differ within what both are held to have in common, by part and the starts of names."""
    one, other = ends(left, folder / "one"), ends(right, folder / "other")
    found = []
    for part, starts in parts.items():
        kept = [{k: v for k, v in _leaves(side[part]).items() if k.startswith(starts)} for side in (one, other)]
        assert kept[1]
        assert kept[0].keys() >= kept[1].keys()
        found += differing({k: kept[0][k] for k in kept[1]}, kept[1])
    return found


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping):
        return {k: v for key, inner in tree.items() for k, v in _leaves(inner, f"{path}.{key}").items()}
    return {path[1:]: tree}


NETWORKS = {"policy": ("actor.", "critic.weights.", "critic.biases.")}
SLOW = tuple(f"targets.slow.{name}" for name in NETWORKS["policy"])
ALL_OF_TD3 = {**NETWORKS, "learner": ("terms.critic.", "terms.actor.", *SLOW)}


def test_td3_bc_without_its_critic_is_cloning(tmp_path):
    cloning = changed("bc", **{"policy.normalise": True, "terms.actor.every": 2})
    off = changed("td3-bc", **{f"{ACTOR}.actor.loss.alpha": 0.0})
    assert same(off, cloning, tmp_path, {"policy": ("actor.",)}) == []
    assert same(logged_recipe("td3-bc"), cloning, tmp_path / "on", {"policy": ("actor.",)}) != []


def test_td3_bc_without_cloning_is_td3_on_the_log(tmp_path):
    off = changed("td3-bc", **{f"{ACTOR}.actor.loss.alpha": None, f"{ACTOR}.imitation.weight": 0.0})
    assert same(off, offline("td3", "td3-bc"), tmp_path, ALL_OF_TD3) == []
    assert same(logged_recipe("td3-bc"), offline("td3", "td3-bc"), tmp_path / "on", NETWORKS) != []


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a2pr_with_the_logged_action_always_on_is_td3_bc(weight, tmp_path):
    off = {"loss.project": False, "loss.gate": False, "weight": weight}
    ours = changed("a2pr", **{f"{ACTOR}.imitation.{name}": value for name, value in off.items()})
    baseline = changed("td3-bc", **{f"{ACTOR}.imitation.weight": weight})
    assert same(ours, baseline, tmp_path, ALL_OF_TD3) == []


@pytest.mark.parametrize("name", ["project", "gate"])
def test_each_of_its_switches_is_one(name, tmp_path):
    baseline = changed("a2pr", **{f"{ACTOR}.imitation.loss.{name}": False})
    assert same(logged_recipe("a2pr"), baseline, tmp_path, NETWORKS) != []


def test_without_a_mask_neither_model_nor_value_matter(tmp_path):
    off = changed("a2pr", **{f"{ACTOR}.imitation.weight": 0.0})
    other = off.vary("test", {"terms.model.optimiser.learning_rate": 0.1, "terms.value.optimiser.learning_rate": 0.1})
    assert same(off, other, tmp_path, ALL_OF_TD3) == []
    assert same(off, other, tmp_path / "more", {"policy": ("critic.",)}) != []


def test_iql_without_temperature_clones_everything(tmp_path):
    off = changed("iql", **{f"{ACTOR}.imitation.loss.inverse_temperature": 0.0})
    plain = changed("iql", **{f"{ACTOR}.imitation": Objective(piece(losses.imitation.likelihood))})
    assert same(off, plain, tmp_path, {"policy": ("",)}) == []
    assert same(logged_recipe("iql"), plain, tmp_path / "on", {"policy": ("actor.",)}) != []


def test_cql_without_its_penalty_is_sac_on_the_log(tmp_path):
    matching = {
        "drawn.target": piece(credit.bootstrap.sampled_target),
        "terms.actor.optimiser": logged_recipe("cql").get("terms.actor.optimiser"),
    }
    off = changed("cql", **{f"{CRITIC}.penalty.weight": 0.0})
    sac = offline("sac", "cql", **matching)
    assert same(off, sac, tmp_path, {"policy": ("",), "learner": ("terms.", "targets.")}) == []
    assert same(logged_recipe("cql"), sac, tmp_path / "on", NETWORKS) != []


def test_a_threshold_trains_the_multiplier(tmp_path):
    fixed = ends(logged_recipe("cql"), tmp_path / "fixed")["policy"]["critic.log_multiplier"]
    learnt = changed("cql", **{f"{CRITIC}.penalty.loss.threshold": 1e3})
    assert fixed.item() == 0.0
    assert ends(learnt, tmp_path / "learnt")["policy"]["critic.log_multiplier"].item() < 0


def test_the_value_of_a2pr_is_read_before_it_moves():
    # its term stands behind those that read it, on the same batch; the critics' stand before all
    assert list(logged_recipe("a2pr").terms) == ["critic", "model", "actor", "value"]
    assert list(logged_recipe("iql").terms) == ["value", "actor", "critic"]


A2PR = ("drawn.following", "drawn.latents", "policy", f"{ACTOR}.imitation", "terms.model", "terms.value")
TD3_BC = ("drawn", "policy.normalise", f"{ACTOR}.actor", "terms.actor.every", "terms.critic", "targets")


@pytest.mark.parametrize(("name", "baseline", "roots"), [("a2pr", "td3-bc", A2PR), ("td3-bc", "bc", TD3_BC)])
def test_a_method_differs_from_its_baseline_in_what_its_card_says(name, baseline, roots):
    paths = {path for path, *_ in difference(logged_recipe(name), logged_recipe(baseline))}
    assert paths
    assert [path for path in paths if not path.startswith((*roots, "steps", "evaluation"))] == []
