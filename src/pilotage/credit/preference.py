"""Pairs out of groups: which two answers, and which of them is preferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams

Floats = NDArray[np.float64]
RULES = ("random", "best-worst", "best-second")
TIED = 1e-9  # scores closer than this are equal


class Pairs:
    """Two answers of each group, labelled. Writes `preferred` (bool) and `pair`, both [D]; all else is left out.

    rule: "random" takes the first two valid answers, which are independent draws, and labels them by the oracle's
        probability; "best-worst" and "best-second" rank the group by mean probability of winning against its other
        members.
    by: "reward" compares returns (the higher wins for certain); "world" asks `world.win_probability(task, answers)`.
    ties: equal answers are dropped ("drop") or labelled by a fair coin ("random"); either way they are counted.
    flip: share of labels that are turned round, as a noisy scorer would.

    Labels are drawn by counter, from the pair's place in a record kept over steps (`origin` [E]), else from step and
    group. Invalid episodes are never part of a pair; a group with fewer than two valid ones gives none.
    """

    def __init__(self, *, rule: str = "best-worst", by: str = "reward", ties: str = "drop", flip: float = 0.0) -> None:
        if rule not in RULES:
            raise UsageError(f"rule {rule!r} is not one of {', '.join(RULES)}")
        if by not in ("reward", "world") or ties not in ("drop", "random"):
            raise UsageError(f"by is reward or world, ties drop or random; not {by!r} and {ties!r}")
        if not 0 <= flip <= 1:
            raise UsageError(f"flip is a share from 0 to 1, not {flip:g}")
        self.rule, self.by, self.ties, self.flip = rule, by, ties, flip
        self.counts: dict[str, int] = {}

    def __call__(self, batch: Batch, world: Any, streams: Streams, step: int = 0) -> Batch:
        if self.by == "world" and not hasattr(world, "win_probability"):
            raise UsageError(
                f"{type(world).__name__} has no win_probability(task, answers); set credit.pairs.by=reward"
            )
        self.counts = dict.fromkeys(("made", "ties", "short", "flipped"), 0)
        chosen: list[int] = []
        preferred: list[bool] = []
        for members in _groups(batch):
            valid = [i for i in members if bool(batch.valid[i])]
            if len(valid) < 2:
                self.counts["short"] += 1
                continue
            found = self._labelled(batch, valid, world, *self._draws(batch, members[0], streams, step))
            if found is not None:
                self.counts["made"] += 1
                chosen += found
                preferred += [True, False]
        order = sorted(range(len(chosen)), key=chosen.__getitem__)  # as in the record
        pairs = batch.select(torch.tensor([chosen[i] for i in order], dtype=torch.long))
        winners = torch.tensor([preferred[i] for i in order], dtype=torch.bool)
        return pairs.with_columns(preferred=pairs.spread(winners), pair=pairs.spread(pairs["group"]))

    def metrics(self) -> dict[str, float]:
        """Of the last batch: pairs made, ties, groups with too few valid answers, labels turned round."""
        return {f"labels/{name}": float(count) for name, count in self.counts.items()}

    def _draws(self, batch: Batch, first: int, streams: Streams, step: int) -> tuple[float, float]:
        """Two uniform numbers for a group: one for the label, one for turning it round."""
        known = "origin" in batch
        index = int(batch["origin" if known else "group"][first])
        label, flip = streams.generator("labels", 0 if known else step, index).random(2).tolist()
        return label, flip

    def _labelled(self, batch: Batch, valid: list[int], world: Any, label: float, flip: float) -> list[int] | None:
        """The episodes (preferred, other), or None for a tie that is dropped."""
        wins = self._probabilities(batch, valid, world)
        if self.rule == "random":
            one, other, chance = 0, 1, float(wins[0, 1])
        else:
            strength = (wins.sum(1) - np.diag(wins)) / (len(wins) - 1)
            ranked = np.argsort(-strength, kind="stable")
            one, other = int(ranked[0]), int(ranked[1])
            if self.rule == "best-worst" and strength[one] - strength.min() > TIED:
                other = int(strength.argmin())  # the first of equals
            chance = 1.0 if strength[one] - strength[other] > TIED else 0.5
        if abs(chance - 0.5) <= TIED:
            self.counts["ties"] += 1
            if self.ties == "drop":
                return None
        if label >= chance:
            one, other = other, one
        if flip < self.flip:
            self.counts["flipped"] += 1
            one, other = other, one
        return [valid[one], valid[other]]

    def _probabilities(self, batch: Batch, valid: list[int], world: Any) -> Floats:
        """[K, K] the probability that each answer is preferred to each other one."""
        if self.by == "world":
            task = world.task(int(batch["task"][valid[0]]), "train")
            found: Floats = world.win_probability(task, [batch.notes["answer"][i] for i in valid])
            return found
        return by_reward(batch.returns[valid].double().numpy())


def by_reward(returns: Floats | Sequence[float]) -> Floats:
    """[K, K] from returns [K]: 1 where the row's is higher, ½ where they are equal."""
    value = np.asarray(returns, np.float64)
    higher = (value[:, None] > value[None, :]).astype(np.float64)
    same = (np.abs(value[:, None] - value[None, :]) <= TIED).astype(np.float64)
    found: Floats = np.where(same > 0, 0.5, higher)
    return found


def _groups(batch: Batch) -> list[list[int]]:
    """The episodes of each group, groups in order of their first episode."""
    found: dict[int, list[int]] = {}
    for episode, group in enumerate(batch["group"].tolist()):
        found.setdefault(group, []).append(episode)
    return list(found.values())
