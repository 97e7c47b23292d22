"""The tabular world against its own exact model, and the exact formulas against brute force and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.piece import UsageError
from pilotage.worlds.tabular import (
    Model,
    TabularWorld,
    exact_occupancy,
    exact_policy_gradient,
    exact_return,
    exact_values,
    softmax,
)


def by_enumeration(model: Model, policy: torch.Tensor) -> torch.Tensor:
    """The expected return as a sum over all paths, differentiable in the policy."""
    states, actions = model.reward.shape
    total = torch.zeros((), dtype=torch.float64)
    frontier = [(s, torch.tensor(p), 0.0) for s, p in enumerate(model.start) if p > 0]
    for _ in range(model.horizon):
        following = []
        for s, chance, earned in frontier:
            for a in range(actions):
                gained = earned + float(model.reward[s, a])
                for to in range(states):
                    both = chance * policy[s, a] * float(model.transition[s, a, to])
                    if model.terminal[to]:
                        total = total + both * gained
                    else:
                        following.append((to, both, gained))
        frontier = following
    for _, chance, earned in frontier:
        total = total + chance * earned
    return total


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=15, deadline=None)
def test_return_and_gradient_are_those_of_all_paths(seed: int, ending: bool) -> None:
    model = TabularWorld(states=3, actions=2, horizon=3, terminal=[2] if ending else [], seed=seed).exact()
    logits = torch.tensor(np.random.default_rng(seed).normal(size=(3, 2)), requires_grad=True)
    total = by_enumeration(model, torch.softmax(logits, -1))
    (gradient,) = torch.autograd.grad(total, logits)
    plain = logits.detach().numpy()
    assert exact_return(model, softmax(plain)) == pytest.approx(total.item(), abs=1e-12)
    assert np.allclose(exact_policy_gradient(model, plain), gradient.numpy(), atol=1e-12)


def test_values_by_hand() -> None:
    # a corridor: action 1 walks right and pays 1 at each step but from the last state; action 0 stays and pays nothing
    walk = np.zeros((3, 2, 3))
    walk[:, 0] = np.eye(3)
    walk[[0, 1, 2], 1, [1, 2, 2]] = 1.0
    reward = [[0, 1], [0, 1], [0, 0]]
    model = TabularWorld(transition=walk.tolist(), reward=reward, horizon=2).exact()
    values, action_values = exact_values(model, np.array([[0.5, 0.5]] * 3))
    assert np.allclose(values, [[1.0, 0.75, 0], [0.5, 0.5, 0], [0, 0, 0]])
    assert np.allclose(action_values[0], [[0.5, 1.5], [0.5, 1.0], [0, 0]])
    assert np.allclose(exact_occupancy(model, np.array([[0.5, 0.5]] * 3)), [[1, 0, 0], [0.5, 0.5, 0]])


@pytest.mark.parametrize("ending", [False, True])
def test_episodes_follow_the_model(ending: bool) -> None:
    world = TabularWorld(states=4, actions=3, horizon=4, terminal=[3] if ending else [], seed=5)
    model, episodes = world.exact(), 20_000
    policy = softmax(np.random.default_rng(1).normal(size=(4, 3)))
    rng = np.random.default_rng(2)
    lanes = np.arange(episodes)
    observation = world.reset([world.task(i, "train") for i in range(episodes)], lanes.tolist())
    total, visits = np.zeros(episodes), np.zeros((4, 4))
    for t in range(model.horizon):
        visits[t] = observation.sum(0)
        chances = policy[observation.argmax(-1)].cumsum(-1)
        outcome = world.step((rng.random((len(lanes), 1)) > chances).sum(-1).clip(max=2), lanes.tolist())
        total[lanes] += outcome.reward
        going = ~outcome.terminated
        assert not outcome.truncated.any()
        assert going.any() == (t < model.horizon - 1)
        lanes, observation = lanes[going], outcome.observation[going]
    error = total.std() / np.sqrt(episodes)
    assert abs(total.mean() - exact_return(model, policy)) < 4 * error
    assert np.allclose(visits / episodes, exact_occupancy(model, policy), atol=4 * 0.5 / np.sqrt(episodes))


def test_the_horizon_truncates_where_asked() -> None:
    world = TabularWorld(horizon=2, truncate=True)
    world.reset([world.task(0, "train")], [0])
    assert not world.step([0], [0]).truncated[0]
    outcome = world.step([0], [0])
    assert outcome.truncated[0]
    assert not outcome.terminated[0]
    with pytest.raises(ValueError, match="reset it first"):
        world.step([0], [0])


def test_splits_have_chances_of_their_own() -> None:
    world = TabularWorld(states=8, horizon=30)
    paths = []
    for split in ("train", "held_out"):
        world.reset([world.task(0, split)], [0])  # type: ignore[arg-type]
        paths.append([int(world.step([0], [0]).observation.argmax()) for _ in range(30)])
    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    "tables",
    [
        {"transition": np.full((2, 2, 2), 0.6).tolist()},
        {"transition": np.full((2, 2, 3), 1 / 3).tolist()},
        {"reward": np.zeros((3, 2)).tolist(), "start": [1.0, 0.0]},
        {"start": [-1.0, 2.0, 0.0, 0.0]},
        {"terminal": [0]},
    ],
)
def test_tables_that_do_not_fit(tables: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        TabularWorld(**tables)  # type: ignore[arg-type]
