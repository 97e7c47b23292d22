"""What is said of a critic before it learns, by hand."""

import pytest
import torch

from helpers import control_recipe, episodes, metrics, text_recipe
from pilotage import api
from pilotage.data.piece import piece
from pilotage.data.rng import Streams
from pilotage.learn.diagnostics import explained_variance
from pilotage.learn.learner import Learner
from pilotage.learn.terms import Objective, Term
from pilotage.losses.value import squared_error
from pilotage.policies.mlp import ActorCritic
from toy_worlds import Line

TARGET = [1.0, 0.0, 1.0, 0.0]  # of variance 1/4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TARGET, 1.0),
        ([6.0, 5.0, 6.0, 5.0], 1.0),  # an error that is the same everywhere is none of the variance
        ([0.5] * 4, 0.0),
        ([1.0, 0.0, 0.0, 0.0], 0.25),  # what is left, 0 0 1 0, has 3/16
        ([0.0, 1.0, 0.0, 1.0], -3.0),  # and 1 -1 1 -1 has 1
    ],
)
def test_by_hand(value, expected):
    assert explained_variance(torch.tensor(value), torch.tensor(TARGET)) == pytest.approx(expected)


@pytest.mark.parametrize("target", [[], [0.3], [0.3] * 7])
def test_where_targets_do_not_vary_nothing_is_said(target):
    assert explained_variance(torch.arange(float(len(target))), torch.tensor(target)) is None


def test_processes_count_together():
    value, target = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0])
    both = explained_variance(value.repeat(2), target.repeat(2))
    assert explained_variance(value, target, over_ranks=lambda total: 2 * total) == pytest.approx(both)


@pytest.mark.parametrize(("where", "expected"), [("", 0.25), ("chosen", 1.0)])
def test_it_is_of_the_decisions_that_the_critic_learns_from_and_of_what_it_said_before(where, expected):
    world = Line()
    policy = ActorCritic(world.observation, world.action, hidden=(4,), critic=True, seed=0)
    batch = episodes([[0.0] * 4], value=[[1.0, 0.0, 0.0, 0.0]], **{"return": [TARGET]})
    batch = batch.with_columns(observation=torch.ones(4, 2), chosen=torch.tensor([True, True, False, True]))
    term = Term({"value": Objective(piece(squared_error), where=where)}, parameters="critic", epochs=3)
    found = Learner(policy, {"critic": term}, Streams(0)).update(batch, 0, 0.0)
    assert found["value/explained_variance"] == pytest.approx(expected)
    level = batch.with_columns(**{"return": torch.ones(4)})
    assert "value/explained_variance" not in Learner(policy, {"critic": term}, Streams(0)).update(level, 0, 0.0)


@pytest.mark.parametrize(
    ("recipe", "logged"),
    [
        (control_recipe("ppo"), True),
        (text_recipe("ppo"), True),
        (text_recipe("t-ppo"), True),
        (text_recipe("grpo"), False),
    ],
    ids=["ppo-control", "ppo-text", "t-ppo", "grpo"],
)
def test_methods_with_a_critic_log_it(recipe, logged, tmp_path):
    run = api.train(recipe.vary("test", {"steps": 3}), out=tmp_path / "run")
    found = [
        record["value/explained_variance"] for record in metrics(run.folder) if "value/explained_variance" in record
    ]
    assert bool(found) is logged
    assert all(value <= 1 for value in found)
