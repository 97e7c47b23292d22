"""A mixture of worlds: each problem is of a part, and is worked and judged as that part does."""

import dataclasses

import numpy as np
import pytest

from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.worlds import phrases, registry
from pilotage.worlds.base import Categorised
from pilotage.worlds.mixed import MixedWorld
from pilotage.worlds.mixtures import MIXTURES
from pilotage.worlds.text import Demonstrates, place
from toy_worlds import Echo, Sizes

LEARNT, FURTHER = ("2x1", "3x1", "4x1", "5x1", "2x2", "3x2"), ("6x1", "4x2")


@pytest.fixture(scope="module")
def sums() -> MixedWorld:
    return registry.resolve("mixed:sums").having(time_limit=None).build()


def test_categories_are_named_by_terms_and_digits(sums):
    assert isinstance(sums, Categorised)
    assert (sums.categories, sums.beyond) == (LEARNT, FURTHER)
    for name in LEARNT + FURTHER:
        terms, digits = map(int, name.split("x"))
        numbers = sums.task_of(name, 5, "train").prompt.strip("=").replace("-", "+").split("+")
        assert [len(number) for number in numbers] == [digits] * terms


def test_numbers_name_tasks_of_either_kind(sums):
    again = registry.resolve("mixed:sums").having(time_limit=None).build()
    for split in ("train", "held_out"):
        assert [sums.task(i, split) for i in range(20)] == [again.task(i, split) for i in range(20)]
        for name in LEARNT:
            assert sums.task_of(name, 7, split) == again.task_of(name, 7, split)
            assert sums.task_of(name, 7, split).key == 7


def test_a_task_by_its_number_is_of_any_category(sums):
    found = [sums.task(index, "train").category for index in range(600)]
    assert all(found.count(name) == pytest.approx(100, abs=40) for name in LEARNT)
    assert not set(found) - set(LEARNT)


def test_what_one_part_holds_out_no_other_shows(sums):
    for name in LEARNT + FURTHER:
        assert all(place(sums.task_of(name, index, "train").prompt) >= 1 / 8 for index in range(30))
        assert all(place(sums.task_of(name, index, "held_out").prompt) < 1 / 8 for index in range(10))
    assert all(place(sums.task(index, "held_out").prompt) < 1 / 8 for index in range(30))


@pytest.mark.parametrize("name", LEARNT + FURTHER)
def test_each_is_worked_and_judged_by_its_own(sums, name):
    for index in range(10):
        task = sums.task_of(name, index, "train")
        worked = sums.demonstrate(task, np.random.default_rng(index))
        assert sums.verify(task, worked) == 1.0
        assert sums.verify(task, worked + "1") == 0.0
        assert sums.verify(task, "") == 0.0
        assert set(task.prompt) <= set(sums.observation.alphabet)
        assert set(worked) <= set(sums.action.alphabet)
        assert len(task.prompt) <= sums.observation.max_tokens
        assert len(worked) < sums.action.max_tokens


@pytest.mark.parametrize("answer", ["9" * 5000, "(" * 500, "1;2;3", "٣", "1e3", "0x1", "-", ";", " 1 ", "a" * 100_000])
def test_odd_answers_are_worth_nothing_and_in_time(answer):
    world = registry.resolve("mixed:sums").having(time_limit=2.0).build()
    try:
        task = world.task_of("2x1", 0, "train")
        other = next(t for i in range(20) if (t := world.task_of("3x2", i, "train")).answer != answer.strip())
        verdicts = world.judge([(task, task.answer), (other, answer), (other, other.answer)])
        assert [v.reward for v in verdicts] == [1.0, 0.0, 1.0]
    finally:
        world.close()


def test_half_of_the_solutions_are_wrong_if_asked():
    world = registry.resolve("mixed:sums").having(time_limit=None, wrong_share=0.5).build()
    tasks = [world.task(index, "train") for index in range(200)]
    right = [world.verify(task, world.demonstrate(task, np.random.default_rng(i))) for i, task in enumerate(tasks)]
    assert np.mean(right) == pytest.approx(0.5, abs=0.12)
    start = api.recipe("sec", "mixed:sums").start
    assert start.world.defaults()["wrong_share"] == 0.5


def test_parts_are_in_the_recipe():
    recipe = api.recipe("sec", "mixed:sums")
    assert recipe.world.settings["parts"] == MIXTURES["sums"]["parts"]


def test_mixtures_of_other_worlds():
    assert isinstance(Sizes(), Demonstrates)
    assert Sizes().phrases == phrases.COMPACT  # which its parts agree on
    assert registry.resolve("mixed:sums").build().phrases == phrases.COMPACT
    assert Sizes().action.max_tokens == 6
    echo = Sizes().task_of("one", 3, "train")
    assert dataclasses.replace(echo, category="") == dataclasses.replace(
        MixedWorld(parts={"x": {"world": "toy_worlds:Echo"}}).task_of("x", 3, "train"), category=""
    )
    assert Echo().verify(echo, echo.answer) == Sizes().verify(echo, echo.answer)


@pytest.mark.parametrize(
    ("parts", "beyond", "message"),
    [
        ({}, {}, "needs parts"),
        ({"a": {"world": "toy_worlds:Echo"}}, {"a": {"world": "toy_worlds:Echo"}}, "'a' is a part and beyond"),
        ({"a": {"world": "reasoning:chain_sun"}}, {}, "did you mean 'chain_sum'"),
        ({"a": {"world": "reasoning:chain_sum", "stle": 1}}, {}, "no setting 'stle'"),
        ({"a": {"world": "gym:CartPole-v1"}}, {}, "no world of problems in text"),
    ],
)
def test_mistakes_are_answered(parts, beyond, message):
    with pytest.raises(UsageError, match=message):
        MixedWorld(parts=parts, beyond=beyond)


def test_an_unknown_category_or_mixture_is_met_with_the_nearest(sums):
    with pytest.raises(UsageError, match="did you mean '3x1'"):
        sums.task_of("3x11", 0, "train")
    with pytest.raises(UsageError, match="did you mean 'sums'"):
        registry.resolve("mixed:sum")
