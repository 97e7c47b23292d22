"""LOOP without its knobs is RLOO and REINFORCE, to the bit; and a run on pictures goes on where it was killed."""

import numpy as np
import pytest

from helpers import chain_recipe, differing, final_state, metrics
from pilotage import api, credit
from pilotage.data.piece import Piece, piece
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.recipe import Recipe
from pilotage.worlds import pictures

POLICY = "terms.policy.objectives.policy"
OFF = {f"{POLICY}.loss.low": None, f"{POLICY}.loss.high": None, "terms.policy.minibatches": 1}


SCORED = Piece("helpers:scored_again")


def ends(recipe: Recipe, folder) -> dict:
    api.train(recipe.vary("test", {"credit.scored": SCORED}), out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "sampler", "rollout", "world")}


def test_without_clipping_and_with_one_update_it_is_rloo(tmp_path):
    made = chain_recipe("loop")
    off, other, on = (
        ends(recipe, tmp_path / str(i)) for i, recipe in enumerate((made.vary("test", OFF), chain_recipe("rloo"), made))
    )
    assert differing(off, other) == []
    assert differing(on["policy"], other["policy"]) != []


def test_without_its_baseline_too_it_is_reinforce(tmp_path):
    plain = {**OFF, "credit.advantage": piece(credit.returns.reward_to_go)}
    off = ends(chain_recipe("loop").vary("test", plain), tmp_path / "off")
    other = ends(chain_recipe("reinforce"), tmp_path / "other")
    assert differing(off, other) == []
    assert differing(off["policy"], ends(chain_recipe("rloo"), tmp_path / "rloo")["policy"]) != []


def test_ddpo_with_loops_credit_and_groups_is_loop(tmp_path):
    sizes = {"prompts_per_step": 3, "samples_per_prompt": 4}
    swapped = {**sizes, "credit": {"advantage": piece(credit.groups.leave_one_out)}}
    one = ends(chain_recipe("ddpo").vary("test", swapped), tmp_path / "one")
    other = ends(chain_recipe("loop").vary("test", sizes), tmp_path / "other")
    assert differing(one, other) == []


def test_pictures_of_equal_worth_move_nothing(tmp_path, monkeypatch):
    flat = {**pictures.REWARDS, "brightness": lambda pixels, label: np.ones(len(pixels))}
    monkeypatch.setattr(pictures, "REWARDS", flat)
    recipe = chain_recipe("loop", settings={"world.reward": "brightness"})
    before = {name: value.clone() for name, value in assemble(recipe).policy.state_dict().items()}
    api.train(recipe, out=tmp_path / "run")
    records = [r for r in metrics(tmp_path / "run") if r["kind"] == "train"]
    assert [(r["train/reward"], r["optimiser_steps"]) for r in records] == [(1.0, 0.0)] * 3
    assert differing(before, final_state(tmp_path / "run")["parts"]["policy"]) == []


@pytest.mark.parametrize("name", ["ddpo", "loop"])
def test_five_steps_are_two_a_stop_and_three_more(name, tmp_path):
    recipe = chain_recipe(name, settings={"steps": 5, "credit.advantage.least": 2} if name == "ddpo" else {"steps": 5})
    api.train(recipe, out=tmp_path / "whole")
    loop.train(recipe, tmp_path / "parted", until=2)
    api.resume(tmp_path / "parted")
    assert differing(final_state(tmp_path / "whole"), final_state(tmp_path / "parted")) == []
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parted")
