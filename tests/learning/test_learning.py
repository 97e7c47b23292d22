"""Methods learn: thresholds are on the lower end of an interval, so that luck does not pass for learning."""

from pathlib import Path

import pytest

import pilotage as pl
from helpers import SMALL_LM, TEXT_WORLD
from pilotage import api
from pilotage.run import verdict
from pilotage.run.results import read_run


def ended(recipe, folder):
    """The arm of one run: its start, its end, and the rise over held-out items."""
    return verdict.side(recipe.name, [read_run(pl.train(recipe, out=folder).folder)])


def low_of_final(folder):
    """The lower end of the last evaluation's 95 % interval over held-out items."""
    return read_run(folder).evaluations[-1]["eval/low"]


def test_grpo_learns_to_say_the_right_number_of_digits(tmp_path):
    """From an untrained model: half of the reward is for stopping in time, half for the digits themselves."""
    sizes = {"prompts_per_step": 8, "samples_per_prompt": 8, "steps": 40, "start": None}
    judged = {"evaluation.every": 0, "evaluation.tasks": 200, "evaluation.samples": 16}
    recipe = api.recipe("grpo", TEXT_WORLD, settings={**SMALL_LM, **sizes, **judged, "learning_rate": 1e-2})
    arm = ended(recipe, tmp_path / "run")
    assert arm.rise_over_items is not None
    assert arm.rise_over_items.low > 0.1, verdict.rise_sentence(arm, "eval/return")


def test_ppo_learns_to_walk_right(tmp_path):
    """Five steps to the right are worth 5, a random walk 0."""
    sizes = {"rollout.lanes": 8, "rollout.steps": 25, "steps": 30, "policy.hidden": [16]}
    judged = {"evaluation.every": 0, "evaluation.tasks": 50, "learning_rate": 1e-2}
    arm = ended(api.recipe("ppo", "toy_worlds:Line", settings={**sizes, **judged}), tmp_path / "run")
    assert arm.start.estimate < 2
    assert arm.rise_over_items is not None
    assert arm.rise_over_items.low > 2, verdict.rise_sentence(arm, "eval/return")
    assert low_of_final(tmp_path / "run") > 4.5


SMALL_CHAINS = {"world.reward": "brightness", "world.steps": 8, "policy.hidden": (128, 128), "evaluation.tasks": 100}


def test_a_denoiser_learns_to_draw_what_is_wanted(tmp_path):
    """300 batches; a blank picture is taken for one of ten classes."""
    recipe = api.recipe("denoising", "images:digits", settings={**SMALL_CHAINS, "steps": 3, "evaluation.every": 0})
    first, last = read_run(pl.train(recipe, out=tmp_path / "run").folder).evaluations
    assert first["eval/success"] < 0.2
    assert last["eval/success"] > 0.9


@pytest.mark.parametrize("name", ["loop", "ddpo"])
def test_denoisers_learn_to_draw_brighter_digits(name, tmp_path):
    """From 300 batches of pretraining, in 20 steps of 128 pictures."""
    sizes = {"start.steps": 3, "steps": 20, "evaluation.every": 0, "learning_rate": 3e-4}
    recipe = api.recipe(name, "images:digits", seed=100, settings={**SMALL_CHAINS, **sizes})
    arm = ended(recipe, tmp_path / "run")
    assert arm.rise_over_items is not None
    assert arm.rise_over_items.low > 0.005, verdict.rise_sentence(arm, "eval/return")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ppo_solves_cartpole(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from experiments.ppo_cartpole import SOLVED
    from experiments.ppo_cartpole_short import arms

    recipe = arms(quick=False)["ppo"].vary("test", {"seed": 100})
    pl.train(recipe, out=tmp_path / "run")
    assert low_of_final(tmp_path / "run") >= SOLVED


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_grpo_lifts_chain_sum_by_twenty_points(tmp_path):
    recipe = api.recipe("grpo", seed=100, settings={"evaluation.every": 0, "evaluation.tasks": 800})
    arm = ended(recipe, tmp_path / "run")
    assert arm.rise_over_items is not None
    assert arm.rise_over_items.low >= 0.2, verdict.rise_sentence(arm, "eval/accuracy")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sac_swings_the_pendulum_up(tmp_path, monkeypatch):
    """An untrained policy gets about -1,400; hanging still costs some -1,600, standing still nothing."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from experiments.sac_pendulum import arms

    pl.train(arms(quick=False)["sac"].vary("test", {"seed": 100}), out=tmp_path / "run")
    assert low_of_final(tmp_path / "run") >= -300
