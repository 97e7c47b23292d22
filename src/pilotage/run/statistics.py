"""Intervals for few seeds and many tasks: what a comparison is allowed to say.

Which one where: a mean or a paired difference over a handful of seeds gets Student's t (`mean_interval`,
`paired_difference`), because a percentile bootstrap of 3 seeds can only recombine 3 numbers and its "95 %" interval
covers the truth about 3 times in 4 (measured in tests/known/test_statistics.py). Scores of many runs over many tasks
get the interquartile mean with a stratified bootstrap (Agarwal et al. 2021, arXiv:2108.13264), per-item results of a
few seeds the hierarchical bootstrap, a single proportion Wilson's interval.

Every bootstrap here is a percentile bootstrap, vectorised over resamples, and takes its generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2000
CELLS = 4_000_000  # numbers held at once by a bootstrap: 32 MB


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that covers the truth in a share `level` of repetitions; infinite ends say that the
    data cannot tell (one seed)."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    @property
    def known(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def clipped(self, low: float, high: float) -> Interval:
        """The interval inside the values that are possible, such as 0 to 1; one that is not known stays so."""
        if not self.known:
            return self
        return replace(self, low=min(max(self.low, low), high), high=min(max(self.high, low), high))

    def to_json(self) -> dict[str, float | None]:
        """Numbers, null for what is not finite."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of [seeds] with Student's t interval; infinite for one seed. Raises ValueError for none or NaN."""
    from scipy.stats import t

    x = _finite(values, 1)
    estimate, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(estimate, -math.inf, math.inf, level)
    half = float(t.ppf((1 + level) / 2, n - 1)) * float(x.std(ddof=1)) / math.sqrt(n)
    return Interval(estimate, estimate - half, estimate + half, level)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of a - b over [seeds] paired in order, with Student's t interval of the differences.

    Pairing removes what both arms of a seed share (start, tasks, luck of evaluation). Student's t assumes differences
    that are roughly normal and in return keeps its level with 3 seeds, where the bootstrap does not. Raises ValueError
    if the lengths differ.
    """
    x, y = _finite(a, 1), _finite(b, 1)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} seeds cannot be paired")
    return mean_interval(x - y, level)


def hierarchical_difference(
    a: ArrayLike,
    b: ArrayLike,
    generator: np.random.Generator,
    *,
    items: Literal["shared", "own"] = "shared",
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of a - b, both [seeds, items], with a bootstrap over seeds and over items: what another set of held-out
    items would have changed is part of the interval.

    items "shared": every seed was judged on the same items, which are drawn once for all seeds of a resample (Owen
    2007, "The pigeonhole bootstrap"). "own": items are drawn anew within each drawn seed (Davison and Hinkley 1997).
    With few seeds it is too narrow on the side of the seeds: it goes beside `paired_difference`, not in its place.
    Raises ValueError if the shapes differ.
    """
    x, y = _finite(a, 2), _finite(b, 2)
    if x.shape != y.shape:
        raise ValueError(f"shapes {x.shape} and {y.shape} cannot be paired")
    difference = x - y
    seeds, count = difference.shape

    def draw(n: int) -> Floats:
        if items == "shared":
            weight_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=n) / seeds
            weight_items = generator.multinomial(count, np.full(count, 1 / count), size=n) / count
            return _floats(((weight_seeds @ difference) * weight_items).sum(1))
        which = generator.integers(seeds, size=(n, seeds, 1))
        return _floats(difference[which, generator.integers(count, size=(n, seeds, count))].mean((1, 2)))

    return _percentile(float(difference.mean()), draw, seeds * count, level, resamples)


def trimmed_mean(scores: Floats) -> Floats:
    """[..., n] → [...]: the mean without the lowest and the highest floor(n / 4)."""
    n = scores.shape[-1]
    cut = n // 4
    return _floats(np.sort(scores, axis=-1)[..., cut : n - cut].mean(-1))


def interquartile_mean(
    scores: ArrayLike, generator: np.random.Generator, *, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Interquartile mean of [runs, tasks] scores pooled, with a stratified bootstrap interval.

    The mean of the middle half of all scores: less swayed by outliers than the mean, less wasteful than the median
    (Agarwal et al. 2021, section 4.3).
    """
    return stratified_bootstrap(
        scores, lambda s: trimmed_mean(s.reshape(len(s), -1)), generator, level=level, resamples=resamples
    )


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[[Floats], Floats],
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """A statistic of [runs, tasks] scores, with runs resampled within each task independently.

    statistic: [resamples, runs, tasks] → [resamples]. Source: Agarwal et al. 2021, section 4.1. Raises ValueError for
    scores that are not finite.
    """
    x = _finite(scores, 2)
    runs, tasks = x.shape

    def draw(n: int) -> Floats:
        return statistic(_floats(np.take_along_axis(x[None], generator.integers(runs, size=(n, runs, tasks)), axis=1)))

    return _percentile(float(statistic(x[None])[0]), draw, x.size, level, resamples)


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, generator: np.random.Generator, *, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """How likely a run of a beats a run of b on the same task: P(a > b) + P(a = b) / 2, averaged over tasks.

    a [runs, tasks] and b [other runs, tasks], or both [runs] of one task. The Mann-Whitney statistic over the number of
    pairs; the interval resamples the runs of both within each task. Source: Agarwal et al. 2021, section 4.3. Raises
    ValueError if the numbers of tasks differ.
    """
    x, y = (_finite(np.atleast_1d(np.asarray(v, dtype=np.float64)), None) for v in (a, b))
    x, y = (v[:, None] if v.ndim == 1 else v for v in (x, y))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} and {y.shape[1]} tasks cannot be compared")
    n, m, tasks = len(x), len(y), x.shape[1]
    wins = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])  # [n, m, tasks]

    def draw(count: int) -> Floats:
        weight_x = generator.multinomial(n, np.full(n, 1 / n), size=(count, tasks)) / n
        weight_y = generator.multinomial(m, np.full(m, 1 / m), size=(count, tasks)) / m
        return _floats(np.einsum("btn,nmt,btm->b", weight_x, wins, weight_y, optimize=True) / tasks)

    return _percentile(float(wins.mean()), draw, wins.size, level, resamples)


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval (1927): never outside 0 to 1, sound for few trials and no success.

    No trials: nothing known, 0 to 1. Raises ValueError unless 0 <= successes <= trials.
    """
    from scipy.stats import norm

    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0, level)
    z = float(norm.ppf((1 + level) / 2))
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(p, low, high, level)


def cluster_bootstrap(
    values: ArrayLike, generator: np.random.Generator, *, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Mean of [tasks, samples] with whole tasks resampled, since samples of one task are alike.

    NaN marks a sample that has no verdict and is left out; nothing but NaN gives NaN and infinite ends.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"expected [tasks, samples], got shape {table.shape}")
    counts = np.isfinite(table).sum(1).astype(np.float64)
    sums = np.where(np.isfinite(table), table, 0.0).sum(1)[counts > 0]
    counts = counts[counts > 0]
    tasks = len(counts)
    if tasks == 0:
        return Interval(math.nan, -math.inf, math.inf, level)
    if tasks == 1:
        return Interval(float(sums[0] / counts[0]), -math.inf, math.inf, level)

    def draw(n: int) -> Floats:
        which = generator.integers(tasks, size=(n, tasks))
        return _floats(sums[which].sum(1) / counts[which].sum(1))

    return _percentile(float(sums.sum() / counts.sum()), draw, tasks, level, resamples)


def _percentile(estimate: float, draw: Callable[[int], Floats], size: int, level: float, resamples: int) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    found = np.concatenate([draw(n) for n in _chunks(resamples, size)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def _chunks(resamples: int, size: int) -> Iterator[int]:
    """Resamples in parts that fit in memory."""
    part = max(1, CELLS // max(size, 1))
    for start in range(0, resamples, part):
        yield min(part, resamples - start)


def _finite(values: ArrayLike, dimensions: int | None) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if dimensions is not None and array.ndim != dimensions:
        raise ValueError(f"expected {dimensions} dimension(s), got shape {array.shape}")
    if array.size == 0:
        raise ValueError("no values")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    return array


def _floats(array: Any) -> Floats:
    return np.asarray(array, dtype=np.float64)
