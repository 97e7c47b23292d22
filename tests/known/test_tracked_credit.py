"""DDPO's credit by hand: what a prompt has earned lately, the batch where that is too little, and the clamp."""

import math

import pytest
import torch

from helpers import episodes
from pilotage.credit.tracked import PerPrompt
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError


def batch(rewards: list[float], prompts: list[str], **rest) -> Batch:
    made = episodes(rewards, **rest)
    return Batch(made.offsets, made.columns, made.episode, {"category": prompts})


def test_a_prompt_seen_often_enough_is_held_against_itself():
    credit = PerPrompt(remembered=3, least=2, limit=None, eps=0.0)
    found = credit(batch([1.0, 3.0, 10.0], ["a", "a", "b"]))["advantage"]
    # a: mean 2, population deviation 1; b has one return: mean and deviation of the batch, 14/3 and sqrt(134/9)
    assert found.tolist() == pytest.approx([-1.0, 1.0, (10 - 14 / 3) / math.sqrt(134 / 9)])
    # then the last three of a: 3, 5, 7, of mean 5 and deviation sqrt(8/3)
    later = credit(batch([5.0, 7.0], ["a", "a"]))["advantage"]
    assert later.tolist() == pytest.approx([0.0, 2 / math.sqrt(8 / 3)])
    assert credit.seen["a"].tolist() == [3.0, 5.0, 7.0]


def test_the_sample_deviation_and_eps():
    credit = PerPrompt(remembered=4, least=2, ddof=1, limit=None, eps=0.5)
    found = credit(batch([1.0, 3.0], ["a", "a"]))["advantage"]
    assert found.tolist() == pytest.approx([-1 / (math.sqrt(2) + 0.5), 1 / (math.sqrt(2) + 0.5)])


def test_advantages_are_held_within_the_limit():
    rewards = [0.0] * 99 + [1.0]  # the last one stands sqrt(99) = 9.95 deviations out
    free = PerPrompt(limit=None, eps=0.0)(batch(rewards, ["a"] * 100))["advantage"]  # of the last 32 only
    held = PerPrompt(remembered=100, eps=0.0)(batch(rewards, ["a"] * 100))["advantage"]
    assert free[-1] == pytest.approx((1 - 1 / 32) / math.sqrt(31) * 32)
    assert held[-1] == 5.0
    assert held[0] == pytest.approx(-0.01 / math.sqrt(0.0099))


def test_equal_returns_give_nothing():
    assert PerPrompt()(batch([2.0] * 20, ["a"] * 20))["advantage"].tolist() == [0.0] * 20


def test_every_decision_of_an_episode_gets_its_advantage():
    found = PerPrompt(remembered=2, least=1, eps=0.0)(batch([1.0, 3.0], ["a", "a"], lengths=[2, 3]))["advantage"]
    assert found.tolist() == pytest.approx([-1, -1, 1, 1, 1])


def test_invalid_episodes_teach_nothing():
    credit = PerPrompt(remembered=4, least=1, eps=0.0)
    found = credit(batch([1.0, 3.0, math.nan], ["a", "a", "a"], valid=[True, True, False]))["advantage"]
    assert found.tolist() == pytest.approx([-1.0, 1.0, 0.0])
    assert credit.seen["a"].tolist() == [1.0, 3.0]


def test_what_was_seen_is_saved():
    first, second = PerPrompt(remembered=8, least=2), PerPrompt(remembered=8, least=2)
    first(batch([1.0, 2.0, 5.0], ["a", "b", "a"]))
    second.load_state_dict(first.state_dict())
    nexts = batch([4.0, 4.5], ["b", "a"])
    assert torch.equal(first(nexts)["advantage"], second(nexts)["advantage"])
    fresh = PerPrompt(remembered=8, least=2)(nexts)["advantage"]
    assert not torch.equal(first(nexts)["advantage"], fresh)


@pytest.mark.parametrize("wrong", [{"least": 0}, {"least": 33}, {"ddof": 2}, {"limit": 0.0}, {"least": 1, "ddof": 1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        PerPrompt(**wrong)
