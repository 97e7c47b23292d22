"""MMR1's card by hand: outcome variance, diversity, weights, the two parts of a batch."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import episodes, text_recipe
from pilotage.data.batch import Batch, Stop, concatenate
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.run.assemble import assemble
from pilotage.samplers.diversity import MEASURES, bleu, distinct, edit_distance, edits, grams, one_less_self_bleu
from pilotage.samplers.promising import Promising, diversities, outcome_variance
from pilotage.samplers.uniform import Round
from toy_worlds import Echo

ANSWER = [5, 3, 8, 8, 2]


class Asked:
    """Stands in for playing: answers of a step whose returns by task are known; notes what was asked."""

    def __init__(self, rates, samples=4, answers=None):
        self.rates, self.samples, self.answers = rates, samples, answers
        self.asked: list[tuple[int, str]] = []

    def __call__(self, tasks, samples, stream):
        assert samples == self.samples
        self.asked += [(len(tasks), stream)]
        returns = [float(k < self.rates[task.key] * samples) for task in tasks for k in range(samples)]
        groups = [number for number in range(len(tasks)) for _ in range(samples)]
        return record(returns, groups, [ANSWER] * len(returns))


def record(returns, groups, answers, valid=None) -> Batch:
    """Episodes of a prompt of two tokens and an answer."""
    lengths = [2 + len(answer) for answer in answers]
    batch = episodes(returns, groups, lengths, sampled=[[False] * 2 + [True] * len(a) for a in answers], valid=valid)
    return batch.with_columns(action=torch.tensor([token for answer in answers for token in [7, 7, *answer]]))


def opened(seed=0, **settings) -> Promising:
    sampler = Promising(**{"pool": 4, "samples": 4, "diversity": 0.0, **settings})
    sampler.open(Echo(), Streams(seed))
    return sampler


def keys(sampler, count):
    return [sampler.next().key for _ in range(count)]


def test_outcome_variance_of_eight_answers():
    returns = [float(i < right) for right in range(9) for i in range(8)]
    found = outcome_variance(record(returns, [i // 8 for i in range(72)], [ANSWER] * 72), 8)
    expected = [0, 0.109375, 0.1875, 0.234375, 0.25, 0.234375, 0.1875, 0.109375, 0]
    assert found.tolist() == expected


def test_outcome_variance_is_of_valid_verdicts_within_bounds():
    batch = record([1.0, 0.0, 1.0, 0.0], [0, 0, 1, 1], [ANSWER] * 4, valid=[True, False, False, False])
    assert outcome_variance(batch, 2).tolist() == [0.0, 0.0]
    with pytest.raises(UsageError, match=r"returns in \[0, 1\], this world gave 2"):
        outcome_variance(record([2.0, 0.0], [0, 0], [ANSWER] * 2), 2)


def test_total_variance_of_two_chains():
    rates = np.array([0.2, 0.8])  # each as likely
    within, between, whole = (rates * (1 - rates)).mean(), rates.var(), rates.mean() * (1 - rates.mean())
    assert (within, between, whole) == pytest.approx((0.16, 0.09, 0.25))


@pytest.mark.parametrize("copies", [2, 5, 8])
@pytest.mark.parametrize("length", [3, 4, 9])
def test_copies_of_an_answer_are_not_diverse(copies, length):
    answers = [list(range(length))] * copies
    assert distinct(answers) == pytest.approx(1 / copies)
    assert edits(answers) == 0.0
    assert one_less_self_bleu(answers) == pytest.approx(0.0)


def test_pairs_of_two_alike_and_one_other():
    one, other = [1, 2, 3], [4, 5, 6]
    assert edits([one, one, other]) == pytest.approx(4 / 6)  # four of six ordered pairs, at distance 1
    assert edits([[1, 2, 3, 4], [1, 2, 3, 5]]) == pytest.approx((1 / 4) ** 2)
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance([], [1, 2]) == 2


def test_self_bleu_by_hand():
    # against the other: 1-grams 2 of 3, 2-grams 1 of 2, 3-grams 0.1 of 1; equal lengths
    one, other = [1, 2, 3], [1, 2, 4]
    expected = (2 / 3 * 1 / 2 * 0.1) ** (1 / 3)
    assert bleu(one, [other]) == pytest.approx(expected)
    assert one_less_self_bleu([one, other]) == pytest.approx(1 - expected)
    # a short answer pays for being short: exp(1 - 4/2), against the closest reference's length
    assert bleu([1, 2], [[1, 2, 3, 4]]) == pytest.approx(np.exp(-1.0))
    assert bleu([1, 2], [[1, 2, 3, 4], [1, 2]]) == pytest.approx(1.0)
    assert grams([1, 1, 1], 2) == {(1, 1): 2}


def test_diversity_falls_as_answers_agree():
    apart, close = [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [1, 2, 3, 5]]
    for name, measure in MEASURES.items():
        same = measure([[1, 2, 3, 4]] * 2)
        assert measure(apart) > measure(close) > same, name


@pytest.mark.parametrize("measure", sorted(MEASURES))
@given(answers=st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=5))
def test_measures_are_shares_whatever_the_answers(measure, answers):
    assert -1e-9 <= MEASURES[measure](answers) <= 1.0


def test_answers_are_compared_without_prompts_and_padding_and_invalid_ones():
    answers = [[1, 2, 3], [1, 2, 3], [4, 5, 6, 7], [1, 2, 3]]
    batch = record([1.0] * 4, [0, 0, 1, 1], answers, valid=[True, True, True, False])
    assert diversities(batch, 2, "distinct-3").tolist() == [0.5, 1.0]
    assert diversities(batch, 2, "edits").tolist() == [0.0, 0.0]


def test_share_zero_is_the_pool_in_one_order():
    sampler, plain = opened(share=0.0), Round(pool=4)
    plain.open(Echo(), Streams(0))
    sampler.prepare(None, 0)  # nothing is asked of the policy
    found = keys(sampler, 12)
    assert found == keys(plain, 12)
    assert sorted(found[:4]) == [0, 1, 2, 3]
    assert found[:4] == found[4:8] == found[8:]  # the same order, round after round


def test_half_of_seven_is_three():
    sampler, plain = opened(share=0.5), opened(share=0.0)
    sampler.prepare(Asked({0: 0.5, 1: 0, 2: 0, 3: 0}), 0)
    found = keys(sampler, 7)
    assert sampler.drawn == 3
    assert sampler.position == 4
    assert [found[i] for i in (1, 3, 5)] == [0, 0, 0]  # the only one with a weight, drawn again and again
    assert [found[i] for i in (0, 2, 4, 6)] == keys(plain, 4)


def test_share_one_is_by_score_only():
    sampler = opened(share=1.0)
    sampler.prepare(Asked({0: 0.5, 1: 0.25, 2: 0, 3: 1}), 0)
    drawn = keys(sampler, 200)
    assert sampler.position == 0
    assert set(drawn) == {0, 1}  # the lowest weight is 0 and is never drawn


def test_the_lowest_is_still_met_on_the_way_round():
    sampler = opened(share=0.5)
    sampler.prepare(Asked({0: 0.5, 1: 0.5, 2: 0.5, 3: 0}), 0)
    assert sampler.chances.weights[3] == 0.0
    assert set(keys(sampler, 8)) == {0, 1, 2, 3}


def test_frequencies_are_as_the_weights():
    sampler = opened(pool=2, share=1.0, min_max=False, samples=4, outcome=1.0)
    sampler.weigh(np.array([1.0, 3.0]))
    counts = Counter(keys(sampler, 4000))
    squared = sum((counts[key] - expected) ** 2 / expected for key, expected in ((0, 1000.0), (1, 3000.0)))
    assert squared < 10.83  # chi-squared with one degree of freedom, 0.1 %


@pytest.mark.parametrize("min_max", [True, False])
def test_where_all_score_the_same_all_are_as_likely(min_max):
    sampler = opened(share=1.0, min_max=min_max)
    sampler.prepare(Asked({0: 0, 1: 1, 2: 0, 3: 0}), 0)  # no variance anywhere
    counts = Counter(keys(sampler, 400))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 60


def test_weights_by_hand():
    plain, scaled = opened(min_max=False, outcome=0.8), opened(min_max=True, outcome=0.8)
    for sampler in (plain, scaled):
        sampler.prepare(Asked({0: 0.5, 1: 0.25, 2: 0, 3: 1}), 0)
    assert plain.chances.weights == pytest.approx([0.2, 0.15, 0, 0])
    assert scaled.chances.weights == pytest.approx([1.0, 0.75, 0, 0])
    mixed = opened(min_max=False, outcome=0.8, diversity=0.2)
    mixed.prepare(Asked({0: 0.5, 1: 0, 2: 0, 3: 0}), 0)
    assert mixed.chances.weights == pytest.approx([0.2 + 0.05, 0.05, 0.05, 0.05])  # four copies: 0.2 · 1/4


def test_old_weights_are_kept_as_far_as_asked():
    sampler = opened(smoothing=0.25, min_max=False, outcome=1.0, every=2)
    sampler.prepare(Asked({0: 0.5, 1: 0, 2: 0, 3: 0}), 0)
    assert sampler.chances.weights == pytest.approx([0.25, 0, 0, 0])  # there is nothing older
    sampler.prepare(Asked({0: 0, 1: 0.5, 2: 0, 3: 0}), 2)
    assert sampler.chances.weights == pytest.approx([0.0625, 0.1875, 0, 0])


def test_all_are_scored_at_first_and_then_now_and_then():
    sampler, play = opened(pool=70, every=3), Asked(dict.fromkeys(range(70), 0.5))
    for step in range(7):
        sampler.prepare(play, step)
        keys(sampler, 4)
        sampler.observe(record([0.0, 1.0], [0, 0], [ANSWER] * 2))
    assert play.asked == [(64, "score 0"), (6, "score 64")] * 3  # before steps 0, 3 and 6
    assert sampler.metrics()["sampler/rollouts/training"] == 14
    assert sampler.metrics()["sampler/rollouts/all"] == 14 + 3 * 70 * 4


def test_a_saved_sampler_draws_on():
    one, other = opened(smoothing=0.5, every=2), opened(smoothing=0.5, every=2)
    one.prepare(Asked({0: 0.5, 1: 0.25, 2: 0.25, 3: 0}), 0)
    keys(one, 5)
    other.load_state_dict(one.state_dict())
    assert json.dumps(one.metrics()) == json.dumps(other.metrics())
    for step in (1, 2):
        for sampler in (one, other):
            sampler.prepare(Asked({0: 0, 1: 0.25, 2: 0.5, 3: 0}), step)
        assert keys(one, 6) == keys(other, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "distinct3"}, "did you mean 'distinct-3'"),
        ({"share": 1.5}, "share goes from 0 to 1"),
        ({"smoothing": 1.0}, "smoothing to below 1"),  # it would never renew a weight
        ({"every": 0}, "one step between"),
        ({"pool": 0}, "at least one task"),
    ],
)
def test_mistakes_are_answered(settings, message):
    with pytest.raises(UsageError, match=message):
        Promising(**settings)


def gradient_norm(mixed: int) -> float:
    """Of GRPO's first step on three copies of one group, so many of them with rewards that differ."""
    parts = assemble(text_recipe("grpo", settings={"terms.policy.minibatches": 1, "terms.policy.max_grad_norm": None}))
    tasks = [parts.world.task(0, "train")]
    group = parts.rollout.converse(parts.policy, parts.world, tasks, 4, parts.streams, "rollout", 0)
    last = torch.zeros(group.decisions, dtype=torch.bool)
    last[group.offsets[1:] - 1] = True
    copies = []
    for number in range(3):
        worth = torch.tensor([1.0, 0.0, 0.0, 0.0] if number < mixed else [0.5] * 4)
        reward = torch.where(last, group.spread(worth), 0.0)
        copies.append(group.with_columns(reward=reward).with_episode(group=torch.full((4,), number)))
    parts.store.add(parts.credited(concatenate(copies), 0.0))
    (drawn,) = parts.store.batches(parts.streams, 0)
    return parts.learner.update(drawn, 1, 0.5).get("policy/gradient_norm", 0.0)


def test_a_gradient_grows_with_the_share_of_groups_whose_rewards_differ():
    norms = [gradient_norm(mixed) for mixed in range(4)]
    assert norms[0] == 0.0
    assert norms[1] > 0.0
    assert norms == pytest.approx([0.0, norms[1], 2 * norms[1], 3 * norms[1]], rel=1e-4)


def test_answers_that_go_on_are_counted_when_they_end():
    sampler = opened()
    stops = [[Stop.TERMINATED, Stop.WINDOW, Stop.LENGTH, Stop.WINDOW], [Stop.TERMINATED, Stop.WINDOW], [Stop.INVALID]]
    told = []
    for stop in stops:  # one group of four: two of it end in the first step, one in each of the others
        played = record([0.0] * len(stop), [0] * len(stop), [ANSWER] * len(stop))
        sampler.observe(played.with_episode(stop=torch.tensor(stop)))
        told.append(sampler.trained)
    assert told == [2, 3, 4]
