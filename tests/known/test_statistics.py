"""Intervals against values worked by hand, against scipy, and against their own promise: coverage."""

import math

import numpy as np
import pytest
import scipy.stats

from pilotage.run.statistics import (
    Interval,
    cluster_bootstrap,
    hierarchical_difference,
    interquartile_mean,
    mean_interval,
    paired_difference,
    probability_of_improvement,
    stratified_bootstrap,
    trimmed_mean,
    wilson,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def ends(interval):
    return (interval.estimate, interval.low, interval.high)


def test_t_interval_by_hand():
    # 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3) = 0.57735, t(0.975, 2) = 4.30265; half width 2.48414
    assert ends(mean_interval([1, 2, 3])) == pytest.approx((2, 2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_t_interval_against_scipy(rng):
    x = rng.normal(size=9)
    low, high = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert ends(mean_interval(x, level=0.9)) == pytest.approx((x.mean(), low, high))


def test_paired_difference_by_hand():
    # differences 1, 2, 3, whatever the seeds' own levels are
    found = paired_difference([11, 102, 1003], [10, 100, 1000])
    assert ends(found) == pytest.approx((2, 2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_one_seed_tells_nothing():
    found = paired_difference([1.0], [0.0])
    assert ends(found) == (1.0, -math.inf, math.inf)
    assert not found.known
    assert found.to_json() == {"estimate": 1.0, "low": None, "high": None, "level": 0.95}


def test_seeds_that_agree_give_no_width():
    assert ends(mean_interval([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)


def test_clipping():
    assert ends(Interval(0.9, 0.7, 1.1).clipped(0, 1)) == (0.9, 0.7, 1.0)
    assert not Interval(0.9, -math.inf, math.inf).clipped(0, 1).known


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_refuses_what_has_no_mean(bad):
    with pytest.raises(ValueError, match=r"no values|not finite"):
        mean_interval(bad)


def test_refuses_pairs_that_are_none(rng):
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="cannot be paired"):
        hierarchical_difference(np.ones((2, 3)), np.ones((2, 4)), rng)
    with pytest.raises(ValueError, match="cannot be compared"):
        probability_of_improvement(np.ones((2, 3)), np.ones((2, 4)), rng)


def test_trimmed_mean_by_hand():
    # eight numbers: the two lowest and the two highest go; (3 + 4 + 5 + 6) / 4
    assert trimmed_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == pytest.approx(3.5)
    # three numbers: floor(3 / 4) = 0 go, it is the mean
    assert trimmed_mean(np.array([1.0, 2, 9])) == 4


def test_trimmed_mean_against_scipy(rng):
    x = rng.normal(size=(4, 13))
    assert np.allclose(trimmed_mean(x), scipy.stats.trim_mean(x, 0.25, axis=1))


def test_interquartile_mean_pools_runs_and_tasks(rng):
    scores = np.array([[0.0, 4.0], [1.0, 5.0], [2.0, 6.0], [3.0, 700.0]])
    found = interquartile_mean(scores, rng)
    assert found.estimate == pytest.approx(3.5)  # 2, 3, 4, 5
    assert found.low < 3.5 < found.high < 300


def test_strata_are_resampled_within_themselves(rng):
    # tasks differ by 1000, runs within a task do not: no resample can move the mean
    scores = np.tile([0.0, 1000.0, 2000.0], (5, 1))
    found = stratified_bootstrap(scores, lambda s: s.mean((1, 2)), rng)
    assert ends(found) == (1000, 1000, 1000)


def test_bootstrap_of_a_mean_has_the_theoretical_width(rng):
    x = rng.normal(size=(400, 1))
    found = stratified_bootstrap(x, lambda s: s.mean((1, 2)), rng, resamples=4000)
    half = 1.96 * x.std() / np.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.07)


def test_the_same_generator_gives_the_same_interval():
    scores = np.random.default_rng(0).normal(size=(5, 4))
    assert interquartile_mean(scores, np.random.default_rng(3)) == interquartile_mean(scores, np.random.default_rng(3))


def test_memory_bound_does_not_change_the_estimate(rng, monkeypatch):
    monkeypatch.setattr("pilotage.run.statistics.CELLS", 50)
    found = interquartile_mean(np.arange(20.0).reshape(5, 4), rng, resamples=301)
    assert found.estimate == 9.5
    assert found.low < 9.5 < found.high


def test_probability_of_improvement_by_hand(rng):
    # pairs of (1, 3) against (1, 2): 1=1 half, 1<2 none, 3>1 one, 3>2 one: 2.5 / 4
    assert probability_of_improvement([1, 3], [1, 2], rng).estimate == pytest.approx(0.625)
    assert ends(probability_of_improvement([5, 6], [1, 2], rng)) == (1, 1, 1)
    assert ends(probability_of_improvement([1, 1], [1, 1], rng)) == (0.5, 0.5, 0.5)
    # two tasks, averaged: 1 on the first, 0 on the second
    assert probability_of_improvement([[2, 1], [2, 1]], [[1, 2], [1, 2]], rng).estimate == 0.5


def test_probability_of_improvement_is_mann_whitney(rng):
    x, y = rng.integers(0, 6, size=12), rng.integers(1, 7, size=9)
    u = scipy.stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement(x, y, rng).estimate == pytest.approx(u / (12 * 9))


def test_wilson_by_hand():
    # 8 of 10, z = 1.959964: centre (0.8 + 0.192073) / 1.384146 = 0.716739,
    # half 1.959964 sqrt(0.016 + 0.0096036) / 1.384146 = 0.226577
    assert ends(wilson(8, 10)) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)
    assert wilson(0, 10).low == 0
    assert wilson(0, 10).high == pytest.approx(0.277533, abs=1e-5)  # z² / (n + z²) = 3.841459 / 13.841459
    assert wilson(10, 10).high == 1
    assert ends(wilson(0, 0))[1:] == (0, 1)
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


def test_wilson_against_scipy():
    for successes, trials in ((1, 7), (50, 100), (999, 1000)):
        low, high = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert ends(wilson(successes, trials))[1:] == pytest.approx((low, high))


def test_clusters_are_wider_than_samples(rng):
    # 50 tasks, each wholly right or wrong, 8 samples each: 50 independent things, not 400
    right = (np.arange(50) % 2)[:, None].repeat(8, axis=1).astype(float)
    found = cluster_bootstrap(right, rng)
    assert found.estimate == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.5 / np.sqrt(50), rel=0.15)


def test_clusters_leave_missing_samples_out(rng):
    found = cluster_bootstrap([[1.0, math.nan], [0.0, 0.0], [math.nan, math.nan]], rng)
    assert found.estimate == pytest.approx(1 / 3)
    assert math.isnan(cluster_bootstrap(np.full((3, 2), math.nan), rng).estimate)
    assert not cluster_bootstrap([[1.0, 0.0]], rng).known


def test_shared_items_by_hand(rng):
    # every seed agrees, items differ by 0 or 1: all variance is that of 100 items
    difference = np.tile((np.arange(100) % 2).astype(float), (3, 1))
    found = hierarchical_difference(difference, np.zeros_like(difference), rng)
    assert found.estimate == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.5 / 10, rel=0.12)
    # drawn anew within each seed there are 300 of them
    own = hierarchical_difference(difference, np.zeros_like(difference), rng, items="own")
    assert (own.high - own.low) / 2 == pytest.approx(1.96 * 0.5 / np.sqrt(300), rel=0.12)


def test_seeds_count_in_the_hierarchy(rng):
    # items agree, seeds differ: only the seeds can move it
    difference = np.repeat(np.arange(6.0)[:, None], 50, axis=1)
    for items in ("shared", "own"):
        found = hierarchical_difference(difference, np.zeros_like(difference), rng, items=items)
        assert found.estimate == 2.5
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * difference.std() / np.sqrt(6), rel=0.15)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_t_interval_covers_what_it_promises(rng, seeds):
    x = rng.normal(1.5, 2.0, size=(3000, seeds))
    found = [mean_interval(row) for row in x]
    covered = np.mean([i.low <= 1.5 <= i.high for i in found])
    assert 0.93 <= covered <= 0.97  # four standard errors of 3000 trials are 0.016


def test_paired_difference_covers_with_shared_luck(rng):
    luck = rng.normal(0, 10, size=(2000, 4))
    a, b = luck + rng.normal(1, 1, size=luck.shape), luck + rng.normal(0, 1, size=luck.shape)
    found = [paired_difference(x, y) for x, y in zip(a, b, strict=True)]
    assert 0.93 <= np.mean([i.low <= 1 <= i.high for i in found]) <= 0.97


def test_bootstrap_of_three_seeds_undercovers(rng):
    """Why Student's t is the default: the reason is measured, not remembered."""
    found = [
        stratified_bootstrap(row[:, None], lambda s: s.mean((1, 2)), rng, resamples=400)
        for row in rng.normal(size=(800, 3))
    ]
    assert 0.65 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.85


def test_shared_items_cover_with_many_seeds(rng):
    covered = 0
    for _ in range(300):
        difference = rng.normal(size=(20, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(20, 40))
        found = hierarchical_difference(difference, np.zeros_like(difference), rng, resamples=400)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_cluster_bootstrap_covers(rng):
    covered = 0
    for _ in range(400):
        values = rng.random((60, 4)) < rng.beta(2, 2, size=(60, 1))
        found = cluster_bootstrap(values.astype(float), rng, resamples=400)
        covered += found.low <= 0.5 <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_wilson_covers(rng):
    draws = rng.binomial(30, 0.9, size=2000)
    covered = np.mean([wilson(int(k), 30).low <= 0.9 <= wilson(int(k), 30).high for k in draws])
    assert 0.93 <= covered <= 0.985
