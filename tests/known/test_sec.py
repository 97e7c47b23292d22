"""SEC's card by hand: signals, values, probabilities, queues; and that the order of problems is all it changes."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import episodes, mixed_recipe
from pilotage.data.average import MovingAverage
from pilotage.data.batch import Batch, Stop
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.run.assemble import assemble
from pilotage.samplers.base import ended
from pilotage.samplers.categories import Ordered
from pilotage.samplers.evolving import Evolving, boltzmann, greedy, proportional
from pilotage.samplers.uniform import Uniform
from toy_worlds import Echo, Sizes


def opened(sampler, world=None, seed=0):
    sampler.open(world or Sizes(), Streams(seed))
    return sampler


def played(*groups: tuple[str, list[float]], valid: list[bool] | None = None) -> Batch:
    """A record of groups of returns, each of a category."""
    rewards = [reward for _, returns in groups for reward in returns]
    ids = [number for number, (_, returns) in enumerate(groups) for _ in returns]
    batch = episodes(rewards, ids, lengths=[3] * len(rewards), valid=valid)
    names = [name for name, returns in groups for _ in returns]
    return Batch(batch.offsets, batch.columns, batch.episode, {"category": names})


def eight(right: int) -> list[float]:
    return [1.0] * right + [0.0] * (8 - right)


@pytest.mark.parametrize(
    ("right", "normalised", "unnormalised"), [(1, 0.6187, 0.21875), (2, 0.8101, 0.375), (4, 0.9354, 0.5)]
)
def test_mean_absolute_advantage_in_closed_form(right, normalised, unnormalised):
    for signal, expected in (("normalised", normalised), ("unnormalised", unnormalised)):
        rewards, seen = opened(Evolving(signal=signal)).rewards(played(("one", eight(right))))
        assert rewards[0] == pytest.approx(expected, abs=5e-5)
        assert seen.tolist() == [True, False, False]
    # with the population's deviation the card has 2 sqrt(p (1 - p)): the sample's is sqrt(8/7) of it
    assert normalised * math.sqrt(8 / 7) == pytest.approx(2 * math.sqrt(right / 8 * (1 - right / 8)), abs=1e-4)


def test_a_value_follows_its_reward_by_halves():
    average = MovingAverage(0.5, [0.0])
    assert [float(average.update([0.8])[0]) for _ in range(3)] == pytest.approx([0.4, 0.6, 0.7], abs=1e-12)


@pytest.mark.parametrize(("decay", "after"), [(True, 0.4), (False, 0.8)])
def test_what_was_not_drawn_stays_or_decays(decay, after):
    sampler = opened(Evolving(decay=decay))
    sampler.average.value = np.array([0.8, 0.8, 0.8])
    sampler.observe(played(("two", eight(4))))
    assert sampler.values[[0, 2]].tolist() == [after, after]
    assert sampler.values[1] == pytest.approx(0.4 + 0.5 * 0.93541, abs=1e-5)


@pytest.mark.parametrize(("temperature", "first"), [(1.0, 0.7311), (0.4, 0.9241), (0.2, 0.9933)])
def test_softmax_by_temperature(temperature, first):
    found = boltzmann(np.array([1.0, 0.0]), temperature)
    assert found[0] == pytest.approx(first, abs=5e-5)
    assert found.sum() == pytest.approx(1.0)
    assert boltzmann(np.full(5, 0.3), temperature).tolist() == [0.2] * 5


def test_a_constant_on_all_values_changes_nothing_and_nothing_overflows():
    values = np.array([0.5, 0.25, 0.0])
    assert boltzmann(values + 8.0, 0.25) == pytest.approx(boltzmann(values, 0.25), abs=1e-15)
    assert boltzmann(np.array([1.0, 0.0]), 1e-6).tolist() == [1.0, 0.0]


def test_the_other_rules():
    assert greedy(np.array([0.1, 0.4, 0.2, 0.0]), 0.1) == pytest.approx([0.025, 0.925, 0.025, 0.025])
    assert greedy(np.zeros(4), 0.1) == pytest.approx([0.25] * 4)  # no favourite by its place in the list
    assert proportional(np.array([0.3, 0.1, 0.0]), 0.01) == pytest.approx([0.3 / 0.41, 0.1 / 0.41, 0.01 / 0.41])
    assert proportional(np.zeros(2), 0.01) == pytest.approx([0.5, 0.5])


def test_solved_and_hopeless_categories_fall_to_nothing():
    sampler = opened(Evolving(temperature=0.2))
    sampler.average.value = np.array([0.8, 0.8, 0.5])
    for _ in range(60):
        sampler.observe(played(("one", eight(8)), ("two", eight(0)), ("three", eight(4))))
    assert sampler.values == pytest.approx([0.0, 0.0, 0.93541], abs=1e-5)
    assert sampler.probabilities() == pytest.approx(boltzmann(np.array([0.0, 0.0, 0.93541]), 0.2), abs=1e-6)


def test_invalid_episodes_say_nothing():
    sampler = opened(Evolving())
    sampler.average.value = np.array([0.8, 0.8, 0.8])
    sampler.observe(played(("one", [1.0, 0.0]), ("two", [1.0, 0.0, 0.0]), valid=[False, False, True, True, False]))
    # "one" is as good as not drawn; of "two" a right and a wrong answer are left: |A| = 1/√2
    assert sampler.values == pytest.approx([0.8, 0.4 + 0.5 / math.sqrt(2), 0.8], abs=1e-5)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=4), min_size=1, max_size=4))
def test_values_stay_finite_whatever_the_groups(groups):
    names = ["one", "two", "three", "one"]
    sampler = opened(Evolving())
    sampler.observe(played(*zip(names, groups, strict=False)))
    assert np.isfinite(sampler.values).all()
    assert (sampler.values >= 0).all()


def in_windows(name: str, returns: list[float | None], pieces: list[float] | None = None) -> Batch:
    """One group's record in windows: None goes on. pieces: what of the return is in the record."""
    known = [0.0 if one is None else one for one in returns]
    batch = played((name, known if pieces is None else pieces))
    stop = [Stop.WINDOW if one is None else Stop.TERMINATED for one in returns]
    whole = [math.nan if one is None else one for one in returns]
    return batch.with_episode(stop=torch.tensor(stop), episode_return=torch.tensor(whole))


def test_what_ended_in_a_step():
    batch = in_windows("two", [1.0, None, 0.25], pieces=[0.5, 0.125, 0.25])
    found = ended(batch)
    assert found.returns.tolist() == [1.0, 0.25]  # of the whole episode, not of the piece
    assert found["group"].tolist() == [0, 0]
    assert list(found.notes["category"]) == ["two", "two"]
    assert ended(played(("one", [1.0, 0.5]))).returns.tolist() == [1.0, 0.5]
    assert len(ended(in_windows("one", [None, None]))) == 0


def test_answers_that_go_on_are_not_wrong_ones():
    sampler = opened(Evolving())
    # of four answers two end in the first step, one right and one wrong: |A| = 0.5 / sqrt(0.5)
    sampler.observe(in_windows("one", [1.0, None, 0.0, None]))
    assert sampler.values[0] == pytest.approx(0.5 * math.sqrt(0.5), abs=1e-5)
    # the other two in the second, both right. As one group, (1, 1, 0, 1), they would have paid 0.75
    sampler.observe(in_windows("one", [1.0, 1.0]))
    assert sampler.values[0] == pytest.approx(0.25 * math.sqrt(0.5), abs=1e-5)
    before = sampler.values.copy()
    for alone in ([None, 1.0, None], [None, None, None], [1.0]):  # compared with nothing
        sampler.observe(in_windows("one", alone))
        assert sampler.values.tolist() == before.tolist()


def test_the_signal_progress_is_the_change_of_the_mean_return():
    sampler = opened(Evolving(signal="progress"))
    first = [("one", eight(2)), ("two", eight(6))]
    sampler.observe(played(*first))  # the first time there is nothing before
    assert sampler.values.tolist() == [0.0, 0.0, 0.0]
    sampler.observe(played(("one", eight(4))))  # 2/8 to 4/8
    assert sampler.values.tolist() == [0.125, 0.0, 0.0]
    sampler.observe(played(("one", eight(4)), ("two", eight(5)), ("three", eight(8))))  # same, 6/8 to 5/8, first
    assert sampler.values.tolist() == [0.0625, -0.0625, 0.0]
    sampler.observe(played(("three", [1.0, 0.0]), valid=[False, True]))  # all right to what is valid of it, wrong
    assert sampler.values.tolist() == [0.0625, -0.0625, -0.5]


def test_progress_of_what_was_not_drawn_is_none_where_values_decay():
    sampler = opened(Evolving(signal="progress", decay=True))
    for right in (2, 6):
        sampler.observe(played(("one", eight(right)), ("two", eight(right))))
    assert sampler.values.tolist() == [0.25, 0.25, 0.0]
    sampler.observe(played(("two", eight(8))))
    assert sampler.values.tolist() == [0.125, 0.25, 0.0]


def test_progress_counts_answers_that_are_alone():
    sampler = opened(Evolving(signal="progress"))
    sampler.observe(in_windows("one", [0.0, None]))
    sampler.observe(in_windows("one", [None, 1.0]))
    assert sampler.values[0] == 0.5


def test_a_queue_gives_everything_once_before_anything_twice():
    sampler = opened(Evolving(pool=5))
    by_category: dict[str, list[int]] = {}
    for _ in range(60):
        task = sampler.next()
        by_category.setdefault(task.category, []).append(task.key)
    assert set(by_category) == {"one", "two", "three"}
    for keys in by_category.values():
        rounds = [keys[i : i + 5] for i in range(0, len(keys) - 4, 5)]
        assert all(sorted(one) == [0, 1, 2, 3, 4] for one in rounds)
    orders = {tuple(keys[i : i + 5]) for keys in by_category.values() for i in range(0, len(keys) - 4, 5)}
    assert len(orders) > 3  # reshuffled each time round, and each queue for itself


def test_without_a_pool_no_problem_comes_twice():
    sampler = opened(Evolving())
    drawn = [(task.category, task.key) for task in (sampler.next() for _ in range(300))]
    assert len(set(drawn)) == 300


@pytest.mark.parametrize("settings", [{}, {"rule": "greedy"}, {"rule": "proportional"}, {"temperature": 0.2}])
def test_one_category_is_the_uniform_sampler(settings):
    sampler, uniform = opened(Evolving(**settings), Echo(), 3), opened(Uniform(), Echo(), 3)
    assert [sampler.next() for _ in range(20)] == [uniform.next() for _ in range(20)]
    alone = Sizes(parts={"one": {"world": "toy_worlds:Echo"}})
    sampler, uniform = opened(Evolving(**settings), alone, 3), opened(Uniform(), alone, 3)
    assert [sampler.next() for _ in range(20)] == [uniform.next() for _ in range(20)]


def test_arms_are_drawn_as_likely_as_they_are():
    sampler = opened(Evolving(temperature=0.4))
    sampler.average.value = np.array([0.0, 0.4, 0.8])
    counts = Counter(sampler.next().category for _ in range(3000))
    for name, chance in zip(sampler.names, sampler.probabilities(), strict=True):
        assert counts[name] / 3000 == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 3000))


def test_what_it_says():
    sampler = opened(Evolving())
    sampler.prepare(None, 0)
    for _ in range(8):
        sampler.next()
    sampler.observe(played(("one", eight(4))))
    found = sampler.metrics()
    assert sum(found[f"sampler/share/{name}"] for name in sampler.names) == pytest.approx(1.0)
    assert found["sampler/value/one"] == pytest.approx(0.4677, abs=1e-4)
    sampler.prepare(None, 1)
    assert sum(value for name, value in sampler.metrics().items() if "share" in name) == 0.0


def test_orders_by_hand():
    rising, falling = opened(Ordered(each=3)), opened(Ordered(each=3, reverse=True))
    names = [task.category for task in (rising.next() for _ in range(11))]
    assert names == ["one"] * 3 + ["two"] * 3 + ["three"] * 5
    assert [falling.next().category for _ in range(9)] == ["three"] * 3 + ["two"] * 3 + ["one"] * 3


def test_gradients_are_those_of_the_baseline_on_the_same_batch():
    sec, grpo = (assemble(mixed_recipe(name)) for name in ("sec", "grpo"))
    tasks = [sec.sampler.next() for _ in range(3)]
    batch = sec.rollout.converse(sec.policy, sec.world, tasks, 4, sec.streams, "rollout", 0)
    for parts in (sec, grpo):
        parts.sampler.observe(batch)
        parts.store.add(parts.credited(batch, 0.0))
        for drawn in parts.store.batches(parts.streams, 0):
            parts.learner.update(drawn, 0, 0.0)
    one, other = (parts.policy.state_dict() for parts in (sec, grpo))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "boltzman"}, "did you mean 'boltzmann'"),
        ({"signal": "normalized"}, "did you mean"),
        ({"temperature": 0.0}, "temperature"),
        ({"rate": 1.5}, "rate"),
        ({"pool": 0}, "at least one task"),
    ],
)
def test_mistakes_are_answered(settings, message):
    with pytest.raises(UsageError, match=message):
        Evolving(**settings)


def test_a_record_without_categories_is_refused_where_there_are_several():
    with pytest.raises(UsageError, match="does not note the category"):
        opened(Evolving()).observe(episodes([1.0, 0.0], [0, 0]))


def test_a_moving_average_goes_on_from_its_state():
    one, other = MovingAverage(0.7), MovingAverage(0.7)
    one.update([1.0, 2.0])
    other.load_state_dict(one.state_dict())
    assert one.update([0.3, 0.1], [True, False]).tolist() == other.update([0.3, 0.1], [True, False]).tolist()
    assert one.value.tolist() == [0.7 + (1 - 0.7) * 0.3, 2.0]
    with pytest.raises(UsageError, match="keeps a share"):
        MovingAverage(1.1)
