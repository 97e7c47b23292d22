"""Records, random streams and the running normaliser, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import episodes
from pilotage.data.batch import Batch, concatenate
from pilotage.data.rng import Streams
from pilotage.data.tasks import Verdict
from pilotage.policies.base import rows_of
from pilotage.policies.normalise import Normaliser

RAGGED = episodes([[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]], groups=[7, 7, 2], sampled=[[False, True], [True], [True] * 3])


def test_views_by_hand():
    assert RAGGED.lengths.tolist() == [2, 1, 3]
    assert RAGGED.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert RAGGED.returns.tolist() == [3.0, 3.0, 15.0]
    assert RAGGED.spread(torch.tensor([1, 2, 3])).tolist() == [1, 1, 2, 3, 3, 3]
    assert [(number, len(group)) for number, group in RAGGED.groups()] == [(2, 1), (7, 2)]


def test_rows_are_the_sampled_decisions():
    rows = rows_of(RAGGED, needs_past=False)
    assert rows["reward"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert rows.owner.tolist() == [0, 1, 2, 2, 2]
    assert rows.index.tolist() == [0, 1, 2, 3, 4]
    assert rows.episodes is None
    assert rows_of(RAGGED, needs_past=True).episodes is RAGGED


def test_an_empty_episode_is_an_episode():
    batch = Batch(torch.tensor([0, 0, 2]), {"reward": torch.tensor([1.0, 2.0])})
    assert batch.returns.tolist() == [0.0, 3.0]
    assert batch.select(torch.tensor([1, 0])).offsets.tolist() == [0, 2, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_selecting_is_indexing(lengths, data):
    offsets = torch.tensor([0, *np.cumsum(lengths).tolist()])
    batch = Batch(
        offsets, {"x": torch.arange(int(offsets[-1]))}, {"y": torch.arange(len(lengths))},
        {"z": [str(i) for i in range(len(lengths))]},
    )  # fmt: skip
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    found = batch.select(torch.tensor(chosen, dtype=torch.long))
    expected = [batch["x"][offsets[i] : offsets[i + 1]].tolist() for i in chosen]
    assert [found["x"][a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == expected
    assert found["y"].tolist() == chosen
    assert found.notes["z"] == [str(i) for i in chosen]
    mask = torch.tensor([i % 2 == 0 for i in range(len(lengths))])
    assert batch.select(mask)["y"].tolist() == mask.nonzero().squeeze(-1).tolist()
    joined = concatenate([batch.select(torch.tensor([i])) for i in range(len(lengths))])
    assert torch.equal(joined["x"], batch["x"])
    assert torch.equal(joined.offsets, batch.offsets)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="column reward has 2 rows, the batch has 3 decisions"):
        Batch(torch.tensor([0, 3]), {"reward": torch.zeros(2)})
    with pytest.raises(ValueError, match="group has 2 entries, the batch has 1 episodes"):
        Batch(torch.tensor([0, 1]), {"reward": torch.zeros(1)}, {"group": torch.zeros(2)})
    with pytest.raises(KeyError, match="the batch has no 'advantage'; it has reward"):
        RAGGED["advantage"]
    with pytest.raises(ValueError, match="different columns"):
        concatenate([RAGGED, RAGGED.with_columns(more=torch.zeros(6))])


# ---- random streams


def test_a_draw_depends_on_all_of_seed_name_step_and_index():
    places = [
        (seed, name, step, index) for seed in (0, 1) for name in ("a", "b") for step in (0, 1) for index in (0, 1)
    ]
    drawn = {tuple(Streams(seed).generator(*rest).integers(2**62, size=3)) for seed, *rest in places}
    assert len(drawn) == len(places)
    again = {tuple(Streams(seed).generator(*rest).integers(2**62, size=3)) for seed, *rest in places}
    assert again == drawn


def test_streams_are_the_same_on_every_machine():
    assert Streams(3).number("policy", 2, 5) == 8359296792617681783


def test_counts_start_at_zero():
    with pytest.raises(ValueError, match="counted from 0"):
        Streams(0).generator("a", -1)


def test_steps_do_not_overlap():
    # 10^6 numbers of one step hold none of the next one's first
    long = Streams(0).generator("a", 0).integers(2**62, size=10**6)
    assert not np.isin(Streams(0).generator("a", 0, 1).integers(2**62, size=10), long).any()
    assert not np.isin(Streams(0).generator("a", 1).integers(2**62, size=10), long).any()


# ---- verdicts


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf")])
def test_a_verdict_that_is_no_number_is_invalid(reward):
    assert not Verdict.value(reward).valid
    assert "returned" in Verdict.value(reward).reason
    assert Verdict.value(0).valid
    assert not Verdict.invalid("").valid


# ---- the normaliser


def test_it_normalises_by_all_it_has_seen():
    torch.manual_seed(0)
    parts = [
        torch.randn(n, 3) * torch.tensor([1.0, 50.0, 0.01]) + torch.tensor([0.0, 1000.0, -5.0]) for n in (1, 7, 90)
    ]
    normaliser = Normaliser(3)
    for part in parts:
        normaliser.observe(part)
    whole = torch.cat(parts).double()
    expected = (whole - whole.mean(0)) / whole.std(0, unbiased=False)
    torch.testing.assert_close(normaliser(whole.float()), expected.float(), atol=1e-3, rtol=1e-3)


def test_before_it_has_seen_anything_it_changes_nothing():
    values = torch.tensor([[0.5, -2.0]])
    torch.testing.assert_close(Normaliser(2)(values), values)


def test_it_clips_and_bears_a_constant():
    normaliser = Normaliser(2)
    normaliser.observe(torch.tensor([[1.0, 4.0], [3.0, 4.0]]))
    assert normaliser(torch.tensor([[1e9, 4.0]])).tolist() == [[10.0, 0.0]]
