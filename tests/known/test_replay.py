"""The replay store: what goes in comes out, once around and more, in every lane, after a resume."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.batch import Batch, Stop
from pilotage.data.piece import UsageError
from pilotage.data.replay import LAST, Replay
from pilotage.data.rng import Streams
from pilotage.data.weighted import Weighted


class Walk:
    """Lanes whose observation is a running number; an episode ends where it is told to."""

    def __init__(self, lanes: int) -> None:
        self.at = [1000.0 * lane for lane in range(lanes)]

    def window(self, lengths, ends):
        """One piece a lane, of these lengths; ends: Stop of each."""
        columns = {"observation": [], "action": [], "reward": []}
        final = []
        for lane, (length, end) in enumerate(zip(lengths, ends, strict=True)):
            places = torch.arange(self.at[lane], self.at[lane] + length)
            columns["observation"].append(places.unsqueeze(-1))
            columns["action"].append(places.unsqueeze(-1) + 0.5)
            columns["reward"].append(places)
            final.append([self.at[lane] + length])
            self.at[lane] += length + (end != Stop.WINDOW)  # after an end, another episode
        stop = torch.tensor([int(end) for end in ends])
        return Batch(
            torch.tensor([0, *np.cumsum(lengths)]),
            {name: torch.cat(parts) for name, parts in columns.items()},
            {
                "lane": torch.arange(len(lengths)),
                "terminated": stop == Stop.TERMINATED,
                "valid": stop != Stop.INVALID,
                "final_observation": torch.tensor(final),
            },
        )


def everything(store):
    """Every decision that can be drawn, as {place: (next place, terminated)}."""
    batch = store.draw(np.random.default_rng(0), 4000)
    assert torch.equal(batch["action"], batch["observation"] + 0.5)
    assert torch.equal(batch["reward"], batch["observation"][:, 0])
    found = zip(
        batch["observation"][:, 0].tolist(),
        batch["final_observation"][:, 0].tolist(),
        batch["terminated"].tolist(),
        strict=True,
    )
    return {place: (following, ended) for place, following, ended in found}


def test_each_observation_is_kept_once():
    walk, store = Walk(1), Replay(capacity=50, start_after=0)
    for _ in range(4):
        store.add(walk.window([5], [Stop.WINDOW]))
    assert len(store) == 20
    assert store.heads == [21]  # one row for what came last
    assert everything(store) == {float(i): (i + 1.0, False) for i in range(20)}


def test_ends_are_told_from_cuts():
    walk, store = Walk(1), Replay(capacity=50, start_after=0)
    store.add(walk.window([2], [Stop.TERMINATED]))
    store.add(walk.window([2], [Stop.TIME_LIMIT]))
    store.add(walk.window([1], [Stop.WINDOW]))
    found = everything(store)
    assert found == {0: (1, False), 1: (2, True), 3: (4, False), 4: (5, False), 6: (7, False)}


def test_the_oldest_are_overwritten():
    walk, store = Walk(1), Replay(capacity=10, start_after=0)
    for _ in range(7):
        store.add(walk.window([4], [Stop.WINDOW]))
    found = everything(store)
    assert sorted(found) == [float(i) for i in range(18, 28)]
    assert all(following == place + 1 for place, (following, _) in found.items())


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda lanes: st.lists(
            st.tuples(
                st.lists(st.integers(1, 6), min_size=lanes, max_size=lanes),
                st.lists(st.sampled_from(list(Stop)), min_size=lanes, max_size=lanes),
            ),
            min_size=1,
            max_size=12,
        )
    )
)
def test_what_comes_out_went_in(pieces):
    lanes = len(pieces[0][0])
    walk, store, truth = Walk(lanes), Replay(capacity=13 * lanes, start_after=0), {}
    for lengths, ends in pieces:
        batch = walk.window(lengths, ends)
        store.add(batch)
        for i, end in enumerate(ends):
            if end != Stop.INVALID:
                part = batch.select(torch.tensor([i]))
                places = part["reward"].tolist()
                for place in places:
                    truth[place] = (place + 1, end == Stop.TERMINATED and place == places[-1])
    if not len(store):
        return
    found = everything(store)
    assert found.items() <= truth.items()
    assert len(found) == len(store)
    again = Replay(capacity=13 * lanes, start_after=0)
    again.load_state_dict(store.state_dict())
    assert everything(again) == found
    assert again.heads == store.heads


def test_new_decisions_earn_batches():
    walk = Walk(1)
    store = Replay(capacity=100, start_after=8, updates_per_decision=0.5, decisions_per_batch=3)
    streams = Streams(0)
    counts = []
    for step in range(4):
        store.add(walk.window([5], [Stop.WINDOW]))
        batches = list(store.batches(streams, step))
        counts.append(len(batches))
        assert all(len(batch) == 3 for batch in batches)
    assert counts == [0, 2, 3, 2]  # the half that is left over is kept


def test_a_million_transitions_take_little_more_than_their_bytes():
    store = Replay(capacity=1_000_000, start_after=0)
    batch = Batch(
        torch.tensor([0, 1000]),
        {"observation": torch.randn(1000, 17), "action": torch.randn(1000, 6), "reward": torch.randn(1000)},
        {"terminated": torch.tensor([False]), "final_observation": torch.randn(1, 17)},
    )
    store.add(batch)
    held = sum(column.numel() * column.element_size() for column in store.rows.values())
    raw = 1_000_000 * 4 * (17 + 6 + 1)  # observation, action and reward, each once
    assert held <= 1.2 * raw
    assert int((store.rows["kind"] == LAST).sum()) == 1_000_001 - 1000


def test_an_episode_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        Replay(capacity=4).add(Walk(1).window([9], [Stop.TERMINATED]))
    with pytest.raises(UsageError, match="capacity"):
        Replay(capacity=1)


def weighted(batch, weights):
    return batch.with_columns(draw_weight=torch.tensor(weights))


def test_draws_in_proportion_to_draw_weight_follow_what_is_written():
    walk, store = Walk(2), Replay(capacity=8, start_after=0)
    store.add(weighted(walk.window([2, 2], [Stop.WINDOW, Stop.TERMINATED]), [1.0, 0.0, 3.0, 4.0]))
    batch = store.draw(np.random.default_rng(0), 8000)
    place, count = torch.unique(batch["reward"], return_counts=True)
    assert place.tolist() == [0.0, 1000.0, 1001.0]
    assert (count / 8000).tolist() == pytest.approx([0.125, 0.375, 0.5], abs=0.02)
    assert torch.equal(
        batch["draw_weight"], torch.where(batch["reward"] > 1000, 4.0, 3.0).where(batch["reward"] > 0, 1)
    )
    store.add(weighted(walk.window([4, 4], [Stop.WINDOW] * 2), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    left = store.draw(np.random.default_rng(0), 100)["reward"].unique().tolist()  # what was overwritten is gone
    assert left == [5.0]
    again = Replay(capacity=8, start_after=0)
    again.load_state_dict(store.state_dict())
    assert again.weighted.sums.tolist() == store.weighted.sums.tolist()
    for one in (store, again):
        one.add(weighted(walk.window([1, 1], [Stop.WINDOW] * 2), [0.5, 0.25]))
        walk.at = [at - 1 for at in walk.at]
    one, other = (s.draw(np.random.default_rng(5), 50) for s in (store, again))
    assert all(torch.equal(one[name], other[name]) for name in ("reward", "final_observation", "draw_weight"))


@pytest.mark.parametrize("bad", [float("nan"), -1.0, float("inf")])
def test_draw_weights_that_are_none_are_refused(bad):
    with pytest.raises(UsageError, match="finite and at least 0"):
        Replay(capacity=50).add(weighted(Walk(1).window([2], [Stop.WINDOW]), [1.0, bad]))
    store = Replay(capacity=50)
    store.add(weighted(Walk(1).window([2], [Stop.WINDOW]), [0.0, 0.0]))
    with pytest.raises(UsageError, match="all draw weights are 0"):
        store.draw(np.random.default_rng(0), 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0]), min_size=1, max_size=700), st.integers(0, 2**32 - 1))
def test_weighted_draws_are_the_inverse_of_the_cumulative_distribution(weights, seed):
    held = np.array(weights, np.float32)
    if not held.any():
        return
    found = Weighted(held).draw(np.random.default_rng(seed), 64)
    assert bool((held[found] > 0).all())
    heights = held.cumsum(dtype=np.float64)
    expected = np.searchsorted(heights, np.random.default_rng(seed).random(64) * heights[-1], side="right")
    assert np.mean(found == expected) > 0.95  # but for rounding at the borders


def test_a_draw_of_256_rows_of_a_million_takes_less_than_a_millisecond():
    store = Replay(capacity=1_000_000, start_after=0)
    columns = {"observation": torch.randn(1000, 17), "action": torch.randn(1000, 6), "reward": torch.randn(1000)}
    ends = {"terminated": torch.tensor([False]), "final_observation": torch.randn(1, 17)}
    for _ in range(3):
        store.add(Batch(torch.tensor([0, 1000]), columns, ends))
    store.heads, kinds = [1_000_001], store.rows["kind"]
    kinds.fill_(0)
    seconds = []
    for i in range(30):
        began = time.process_time()
        store.draw(Streams(0).generator("replay", 0, i), 256)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 1e-3
