"""The store that is full from the start: what it draws, how often, and what follows a decision."""

import pytest
import torch

from helpers import differing, final_state, logged_recipe, metrics, tiny_data, tiny_record, trained
from pilotage.data import dataset
from pilotage.data.batch import Batch
from pilotage.data.offline import Offline
from pilotage.data.piece import UsageError, piece
from pilotage.data.rng import Streams
from pilotage.run import loop
from pilotage.run.assemble import assemble

RECORD = tiny_record()


def filled(record=RECORD, **settings):
    store = Offline(**settings)
    store.fill(record)
    return store


def weighted(batch):
    """A link: the fourth decision three times as often as the fifth, the others never."""
    weight = torch.zeros(batch.decisions)
    weight[3], weight[4] = 3.0, 1.0
    return batch.with_columns(draw_weight=weight)


def places(drawn):
    """The row of the record that each drawn decision is."""
    same = (drawn["observation"].unsqueeze(1) == RECORD["observation"].unsqueeze(0)).all(-1)
    assert bool((same.sum(1) == 1).all())
    return same.long().argmax(1)


def test_a_decision_is_followed_by_the_next_of_its_episode_or_by_the_final_observation():
    drawn = filled().draw(Streams(0).generator("offline"), 500)
    rows = places(drawn)
    assert len(set(rows.tolist())) == RECORD.decisions
    assert torch.equal(drawn["action"], RECORD["action"][rows])
    assert torch.equal(drawn["reward"], RECORD["reward"][rows])
    last = RECORD.offsets[1:] - 1
    for i, row in enumerate(rows.tolist()):
        episode = int(RECORD.owner[row])
        ends = row in last.tolist()
        following = RECORD["final_observation"][episode] if ends else RECORD["observation"][row + 1]
        assert torch.equal(drawn["final_observation"][i], following)
        assert bool(drawn["terminated"][i]) == (ends and bool(RECORD["terminated"][episode]))


def test_draws_are_uniform_or_in_proportion_to_draw_weight():
    uniform = torch.bincount(filled().rows(Streams(0).generator("x"), 49_000), minlength=49).double()
    assert ((uniform - 1000).square() / 1000).sum() < 86  # chi-squared with 48 degrees of freedom, 0.999 quantile 84
    rows = filled(weighted(RECORD)).rows(Streams(0).generator("x"), 40_000)
    counts = torch.bincount(rows, minlength=49)
    assert int(counts[3] + counts[4]) == 40_000
    assert abs(float(counts[3]) / 40_000 - 0.75) < 0.01
    assert filled(weighted(RECORD)).facts()["data/effective_decisions"] == pytest.approx(1 / (0.75**2 + 0.25**2))


def test_draws_are_those_of_their_stream():
    one, other = filled(), filled()
    first = [drawn["reward"] for drawn in one.batches(Streams(3), 5)]
    list(other.batches(Streams(3), 4))
    assert len(first) == 100
    assert all(torch.equal(a, b["reward"]) for a, b in zip(first, other.batches(Streams(3), 5), strict=True))


@pytest.mark.parametrize("weights", [torch.zeros(49), torch.full((49,), torch.nan), -torch.ones(49)])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(UsageError, match="draw weights"):
        filled(RECORD.with_columns(draw_weight=weights))


def test_invalid_episodes_are_never_drawn():
    store = filled(RECORD.with_episode(valid=torch.arange(7) == 2))
    assert set(places(store.draw(Streams(0).generator("x"), 200)).tolist()) == set(range(9, 15))


def test_the_chain_goes_over_the_record_once_and_the_normaliser_sees_all_of_it(tmp_path):
    recipe = logged_recipe("bc", settings={"policy.normalise": True, "steps": 4})
    recipe = recipe.vary("test", {"credit.weight": piece(weighted)})
    parts = assemble(recipe)
    assert float(parts.policy.normaliser.count) == 49
    assert parts.store.record is not None
    assert "draw_weight" in parts.store.record
    parts.world.close()
    # exact resume, and nothing of the data in a checkpoint
    loop.train(recipe, tmp_path / "whole")
    loop.train(recipe, tmp_path / "parted", until=2)
    loop.resume(tmp_path / "parted")
    assert differing(final_state(tmp_path / "whole"), final_state(tmp_path / "parted")) == []
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parted")
    assert final_state(tmp_path / "whole")["parts"]["store"] == {}
    assert float(final_state(tmp_path / "whole")["parts"]["policy"]["normaliser.count"]) == 49
    losses = [r for r in metrics(tmp_path / "whole") if r["kind"] == "train"]
    assert all(r["optimiser_steps"] == 3 and r["data/effective_decisions"] == pytest.approx(1.6) for r in losses)
    assert losses[-1]["actor/loss"] < losses[0]["actor/loss"]


def test_cloning_learns_what_was_logged(tmp_path):
    # the same policy for every decision: action = the first number observed
    record = RECORD.with_columns(action=RECORD["observation"][:, :1].clamp(-1.5, 1.5))
    name = "tiny/linear-v0"
    about = dataset.describe(tiny_data())
    dataset.save(record, dataset.About(name, about.world, spaces=about.spaces))
    settings = {"store.data": name, "steps": 20, "store.batches_per_step": 20, "policy.hidden": (32,)}
    recipe = logged_recipe("bc", settings={**settings, "learning_rate": 3e-3})
    trained(recipe, tmp_path / "run")
    losses = [r["actor/loss"] for r in metrics(tmp_path / "run") if r["kind"] == "train"]
    assert losses[-1] < 0.05 < 0.3 < losses[0]


def test_the_recipe_says_which_data_and_another_set_of_that_name_is_refused(tmp_path):
    recipe = logged_recipe("bc")
    assert recipe.get("store.digest") == dataset.describe(tiny_data()).digest == dataset.digest_of(RECORD)
    assert recipe.digest() != recipe.vary("test", {"store.digest": "0" * 16}).digest()
    with pytest.raises(UsageError, match=r"was made for data of digest 0{16}; tiny/pendulum-v0 now has"):
        loop.train(recipe.vary("test", {"store.digest": "0" * 16}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_million_decisions_take_little_more_than_their_bytes():
    lengths = torch.full((1000,), 1000)
    columns = {"observation": torch.zeros(1_000_000, 17), "action": torch.zeros(1_000_000, 6)}
    record = Batch(
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        {**columns, "reward": torch.zeros(1_000_000)},
        {"terminated": torch.zeros(1000, dtype=torch.bool), "final_observation": torch.zeros(1000, 17)},
    )
    store = filled(record.with_columns(draw_weight=torch.arange(1_000_000)))
    held = [
        *record.columns.values(),
        *record.episode.values(),
        record.offsets,
        torch.from_numpy(store.weighted.weights),
        torch.from_numpy(store.weighted.sums),
    ]
    raw = 1_000_000 * 4 * (17 + 6 + 1)
    assert sum(column.numel() * column.element_size() for column in held) <= 1.2 * raw


def test_what_is_played_has_no_place():
    with pytest.raises(UsageError, match="takes no new episodes"):
        filled().add(RECORD)
