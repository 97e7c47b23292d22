"""Weights of episodes, by the card's numbers, and what they must not depend on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import differing, episodes, final_state, logged_recipe, metrics
from pilotage import api
from pilotage.credit.trajectories import expected_return, softmax_weight, top_share
from pilotage.data.offline import Offline
from pilotage.data.piece import Piece, UsageError
from pilotage.data.rng import Streams


def record(returns, starts=None, lengths=None):
    """Episodes with these returns and first observations, each a list of numbers; later observations are noise."""
    lengths = lengths or [1] * len(returns)
    made = episodes(rewards=[float(r) for r in returns], lengths=lengths, dtype=torch.float64)
    starts = torch.zeros(len(returns), 1) if starts is None else torch.tensor(starts, dtype=torch.float64)
    starts = starts.reshape(len(returns), -1)
    observation = torch.randn(made.decisions, starts.shape[1], generator=torch.Generator().manual_seed(0)).double()
    observation[made.offsets[:-1]] = starts.double()
    return made.with_columns(observation=observation)


def weights(batch, **given):
    return softmax_weight(batch, **given)["draw_weight"]


def close(found, wanted, **tolerance):
    wanted = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, **{"rtol": 1e-4, "atol": 0, **tolerance})


@pytest.mark.parametrize(
    ("temperature", "each", "mass"),
    [
        (0.1, [4.5390e-5, 1.23383e-4, 0.999786], [9.0780e-5, 1.23383e-4, 0.999786]),
        (1.0, [0.171719, 0.189779, 0.466782], [0.343439, 0.189779, 0.466782]),
    ],
)
def test_weights_of_returns_by_hand(temperature, each, mass):
    batch = record([0, 1, 10], lengths=[2, 1, 1])
    found = weights(batch, score="return", temperature=temperature)
    close(found, [each[0], each[0], each[1], each[2]], rtol=2e-5)
    close(batch.total(found), mass, rtol=2e-5)
    assert found.dtype == torch.float64
    assert float(found.sum()) == pytest.approx(1, abs=1e-15)


def test_weights_of_advantages_by_hand():
    batch = record([1, 3, 2, 6], starts=[0, 1, 0, 1])
    close(expected_return(batch), [1.5, 4.5, 1.5, 4.5], rtol=1e-12)  # slope 3, intercept 1.5
    found = weights(batch, temperature=0.5)
    close(found, [0.137839, 0.070769, 0.268475, 0.522917], rtol=1e-5)
    assert found[0] > found[1]  # a return of 1 from a hard start outranks 3 from an easy one
    close(weights(batch, score="return", temperature=0.5).log().diff(), [0.8, -0.4, 1.6], rtol=1e-9)


RETURNS = st.lists(st.integers(-50, 50), min_size=12, max_size=30).filter(lambda g: len(set(g)) > 1)


@settings(max_examples=40, deadline=None)
@given(returns=RETURNS, scale=st.floats(0.01, 100), shift=st.floats(-100, 100), temperature=st.floats(0.05, 5))
def test_scale_shift_and_the_start_do_not_matter(returns, scale, shift, temperature):
    count = len(returns)
    starts = torch.randn(count, 2, generator=torch.Generator().manual_seed(1)).double()
    g = torch.tensor(returns, dtype=torch.float64)
    lengths = [1 + i % 3 for i in range(count)]
    for score in ("return", "advantage"):
        one = weights(record(g, starts.tolist(), lengths), score=score, temperature=temperature)
        other = weights(record(scale * g + shift, starts.tolist(), lengths), score=score, temperature=temperature)
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)
        assert float(one.sum()) == pytest.approx(1)
        assert float(one.max() / one.min()) == pytest.approx(math.exp(1 / temperature), rel=1e-9)
    easier = g + starts @ torch.tensor([3.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(
        weights(record(g, starts.tolist())), weights(record(easier, starts.tolist())), rtol=1e-6, atol=1e-12
    )


def test_all_decisions_of_an_episode_weigh_the_same():
    batch = record([3, 1, 2], starts=[1, 4, 2], lengths=[4, 2, 3])
    found = weights(batch)
    assert torch.equal(found, batch.spread(found[batch.offsets[:-1]]))


def test_one_start_for_all_makes_advantages_returns():
    batch = record([0.1, 1.7, 10.3], starts=[[0.3, 0.7]] * 3, lengths=[2, 1, 1])
    assert torch.equal(weights(batch), weights(batch, score="return"))


def test_a_temperature_without_end_is_uniform_and_a_low_one_takes_the_best():
    batch = record([0, 1, 10], starts=[1, 2, 4], lengths=[2, 1, 3])
    for score in ("return", "advantage"):
        same = torch.full((6,), 1 / 6, dtype=torch.float64)
        assert torch.equal(weights(batch, score=score, temperature=math.inf), same)
        close(weights(batch, score=score, temperature=1e9), [1 / 6] * 6)
        low = batch.total(weights(batch, score=score, temperature=1e-5))
        assert sorted(low.tolist()) == [0, 0, pytest.approx(1)]


def test_equal_returns_weigh_the_same():
    for score in ("return", "advantage"):
        batch = record([0.3] * 4, starts=[1, 2, 5, 3], lengths=[1, 2, 3, 4])
        assert torch.equal(weights(batch, score=score), torch.full((10,), 0.1, dtype=torch.float64))


def test_few_episodes_of_many_numbers_do_not_explain_themselves_away():
    # least squares through 6 points of 8 numbers is exact: advantages would be rounding errors
    make = torch.Generator().manual_seed(0)
    starts, g = torch.randn(6, 8, generator=make).double(), torch.tensor([1.0, 5, 2, 9, 4, 7], dtype=torch.float64)
    batch = record(g, starts.tolist())
    gap = g - expected_return(batch)
    assert float(gap.std()) > 0.5 * float(g.std())
    assert torch.equal(weights(batch).argsort(), gap.argsort())
    # where there are five times as many episodes there is no penalty: residuals stand upright on the inputs
    starts, g = torch.randn(40, 8, generator=make).double(), torch.randn(40, generator=make).double()
    gap = g - expected_return(record(g, starts.tolist()))
    torch.testing.assert_close(starts.T @ gap, torch.zeros(8, dtype=torch.float64), atol=1e-9, rtol=0)
    starts = torch.cat([starts, starts[:, :1] * 2], 1)  # an entry that is a function of another
    assert bool(torch.isfinite(expected_return(record(g, starts.tolist()))).all())


def test_the_top_share_is_uniform_over_the_best_episodes():
    batch = record([5, 1, 9, 9, 2, 3, 0, 7, 8, 4, 6], lengths=[1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1])
    best = top_share(batch, share=0.2)["draw_weight"]  # 2 of 11
    assert torch.equal(best, torch.tensor([0.0, 0, 0, 0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0]).double())
    assert int(top_share(batch, share=0.01)["draw_weight"].count_nonzero()) == 3  # at least one episode
    assert bool((top_share(batch, share=1.0)["draw_weight"] > 0).all())


@pytest.mark.parametrize("change", [{"score": "retrun"}, {"temperature": 0.0}, {"temperature": math.nan}])
def test_settings_that_are_none_are_refused(change):
    with pytest.raises(UsageError):
        softmax_weight(record([1, 2]), **change)
    with pytest.raises(UsageError, match="share"):
        top_share(record([1, 2]), share=1.5)


def test_what_a_run_says_of_its_data_by_hand():
    store = Offline()
    store.fill(record([0, 0, 0, 8]))
    assert store.facts() == {"data/positive_variance": 9.0, "data/effective_decisions": 4.0}  # the variance is 12
    store.fill(softmax_weight(record([0, 1, 10], lengths=[2, 1, 1]), score="return", temperature=1.0))
    p = (0.171719, 0.171719, 0.189779, 0.466782)
    assert store.facts()["data/effective_decisions"] == pytest.approx(1 / sum(x * x for x in p), rel=1e-5)


def test_decisions_are_drawn_by_their_weight():
    store = Offline()
    batch = record([0, 1, 10], lengths=[2, 1, 1])
    store.fill(softmax_weight(batch, score="return", temperature=1.0))
    rows = store.rows(Streams(0).generator("x"), 100_000)
    share = torch.bincount(rows, minlength=4).double() / 100_000
    close(share, [0.171719, 0.171719, 0.189779, 0.466782], rtol=0, atol=0.006)  # four standard deviations


def ends(recipe, folder):
    api.train(recipe, out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "sampler", "rollout", "world", "store")}


def test_off_is_the_baseline(tmp_path):
    method, base = logged_recipe("trajectory-weighting"), logged_recipe("bc")
    off = method.vary("test", {"credit.draw_weight.temperature": math.inf})
    one, other, on = (ends(r, tmp_path / str(i)) for i, r in enumerate((off, base, method)))
    assert differing(one, other) == []
    assert differing(on["policy"], other["policy"]) != []
    facts = [r["data/effective_decisions"] for r in metrics(tmp_path / "2") if r["kind"] == "train"]
    assert len(set(facts)) == 1
    assert facts[0] < 49


def test_the_best_tenth_is_a_setting_away():
    asked = "pilotage.credit.trajectories:top_share"
    recipe = logged_recipe("trajectory-weighting", settings={"credit.draw_weight": asked})
    assert recipe.credit["draw_weight"] == Piece(asked)


@pytest.mark.parametrize("other", ["td3-bc", "iql", "cql", "a2pr"])
def test_it_stacks_on_every_offline_method(other):
    stack, plain = logged_recipe(f"trajectory-weighting+{other}"), logged_recipe(other)
    assert stack.terms == plain.terms
    assert stack.policy == plain.policy
    assert stack.credit["draw_weight"].settings == {"score": "advantage", "temperature": 0.1}
