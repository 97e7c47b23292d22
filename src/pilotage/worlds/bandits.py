"""Bandits: one context, a set of actions, one choice, one reward. Simulated ones, and tables of labelled rows.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds.base import Outcome, World

Floats = NDArray[np.float64]
BLOCK = 1024  # tasks whose chance is drawn at a time
HELD_OUT_SHARE = 0.3
NOTHING: dict[str, Any] = {}  # one for all tasks: thousands a step would keep the garbage collector busy
TABLES = ("digits", "breast-cancer", "wine", "iris")


@dataclass(frozen=True)
class Chances:
    """All there is to know of n rounds: contexts [n, d], which actions there are [n, K], mean rewards [n, K], and a
    number in [0, 1) a round that decides its reward."""

    context: NDArray[np.float32]
    available: NDArray[np.bool_]
    mean: Floats
    luck: Floats

    def take(self, rows: NDArray[np.int64]) -> Chances:
        return Chances(self.context[rows], self.available[rows], self.mean[rows], self.luck[rows])


def joined(parts: Sequence[Chances]) -> Chances:
    """Rounds in a row."""
    if len(parts) == 1:
        return parts[0]
    names = ("context", "available", "mean", "luck")
    return Chances(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class BanditWorld(World):
    """A world of episodes of length 1. An observation is the context and, for each action, 1 where it is there, else 0:
    float32 [d + K]. To choose an action that is not there is invalid.

    A task is a context with its action set and its luck: the same action on it always gives the same reward.
    sets: (least, most) size of a round's action set, drawn uniformly, as is the set; None: all actions, always.
    Derived classes say `_drawn(rng, count, split)`: contexts [n, d], mean rewards [n, K]; and `_rewards`.
    """

    def __init__(self, inputs: int, actions: int, sets: tuple[int, int] | None, seed: int) -> None:
        if sets is not None and not 1 <= sets[0] <= sets[1] <= actions:
            raise UsageError(
                f"an action set has from 1 to all {actions} actions; sets=({sets[0]}, {sets[1]}) does not fit"
            )
        self.inputs, self.actions, self.sets, self.seed = inputs, actions, sets, seed
        low = np.concatenate([np.full(inputs, -np.inf), np.zeros(actions)]).astype(np.float32)
        high = np.concatenate([np.full(inputs, np.inf), np.ones(actions)]).astype(np.float32)
        self.observation = spaces.Box(low, high, dtype=np.float32)
        self.action = spaces.Discrete(actions)
        self._blocks: dict[tuple[Split, int], Chances] = {}
        self._lanes: NDArray[np.int64] = np.zeros(0, np.int64)
        self._open: Chances | None = None

    @property
    def kind(self) -> str:
        return "bandit"

    def _drawn(self, rng: np.random.Generator, count: int, split: Split) -> tuple[NDArray[np.float32], Floats]:
        """Contexts [n, inputs] and mean rewards [n, actions] of so many rounds; a log replays rounds instead."""
        raise TypeError(f"{type(self).__name__} does not draw rounds")

    def _rewards(self, mean: Floats, luck: Floats) -> Floats:
        """[n] rewards of actions with these means."""
        return (luck < mean).astype(np.float64)

    def task(self, index: int, split: Split) -> Task:
        return Task(index, split, payload=NOTHING)

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> NDArray[np.float32]:
        self._lanes = np.fromiter(lanes, np.int64, len(lanes))
        splits = [task.split for task in tasks]
        keys = np.fromiter((task.key for task in tasks), np.int64, len(tasks))
        if splits.count(splits[0]) == len(splits):
            self._open = self.chances(keys, splits[0])
        else:  # one at a time, as the splits come
            self._open = joined([self.chances(keys[i : i + 1], split) for i, split in enumerate(splits)])
        return self._shown(self._open)

    def chances(self, keys: NDArray[np.int64], split: Split) -> Chances:
        """The rounds of these tasks."""
        block, place = np.divmod(keys, BLOCK)
        wanted = np.unique(block)
        if len(wanted) == 1:
            return self._block(split, int(wanted[0])).take(place)
        whole = joined([self._block(split, int(number)) for number in wanted])
        return whole.take(np.searchsorted(wanted, block) * BLOCK + place)

    def _block(self, split: Split, number: int) -> Chances:
        key = (split, number)
        if key not in self._blocks:
            if len(self._blocks) >= 32:
                self._blocks.clear()
            rng = Streams(self.seed).generator(f"rounds {split}", index=number)
            context, mean = self._drawn(rng, BLOCK, split)
            available = self._available(rng, BLOCK)
            if not (some := available.any(1)).all():
                empty = number * BLOCK + int((~some).argmax())
                raise UsageError(f"the action set of {split} round {empty} is empty: there is nothing to choose from")
            self._blocks[key] = Chances(context, available, mean, rng.random(BLOCK))
        return self._blocks[key]

    def _available(self, rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
        if self.sets is None:
            return np.ones((count, self.actions), np.bool_)
        rank = rng.random((count, self.actions)).argsort(1).argsort(1)
        found: NDArray[np.bool_] = rank < rng.integers(self.sets[0], self.sets[1] + 1, size=(count, 1))
        return found

    def _shown(self, rounds: Chances) -> NDArray[np.float32]:
        return np.concatenate([rounds.context, rounds.available.astype(np.float32)], 1)

    def _at(self, lanes: Sequence[int]) -> Chances:
        """The rounds that run on lanes. Raises ValueError for one where none does."""
        asked = np.fromiter(lanes, np.int64, len(lanes))
        if self._open is not None and np.array_equal(asked, self._lanes):
            return self._open
        where = {lane: row for row, lane in enumerate(self._lanes.tolist())} if self._open is not None else {}
        missing = [lane for lane in asked.tolist() if lane not in where]
        if missing or self._open is None:
            raise ValueError(f"lane {missing[:1]} has no running round: reset it first")
        return self._open.take(np.array([where[lane] for lane in asked.tolist()], np.int64))

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """actions: integers [n]; every round ends."""
        rounds, chosen = self._at(lanes), np.asarray(actions).astype(np.int64)
        if not ((chosen >= 0) & (chosen < self.actions)).all():
            raise ValueError(f"actions are numbers from 0 to {self.actions - 1}")
        every = np.arange(len(chosen))
        there = rounds.available[every, chosen]
        reward = self._rewards(rounds.mean[every, chosen], rounds.luck)
        invalid = {row: f"action {chosen[row]} is not in this round's set" for row in np.flatnonzero(~there).tolist()}
        ended = there.copy()
        return Outcome(
            self._shown(rounds), np.where(there, reward, 0.0).astype(np.float32), ended, np.zeros_like(ended), invalid
        )

    def regret(self, actions: Any, lanes: Sequence[int]) -> Floats:
        """[n] what the best action of the set would have given more, in the mean."""
        rounds = self._at(lanes)
        best = np.where(rounds.available, rounds.mean, -np.inf).max(1)
        found: Floats = best - rounds.mean[np.arange(len(best)), np.asarray(actions)]
        return found

    def explored(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64], Floats]:
        """Held-out rounds with uniformly drawn actions: observations [n, d + K], actions [n], rewards [n]."""
        rounds = self.chances(2**40 + np.arange(count), "held_out")
        rng = Streams(self.seed).generator("explored")
        action = np.where(rounds.available, rng.random(rounds.available.shape), -1.0).argmax(1)
        reward = self._rewards(rounds.mean[np.arange(count), action], rounds.luck)
        return self._shown(rounds), action, reward


class SimulatedBandit(BanditWorld):
    """Contexts from a standard normal in `context` dimensions, a random weight vector for each of `actions` actions.

    rewards "linear": context · weights + noise; "logistic": 1 with chance sigmoid(scale * context · weights + bias),
    else 0. Weights are drawn with standard deviation 1 / sqrt(context).
    """

    def __init__(
        self,
        *,
        rewards: str = "linear",
        context: int = 10,
        actions: int = 10,
        sets: tuple[int, int] | None = None,
        noise: float = 0.5,
        scale: float = 2.0,
        bias: float = 1.0,
        seed: int = 0,
    ) -> None:
        if rewards not in ("linear", "logistic"):
            raise UsageError(f"rewards are linear or logistic; {nearest(rewards, ('linear', 'logistic'))}")
        if context < 1 or actions < 1:
            raise UsageError("a bandit has at least one context dimension and one action")
        super().__init__(context, actions, sets, seed)
        self.rewards, self.deviation, self.scale, self.bias = rewards, noise, scale, bias
        self.weights = Streams(seed).generator("weights").standard_normal((actions, context)) / np.sqrt(context)
        if rewards == "logistic":
            self.reward_range = (0.0, 1.0)

    def _drawn(self, rng: np.random.Generator, count: int, split: Split) -> tuple[NDArray[np.float32], Floats]:
        context = rng.standard_normal((count, self.inputs), dtype=np.float32)
        mean = context.astype(np.float64) @ self.weights.T
        return context, mean if self.rewards == "linear" else 1 / (1 + np.exp(-self.scale * mean - self.bias))

    def _rewards(self, mean: Floats, luck: Floats) -> Floats:
        if self.rewards == "logistic":
            return super()._rewards(mean, luck)
        from scipy.special import ndtri

        return mean + self.deviation * ndtri(luck)


class TableBandit(BanditWorld):
    """scikit-learn's packaged table `table` as a bandit: an action is a label. The reward is 1 with probability `right`
    for the row's own label and `wrong` for another, else 0. Features are standardised; 30 % of rows are held out."""

    def __init__(
        self,
        *,
        table: str = "digits",
        sets: tuple[int, int] | None = None,
        right: float = 1.0,
        wrong: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not (0 <= right <= 1 and 0 <= wrong <= 1):
            raise UsageError("right and wrong are probabilities")
        self.table = table
        features, self._label = self._rows
        super().__init__(features.shape[1], int(self._label.max()) + 1, sets, seed)
        self.reward_range = (0.0, 1.0)
        self._chance = right, wrong
        order = np.random.default_rng(0).permutation(len(features))
        cut = round(HELD_OUT_SHARE * len(order))
        self._of = {"held_out": order[:cut], "train": order[cut:]}

    @cached_property
    def _rows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        load = _loader(self.table)
        features, label = load(return_X_y=True)
        deviation = features.std(0)
        scaled = (features - features.mean(0)) / np.where(deviation > 0, deviation, 1.0)
        return scaled.astype(np.float32), label.astype(np.int64)

    def _drawn(self, rng: np.random.Generator, count: int, split: Split) -> tuple[NDArray[np.float32], Floats]:
        rows = self._of[split][rng.integers(len(self._of[split]), size=count)]
        own = self._label[rows][:, None] == np.arange(self.actions)
        return self._rows[0][rows], np.where(own, *self._chance)


def _loader(table: str) -> Callable[..., Any]:
    if table not in TABLES:
        raise UsageError(f"there is no table {table!r}; {nearest(table, TABLES)}")
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[bandits]"') from None
    found: Callable[..., Any] = getattr(datasets, f"load_{table.replace('-', '_')}")
    return found
