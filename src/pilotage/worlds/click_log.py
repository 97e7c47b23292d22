"""A log of decisions with their propensities, replayed as a bandit; and the real one that the package obp carries.

Imports no torch, and not obp itself, which asks for old versions of its own: only its data files are read.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.data.tasks import Task
from pilotage.worlds.bandits import HELD_OUT_SHARE, BanditWorld, Chances, Floats
from pilotage.worlds.base import Outcome

CAMPAIGNS = ("men", "women", "all")
LOGGERS = ("random", "bts")
GET = "python -m pip install --no-deps --ignore-requires-python obp==0.5.7"


@dataclass(frozen=True)
class Log:
    """n decisions of K actions: contexts [n, d], actions, rewards and propensities [n].

    Raises UsageError for a log without rows, with numbers that are not finite, or with a propensity outside (0, 1].
    """

    context: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: Floats
    propensity: Floats
    actions: int

    def __post_init__(self) -> None:
        count = len(self.action)
        if count == 0:
            raise UsageError("the log has no rounds")
        for name in ("context", "reward", "propensity"):
            values = getattr(self, name)
            if len(values) != count:
                raise UsageError(f"the log has {count} actions and {len(values)} entries of {name}")
            bad = ~np.isfinite(values.reshape(count, -1)).all(1)
            if bad.any():
                raise UsageError(f"{name} of round {int(bad.argmax())} of the log is not a finite number")
        bad = (self.propensity <= 0) | (self.propensity > 1)
        if bad.any():
            first = int(bad.argmax())
            raise UsageError(
                f"{int(bad.sum())} of the log's {count} rounds have a propensity not above 0 and at most 1; the "
                f"first is round {first}, with {self.propensity[first]:g}"
            )
        if not ((self.action >= 0) & (self.action < self.actions)).all():
            raise UsageError(f"actions of the log are numbers from 0 to {self.actions - 1}, and there are others")


def open_bandit(campaign: str = "men", logger: str = "random", folder: str = "") -> Log:
    """Open Bandit Data (Saito et al. 2020, arXiv 2008.07146), the sample of 10,000 rounds, in order of time.

    Contexts are four user features and the position on the page, one-hot; a reward is a click. Raises UsageError where
    the files are missing, or lack a column.
    """
    for asked, known in ((campaign, CAMPAIGNS), (logger, LOGGERS)):
        if asked not in known:
            raise UsageError(f"Open Bandit Data has no {asked!r}; {nearest(asked, known)}")
    home = Path(folder) if folder else _packaged()
    return read_log(home / logger / campaign / f"{campaign}.csv")


def _packaged() -> Path:
    spec = find_spec("obp")
    if spec is None or spec.origin is None:
        raise UsageError(f"the click log comes with the package obp, which is not installed: {GET}")
    return Path(spec.origin).parent / "dataset" / "obd"


def read_log(path: Path) -> Log:
    """A file in the form of Open Bandit Data. Raises UsageError where it is missing, or lacks a column."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        for needed in ("timestamp", "item_id", "position", "click", "propensity_score"):
            if needed not in names:
                raise UsageError(f"{path.name} has no column {needed!r}, without which a log cannot be used")
        rows = sorted(reader, key=lambda row: row["timestamp"])
    features = [name for name in names if name.startswith("user_feature")]
    coded = [_one_hot([row[name] for row in rows], drop=name != "position") for name in (*features, "position")]
    try:
        action = np.array([int(row["item_id"]) for row in rows], np.int64)
        reward = np.array([float(row["click"]) for row in rows])
        propensity = np.array([float(row["propensity_score"] or "nan") for row in rows])
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}") from None
    actions = int(action.max()) + 1 if len(action) else 0
    return Log(np.concatenate(coded, 1, dtype=np.float32), action, reward, propensity, actions)


def _one_hot(values: Sequence[str], drop: bool) -> NDArray[np.float32]:
    """[n, categories], in their sorted order; without the first where it follows from the others."""
    names, code = np.unique(np.array(values), return_inverse=True)
    return np.eye(len(names), dtype=np.float32)[code][:, int(drop and len(names) > 0) :]


class LoggedBandit(BanditWorld):
    """The click log as a world: the first 70 % of its time are the training tasks, in order and again from the start.

    Nobody knows what another action would have brought. So training replays the log (`recorded`), and a policy is
    judged on held-out rounds by reward / propensity where it chooses the action on record, else 0: the mean of that
    estimates its value without bias. Every action is always there.
    """

    def __init__(self, *, campaign: str = "men", logger: str = "random", folder: str = "", seed: int = 0) -> None:
        self._use(open_bandit(campaign, logger, folder), seed)

    def _use(self, log: Log, seed: int) -> None:
        super().__init__(log.context.shape[1], log.actions, None, seed)
        self.log = log
        self._row: NDArray[np.int64] = np.zeros(0, np.int64)
        cut = round((1 - HELD_OUT_SHARE) * len(log.action))
        self._span = {"train": (0, cut), "held_out": (cut, len(log.action) - cut)}

    @staticmethod
    def of(log: Log, seed: int = 0) -> LoggedBandit:
        """A log of one's own."""
        made = LoggedBandit.__new__(LoggedBandit)
        made._use(log, seed)
        return made

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> NDArray[np.float32]:
        spans = [self._span[task.split] for task in tasks]
        self._row = np.array([first + task.key % count for task, (first, count) in zip(tasks, spans, strict=True)])
        self._lanes = np.fromiter(lanes, np.int64, len(lanes))
        count = len(tasks)
        everything = np.ones((count, self.actions), np.bool_)
        # the row stands where simulated worlds have the mean of each action: a reward is looked up by it
        self._open = Chances(self.log.context[self._row], everything, self._row[:, None].astype(float), np.zeros(count))
        return self._shown(self._open)

    def recorded(self, lanes: Sequence[int]) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Action, reward and propensity on record, [n] each."""
        rows = self._at(lanes).mean[:, 0].astype(np.int64)
        return self.log.action[rows], self.log.reward[rows], self.log.propensity[rows]

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        action, reward, propensity = self.recorded(lanes)
        weighted = np.where(np.asarray(actions) == action, reward / propensity, 0.0)
        ended = np.ones(len(action), np.bool_)
        return Outcome(self._shown(self._at(lanes)), weighted.astype(np.float32), ended, np.zeros_like(ended))

    def regret(self, actions: Any, lanes: Sequence[int]) -> Floats:
        """Nobody knows."""
        raise UsageError("a log does not know what the best action would have brought")

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.int64], Floats, Floats]:
        """The last 30 % of the log: observations [n, d + K], actions, rewards and propensities [n]."""
        first, count = self._span["held_out"]
        rows = slice(first, first + count)
        everything = np.ones((count, self.actions), np.float32)
        observation = np.concatenate([self.log.context[rows], everything], 1)
        return observation, self.log.action[rows], self.log.reward[rows], self.log.propensity[rows]

    def explored(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64], Floats]:
        """Held-out rounds as they were logged: uniformly, where the logger was random."""
        observation, action, reward, _ = self.held_out()
        return observation[:count], action[:count], reward[:count]
