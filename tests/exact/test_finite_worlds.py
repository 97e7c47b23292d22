"""Finite-horizon worlds: values by dynamic programming against every trajectory, and play that follows the model."""

import itertools
import json

import gymnasium
import numpy as np
import pytest

from pilotage.data.piece import UsageError
from pilotage.worlds.finite import DeepSea, FiniteModel, FiniteWorld, FrozenLake, LinearWorld, RiverSwim

WORLDS = [FrozenLake(horizon=6), DeepSea(size=4), RiverSwim(horizon=5), LinearWorld(states=7, horizon=4, features=3)]
IDS = [type(world).__name__ for world in WORLDS]


def random_model(horizon=2, states=2, actions=2, seed=0):
    rng = np.random.default_rng(seed)
    return FiniteModel(
        rng.dirichlet(np.ones(states), size=(horizon, states, actions)),
        rng.random((horizon, states, actions)),
        rng.dirichlet(np.ones(states)),
    )


def random_policy(model, seed=1, copies=()):
    shape = model.reward.shape
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), size=(*copies, *shape[:2]))


def trajectories(model):
    """Every (states, actions) of H steps."""
    horizon, states, actions = model.reward.shape
    for path in itertools.product(range(states), repeat=horizon):
        for acts in itertools.product(range(actions), repeat=horizon):
            yield path, acts


def chance_of(model, policy, path, acts):
    found = model.start[path[0]]
    for h, (state, action) in enumerate(zip(path, acts, strict=True)):
        found *= policy[h, state, action]
        if h + 1 < len(path):
            found *= model.transition[h, state, action, path[h + 1]]
    return found


def test_values_are_sums_over_all_trajectories():
    model = random_model(horizon=3, states=3)
    policy = random_policy(model)
    total = sum(
        chance_of(model, policy, path, acts)
        * sum(model.reward[h, s, a] for h, (s, a) in enumerate(zip(path, acts, strict=True)))
        for path, acts in trajectories(model)
    )
    assert model.returns(policy) == pytest.approx(total, abs=1e-12)


def test_the_best_policy_is_the_best_of_all():
    model = random_model()
    horizon, states, actions = model.reward.shape
    every = [
        np.eye(actions)[np.array(choice).reshape(horizon, states)]
        for choice in itertools.product(range(actions), repeat=horizon * states)
    ]
    value, policy = model.best()
    assert model.start @ value[0] == pytest.approx(max(model.returns(p) for p in every), abs=1e-12)
    assert model.returns(policy) == pytest.approx(model.start @ value[0], abs=1e-12)


def test_many_policies_at_once_are_each_alone():
    model = random_model(horizon=3, states=4, actions=3)
    many = random_policy(model, copies=(5,))
    # sums may be taken in another order for many: equal but for the last bit
    assert np.allclose(model.returns(many), [model.returns(one) for one in many], rtol=1e-14, atol=0)


@pytest.mark.parametrize("world", WORLDS, ids=IDS)
def test_play_follows_the_model(world):
    model = world.exact()
    policy = random_policy(model, copies=(2,))
    _, _, rewards = world.demonstrate(policy, 4000, np.random.default_rng(0))
    spread = rewards.sum(-1).std(-1) / np.sqrt(4000) + 1e-9
    assert (np.abs(rewards.sum(-1).mean(-1) - model.returns(policy)) < 5 * spread).all()
    # and so does playing step by step, with its own chance
    tasks = [world.task(i, "train") for i in range(2000)]
    rng, lanes = np.random.default_rng(1), range(2000)
    observed, total = world.reset(tasks, lanes), np.zeros(2000)
    for h in range(model.horizon):
        assert (observed[:, 0] == h).all()
        uniform = rng.integers(model.reward.shape[-1], size=2000)
        outcome = world.step(uniform, lanes)
        total += outcome.reward
        observed = outcome.observation
    assert outcome.terminated.all()
    expected = model.returns(np.full(model.reward.shape, 1 / model.reward.shape[-1]))
    assert abs(total.mean() - expected) < 5 * total.std() / np.sqrt(2000) + 1e-9
    assert total.max() <= world.reward_range[1] + 1e-5


@pytest.mark.parametrize("world", WORLDS, ids=IDS)
def test_an_episode_is_its_task_and_its_actions(world):
    def played(stop=None):
        made = [world.reset([world.task(3, "train"), world.task(4, "train")], [0, 1])]
        for h in range(world.exact().horizon):
            if stop == h:
                saved = json.loads(json.dumps(world.state_dict()))
                world.reset([world.task(9, "train")], [0])
                world.load_state_dict(saved)
            made.append(world.step([1, 0], [0, 1]).observation)
        return np.stack(made)

    assert np.array_equal(played(), played())
    assert np.array_equal(played(), played(stop=2))
    with pytest.raises(ValueError, match="no running episode"):
        world.step([0], [0])


def test_the_lake_is_gymnasiums():
    # gymnasium's own environment, played with our best policy, gets as far as our model says
    lake = FrozenLake(horizon=25).exact()
    value, policy = lake.best()
    env = gymnasium.make("FrozenLake-v1").unwrapped
    found = []
    for episode in range(1500):
        state, _ = env.reset(seed=episode)
        over, paid = False, 0.0
        for h in range(25):
            state, paid, over, *_ = env.step(int(policy[h, state].argmax()))
            if over:
                break
        found.append(float(paid))
    assert abs(np.mean(found) - value[0, 0]) < 4 * np.std(found) / np.sqrt(1500)
    sure = FrozenLake(horizon=6, slippery=False).exact()
    assert sure.best()[0][0, 0] == pytest.approx(1.0)
    assert FrozenLake(horizon=5, slippery=False).exact().best()[0][0, 0] == 0.0


def test_the_sea_has_one_way_to_the_treasure():
    model = DeepSea(size=5, seed=3).exact()
    value, policy = model.best()
    assert value[0, 0] == pytest.approx(1.0)
    # at random it is found once in 2^5 dives; the rest of the return is what ways to the left pay
    uniform = np.full(model.reward.shape, 0.5)
    assert model.returns(uniform) == pytest.approx(2**-5 + 0.01 * 0.5, abs=1e-12)
    greedy = policy.argmax(-1)
    assert sum(model.transition[h, h, greedy[h, h], min(h + 1, 4)] for h in range(5)) == 5


def test_the_linear_world_is_linear():
    world = LinearWorld(states=9, actions=3, features=4, horizon=2)
    phi, model = world.features().reshape(27, 4), world.exact()
    for h in range(2):
        rows = np.concatenate([model.transition[h].reshape(27, 9), model.reward[h].reshape(27, 1)], -1)
        fitted = phi @ np.linalg.lstsq(phi, rows, rcond=None)[0]
        assert np.abs(fitted - rows).max() < 1e-12
    assert (np.linalg.norm(phi, axis=-1) <= 1).all()


def test_what_does_not_fit_is_refused():
    good = random_model()
    with pytest.raises(UsageError, match="do not"):
        FiniteModel(good.transition, good.reward[:1], good.start)
    with pytest.raises(UsageError, match="sum to 1"):
        FiniteModel(good.transition * 0.9, good.reward, good.start)
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        FiniteModel(good.transition, good.reward - 2, good.start)
    with pytest.raises(UsageError, match="size 4 and 8"):
        FrozenLake(size=5)
    with pytest.raises(UsageError, match="at least 2"):
        DeepSea(size=1)
    with pytest.raises(UsageError, match="at least 3"):
        RiverSwim(states=2)
    assert FiniteWorld(good).kind == "finite"
