"""Credit against numbers worked by hand, and what it does at its edges."""

import math

import pytest
import torch
from torch import Tensor

from helpers import episodes
from pilotage.credit.groups import (
    Relative,
    drop_without_signal,
    labels,
    leave_one_out,
    merged,
    without_signal,
)
from pilotage.credit.returns import discounted, gae, old_distribution, reward_to_go, standardise, values
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.reduce import moments
from pilotage.policies.base import Policy
from pilotage.policies.distributions import Categorical


def numbers(tensor: Tensor) -> list[float]:
    return [round(x, 6) for x in tensor.tolist()]


# ---- returns to go


def test_reward_to_go_by_hand():
    batch = reward_to_go(episodes([[1.0, 2.0, 4.0], [3.0], [0.0, 8.0]]), discount=0.5)
    assert numbers(batch["advantage"]) == [3.0, 4.0, 4.0, 3.0, 4.0, 8.0]
    assert torch.equal(batch["advantage"], batch["return"])


def test_a_factor_of_zero_and_of_one():
    offsets, x = torch.tensor([0, 2, 3]), torch.tensor([1.0, 2.0, 3.0])
    assert discounted(x, offsets, 0.0).tolist() == [1.0, 2.0, 3.0]
    assert discounted(x, offsets, 1.0).tolist() == [3.0, 2.0, 3.0]


# ---- generalised advantage estimation


def critic(batch: Batch, value: list[list[float]], final: list[float]) -> Batch:
    return batch.with_columns(value=torch.tensor([v for part in value for v in part])).with_episode(
        final_value=torch.tensor(final)
    )


@pytest.mark.parametrize(("discount", "trace"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("terminated", [True, False])
def test_constant_reward_and_value_give_a_geometric_sum(discount, trace, terminated):
    reward, value, n = 2.0, 5.0, 6
    final = 0.0 if terminated else value
    batch = critic(episodes([[reward] * n], terminated=[terminated]), [[value] * n], [final])
    found = gae(batch, discount=discount, trace=trace)
    inner = reward + discount * value - value
    last = reward + discount * final - value
    factor = discount * trace
    for t in range(n):
        steps = n - 1 - t
        total = inner * (steps if factor == 1 else (1 - factor**steps) / (1 - factor)) + factor**steps * last
        assert float(found["advantage"][t]) == pytest.approx(total, rel=1e-5)
        assert float(found["return"][t]) == pytest.approx(total + value, rel=1e-5)


def test_with_trace_one_the_return_is_the_discounted_reward():
    batch = critic(episodes([[1.0, 0.0, 3.0]]), [[9.0, -2.0, 4.0]], [0.0])
    assert numbers(gae(batch, discount=0.5, trace=1.0)["return"]) == [1.75, 1.5, 3.0]


def test_termination_truncation_and_a_window_by_hand():
    # three pieces of one decision and one of two; only the terminated one has nothing after it
    batch = episodes([1.0, 1.0, [1.0, 2.0]], terminated=[True, False, False])
    found = gae(critic(batch, [[0.5], [0.5], [0.5, 0.25]], [0.0, 10.0, 4.0]), discount=0.9, trace=0.5)
    last = 2 + 0.9 * 4.0 - 0.25
    first = 1 + 0.9 * 0.25 - 0.5 + 0.45 * last
    assert numbers(found["advantage"]) == pytest.approx([0.5, 9.5, first, last], abs=1e-6)


def test_a_cut_in_a_window_changes_nothing_where_the_critic_is_followed_by_itself():
    # with trace 0 an advantage is one step's surprise, so a cut that bootstraps from the same value leaves it alone
    whole = critic(episodes([[1.0, 2.0, 3.0, 4.0]]), [[0.1, 0.2, 0.3, 0.4]], [0.0])
    cut = critic(episodes([[1.0, 2.0], [3.0, 4.0]], terminated=[False, True]), [[0.1, 0.2], [0.3, 0.4]], [0.3, 0.0])
    assert torch.equal(gae(whole, trace=0.0)["advantage"], gae(cut, trace=0.0)["advantage"])


def test_decisions_of_others_between_ones_own_are_skipped():
    # a prompt, two decisions, an answer of the world with a reward of its own, two more decisions
    sampled = [[False, True, True, False, False, True, True]]
    reward = [[0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 2.0]]
    value = [[7.0, 0.1, 0.2, 7.0, 7.0, 0.3, 0.4]]
    found = gae(critic(episodes(reward, sampled=sampled), value, [0.0]), discount=0.9, trace=0.5)
    bare = gae(critic(episodes([[0.0, 1.5, 0.0, 2.0]]), [[0.1, 0.2, 0.3, 0.4]], [0.0]), discount=0.9, trace=0.5)
    chosen = torch.tensor(sampled[0])
    for name in ("advantage", "return"):
        assert torch.equal(found[name][chosen], bare[name])
        assert found[name][~chosen].tolist() == [0.0] * 3


def test_an_episode_without_a_decision_of_ones_own_leaves_the_others_alone():
    batch = episodes(
        [[0.0, 5.0], [1.0, 2.0], [3.0]], sampled=[[False, False], [False, True], [True]], terminated=[False] * 3
    )
    found = gae(critic(batch, [[9.0, 9.0], [9.0, 1.0], [1.0]], [50.0, 10.0, 0.0]), discount=0.5, trace=1.0)
    assert numbers(found["advantage"]) == [0.0, 0.0, 0.0, 6.0, 2.0]


class Clock(Policy):
    """A policy whose value of observation x is x, and of a final observation x too."""

    def quantities(self, minibatch, names):
        if "distribution" in names:
            return {"distribution": Categorical(minibatch["logits"])}
        return {"value": minibatch["observation"]}

    def final_values(self, batch):
        return batch["final_observation"]


def test_values_bootstrap_from_the_final_observation_unless_terminated():
    batch = episodes([[0.0, 0.0], 0.0, 0.0], terminated=[True, False, True], observation=[[1.0, 2.0], [3.0], [4.0]])
    found = values(batch.with_episode(final_observation=torch.tensor([10.0, 20.0, math.nan])), Clock())
    assert found["value"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found["final_value"].tolist() == [0.0, 20.0, 0.0]


def test_the_old_distribution_is_stored_flat_where_decisions_were_sampled():
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    batch = episodes([[0.0, 0.0, 0.0]], sampled=[[False, True, True]]).with_columns(logits=logits)
    assert old_distribution(batch, Clock())["old_distribution"].tolist() == [[0.0, 0.0], [3.0, 4.0], [5.0, 6.0]]


# ---- the switches of group-relative advantages

# rewards of two groups; invalid members are left out of everything
REWARDS, GROUPS = [1.0, 0.0, 0.0, 2.0, 4.0], [0, 0, 0, 1, 1]
MEANS = {"none": [0.0] * 5, "group": [1 / 3] * 3 + [3.0] * 2, "batch": [1.4] * 5, "running": [1.4] * 5}
# squares about the mean: 2/3 in group 0, 2 in group 1, 21 - 9.8 = 11.2 in the batch
SQUARES = {"group": [2 / 3] * 3 + [2.0] * 2, "batch": [11.2] * 5, "running": [11.2] * 5}
COUNTS = {"group": [3] * 3 + [2] * 2, "batch": [5] * 5, "running": [5] * 5}


@pytest.mark.parametrize("mean", ["none", "group", "batch", "running"])
@pytest.mark.parametrize("std", ["none", "group", "batch", "running"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_every_switch_by_hand(mean, std, ddof):
    expected = [r - m for r, m in zip(REWARDS, MEANS[mean], strict=True)]
    if std != "none":
        spread = [math.sqrt(s / (n - ddof)) for s, n in zip(SQUARES[std], COUNTS[std], strict=True)]
        expected = [e / (s + 1e-6) for e, s in zip(expected, spread, strict=True)]
    credit = Relative(mean=mean, std=std, ddof=ddof)
    assert credit(episodes(REWARDS, GROUPS))["advantage"].tolist() == pytest.approx(expected, abs=1e-6)


def test_running_statistics_grow_over_steps():
    credit = Relative(mean="running", std="running", eps=0.0)
    credit(episodes([1.0, 3.0], [0, 0]))
    found = credit(episodes([2.0, 6.0], [0, 0], valid=[True, True]))
    # all so far: 1, 3, 2, 6: mean 3, squares 14, sample deviation sqrt(14 / 3)
    assert found["advantage"].tolist() == pytest.approx([-1 / math.sqrt(14 / 3), 3 / math.sqrt(14 / 3)])
    again = Relative(mean="running", std="running", eps=0.0)
    again.load_state_dict(credit.state_dict())
    third = episodes([0.0, 1.0], [0, 0])
    assert torch.equal(credit(third)["advantage"], again(third)["advantage"])


def test_moments_of_parts_are_those_of_the_whole():
    parts = [torch.randn(n, dtype=torch.float64) for n in (1, 5, 0, 7)]
    found = torch.zeros(3, dtype=torch.float64)
    for part in parts:
        found = merged(found, moments(part))
    whole = torch.cat(parts)
    torch.testing.assert_close(found, torch.stack([torch.tensor(13.0).double(), whole.mean(), 12 * whole.var()]))


def test_a_large_offset_does_not_drown_the_spread():
    found = Relative(mean="batch", std="batch", eps=0.0)(episodes([1e6, 1e6 + 1, 1e6 + 2], [0, 0, 0]))
    assert found["advantage"].tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-9)


@pytest.mark.parametrize("mean", ["none", "group", "batch", "running"])
def test_a_group_without_spread_gets_zero_at_scope_group_whatever_the_mean(mean):
    found = Relative(mean=mean, std="group")(episodes([5.0, 1.0, 1.0, 0.0, 2.0], [0, 1, 1, 2, 2]))["advantage"]
    assert found[:3].tolist() == [0.0] * 3
    assert bool(torch.isfinite(found).all())
    assert float(found[4]) > float(found[3])


def test_a_group_of_one_keeps_its_place_in_the_batch():
    found = Relative(mean="batch", std="batch", eps=0.0)(episodes([3.0, 0.0, 0.0], [0, 1, 1]))["advantage"]
    assert found.tolist() == pytest.approx([2 / math.sqrt(3), -1 / math.sqrt(3), -1 / math.sqrt(3)])


@pytest.mark.parametrize("bad", [0.0, 100.0, math.nan])
@pytest.mark.parametrize("mean", ["none", "group", "batch", "running"])
@pytest.mark.parametrize("std", ["none", "group", "batch", "running"])
def test_invalid_members_enter_no_statistic_and_get_zero(bad, mean, std):
    valid = [True, True, False, True, True, False]
    rewards = [1.0, 0.0, bad, 2.0, 5.0, bad]
    groups = [0, 0, 0, 1, 1, 1]
    found = Relative(mean=mean, std=std)(episodes(rewards, groups, valid=valid))["advantage"]
    alone = Relative(mean=mean, std=std)(episodes([1.0, 0.0, 2.0, 5.0], [0, 0, 1, 1]))["advantage"]
    assert found[torch.tensor(valid)].tolist() == alone.tolist()
    assert found[~torch.tensor(valid)].tolist() == [0.0, 0.0]


def test_nothing_valid_gives_zeros():
    for credit in (Relative(), Relative(mean="batch", std="batch"), leave_one_out):
        found = credit(episodes([1.0, 2.0], [0, 0], valid=[False, False]))["advantage"]
        assert found.tolist() == [0.0, 0.0]


def test_an_episodes_advantage_stands_at_each_of_its_decisions():
    found = Relative(std="none")(episodes([1.0, 0.0], [4, 4], lengths=[3, 2]))["advantage"]
    assert found.tolist() == [0.5] * 3 + [-0.5] * 2


def test_group_ids_may_be_any_numbers_in_any_order():
    found = Relative(std="none")(episodes([1.0, 10.0, 3.0, 20.0], [70, -2, 70, -2]))["advantage"]
    assert found.tolist() == [-1.0, -5.0, 1.0, 5.0]


@pytest.mark.parametrize("settings", [{"mean": "prompt"}, {"std": "all"}, {"ddof": 2}])
def test_bad_switches_are_refused(settings):
    with pytest.raises(UsageError, match=str(next(iter(settings.values())))):
        Relative(**settings)


# ---- leave one out


def test_leave_one_out_by_hand():
    found = leave_one_out(episodes([1.0, 0.0, 0.0, 2.0, 4.0, 9.0], [0, 0, 0, 1, 1, 2]))["advantage"]
    assert found.tolist() == [1.0, -0.5, -0.5, -2.0, 2.0, 0.0]


def test_leave_one_out_is_the_group_mean_by_a_factor():
    rewards = [0.3, 0.7, 0.1, 0.9]
    centred = Relative(std="none")(episodes(rewards, [0] * 4))["advantage"]
    torch.testing.assert_close(leave_one_out(episodes(rewards, [0] * 4))["advantage"], centred * 4 / 3)


def test_leave_one_out_without_the_invalid():
    found = leave_one_out(episodes([1.0, 0.0, math.nan], [0, 0, 0], valid=[True, True, False]))["advantage"]
    assert found.tolist() == [1.0, -1.0, 0.0]


# ---- signals


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1e6])
def test_equal_returns_are_no_signal(value):
    batch = episodes([value] * 3 + [value, value + 1.0] + [value], [0, 0, 0, 1, 1, 2])
    assert without_signal(batch).tolist() == [True, True, True, False, False, True]
    assert drop_without_signal(batch)["group"].tolist() == [1, 1]
    assert without_signal(episodes([-1.0, 1.0], [0, 0])).tolist() == [False, False]


def test_an_invalid_member_is_no_signal():
    batch = episodes([1.0, 1.0, 0.0, 0.0, 1.0, math.nan], [0, 0, 0, 1, 1, 1], valid=[True, True, False] * 2)
    assert without_signal(batch).tolist() == [True, True, True, False, False, True]


# ---- labels


def test_labels_and_rates_by_hand():
    found = labels(episodes([1.0, 0.0, 0.5, 0.0], [0, 0, 1, 1], lengths=[2, 1, 1, 1]))
    assert found["label"].tolist() == [1.0, 1.0, 0.0, 0.5, 0.0]
    assert found["success_rate"].tolist() == [0.5, 0.5, 0.5, 0.25, 0.25]
    assert found["weight"].tolist() == [1.0] * 5


@pytest.mark.parametrize(("weight", "expected"), [("one", 1.0), ("failure", 0.75), ("balance", math.sqrt(3))])
def test_weights_by_hand(weight, expected):
    found = labels(episodes([1, 0, 0, 0], [0] * 4), weight=weight)["weight"]
    assert found.tolist() == pytest.approx([expected] * 4)


def test_ranks_by_hand():
    found = labels(episodes([-3.0, 7.0, 7.0, 900.0, 5.0, -5.0], [0, 0, 0, 0, 1, 1]), scale="rank")
    assert found["label"].tolist() == pytest.approx([0.0, 0.5, 0.5, 1.0, 1.0, 0.0])
    assert found["success_rate"].tolist() == [0.5] * 6


def test_ranks_pass_over_the_invalid():
    rewards = [1.0, 2.0, math.nan, 3.0]
    found = labels(episodes(rewards, [0] * 4, valid=[True, True, False, True]), scale="rank")
    assert found["label"][[0, 1, 3]].tolist() == [0.0, 0.5, 1.0]
    assert found["success_rate"].tolist() == [0.5] * 4


def test_rates_leave_the_invalid_out():
    found = labels(episodes([1.0, 0.0, 0.0, 0.0], [0] * 4, valid=[True, True, False, False]))
    assert found["success_rate"].tolist() == [0.5] * 4


@pytest.mark.parametrize(("rewards", "rate"), [([1.0, 1.0], 0.9), ([0.0, 0.0], 0.1), ([1.0], 0.9)])
def test_rates_are_held_within_the_floor(rewards, rate):
    found = labels(episodes(rewards, [0] * len(rewards)), rate_floor=0.1)
    assert found["success_rate"].tolist() == pytest.approx([rate] * len(rewards))


@pytest.mark.parametrize(("settings", "named"), [({"scale": "log"}, "log"), ({"weight": "two"}, "two")])
def test_bad_names_are_refused(settings, named):
    with pytest.raises(UsageError, match=named):
        labels(episodes([1.0, 0.0], [0, 0]), **settings)


def test_an_invalid_return_outside_the_unit_interval_is_no_matter():
    found = labels(episodes([1.0, 0.0, -7.0], [0] * 3, valid=[True, True, False]))
    assert found["success_rate"].tolist() == [0.5] * 3


# ---- standardising


def test_standardise_by_hand():
    batch = episodes([[0.0, 0.0, 0.0], 0.0], sampled=[[False, True, True], [True]])
    found = standardise(batch.with_columns(advantage=torch.tensor([99.0, 1.0, 2.0, 6.0])), eps=0.0)["advantage"]
    # of 1, 2, 6: mean 3, sample deviation sqrt(7)
    assert found.tolist() == pytest.approx([0.0, -2 / math.sqrt(7), -1 / math.sqrt(7), 3 / math.sqrt(7)])


def test_standardise_leaves_the_invalid_out_of_its_statistics():
    batch = episodes([0.0] * 4, valid=[True, True, True, False])
    found = standardise(batch.with_columns(advantage=torch.tensor([1.0, 2.0, 6.0, 1e9])), eps=0.0)["advantage"]
    assert found[:3].tolist() == pytest.approx([-2 / math.sqrt(7), -1 / math.sqrt(7), 3 / math.sqrt(7)])


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.7])
def test_equal_advantages_become_exact_zeros(value):
    batch = episodes([0.0] * 7).with_columns(advantage=torch.full((7,), value))
    assert standardise(batch)["advantage"].tolist() == [0.0] * 7
