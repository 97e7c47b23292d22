"""The record: what actors did, as flat columns over decisions with offsets, and views of it.

A *decision* is one thing the policy sampled or could have sampled: a token, an action, a denoising step, an arm. An
*episode* is a run of decisions by one actor; a *group* is the episodes that share an id. Nothing is padded here.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class Stop(enum.IntEnum):
    """Why an episode ended; stored per episode as `stop`."""

    TERMINATED = 0  # the world said so, or the answer ended with an end token
    TIME_LIMIT = 1  # the world's own limit
    LENGTH = 2  # no more decisions were allowed (token or step budget)
    WINDOW = 3  # only the record was cut: the actor goes on in the next one
    INVALID = 4  # the world or the verifier failed; nothing may be learnt from it


class Difficulty(enum.IntEnum):
    """How hard a problem was, by the answers that a step gave to it; stored per episode as `difficulty`."""

    EASY = 0
    MEDIUM = 1
    HARD = 2


@dataclass(frozen=True)
class Batch:
    """E episodes, D decisions in all. Decision d belongs to episode e if offsets[e] <= d < offsets[e + 1].

    columns: each [D, …]. Usual names: `action`, `observation`, `reward`, `behaviour_logp`, `sampled` (bool: the policy
        made this decision), `turn`, and the streams that credit writes (`advantage`, `value`, …).
    episode: each [E, …]. Usual names: `group`, `task`, `terminated`, `truncated`, `valid` (bool: the verdict is a
        value), `stop` (see Stop), `policy_version`, `final_observation`.
    notes: per-episode host values that no tensor holds, each of length E: `prompt`, `answer`, `reason`.
    """

    offsets: Tensor
    columns: Mapping[str, Tensor]
    episode: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        decisions, episodes = self.decisions, len(self)  # shapes are asked, not len(): that is a call into Python
        for name, column in self.columns.items():
            if column.shape[0] != decisions:
                raise ValueError(f"column {name} has {len(column)} rows, the batch has {decisions} decisions")
        entries = {name: v.shape[0] for name, v in self.episode.items()} | {n: len(v) for n, v in self.notes.items()}
        for name, count in entries.items():
            if count != episodes:
                raise ValueError(f"{name} has {count} entries, the batch has {len(self)} episodes")

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    @cached_property
    def decisions(self) -> int:
        """D, the number of decisions."""
        return int(self.offsets[-1])

    @cached_property
    def lengths(self) -> Tensor:
        """[E] decisions of each episode."""
        return self.offsets.diff()

    @cached_property
    def owner(self) -> Tensor:
        """[D] the episode of each decision."""
        if self.decisions == len(self):
            alone = torch.arange(len(self) + 1)
            if torch.equal(self.offsets, alone):  # a decision each, as stores draw them
                return alone[:-1]
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def sampled(self) -> Tensor:
        """[D] bool: which decisions the policy made (all of them where no column says otherwise)."""
        return self.columns["sampled"] if "sampled" in self.columns else torch.ones(self.decisions, dtype=torch.bool)

    @cached_property
    def fresh(self) -> Tensor:
        """[D] bool: decisions that the policy made in this step: of those sampled, not the ones from windows before
        (where responses go on from step to step, the column `current` says which)."""
        return self.sampled & self.columns["current"] if "current" in self.columns else self.sampled

    def __getitem__(self, name: str) -> Tensor:
        if name in self.columns:
            return self.columns[name]
        if name in self.episode:
            return self.episode[name]
        raise KeyError(f"the batch has no {name!r}; it has {', '.join((*self.columns, *self.episode))}")

    def __contains__(self, name: str) -> bool:
        return name in self.columns or name in self.episode

    @property
    def valid(self) -> Tensor:
        """[E] bool: episodes whose verdict is a value (all of them where nothing says otherwise)."""
        return self.episode["valid"] if "valid" in self.episode else torch.ones(len(self), dtype=torch.bool)

    def spread(self, per_episode: Tensor) -> Tensor:
        """[E, …] → [D, …]: each decision gets its episode's value."""
        return per_episode[self.owner]

    def total(self, per_decision: Tensor) -> Tensor:
        """[D, …] → [E, …]: sums over each episode."""
        out = per_decision.new_zeros((len(self), *per_decision.shape[1:]))
        return out.index_add_(0, self.owner, per_decision)

    @cached_property
    def returns(self) -> Tensor:
        """[E] the undiscounted sum of each episode's rewards."""
        return self.total(self.columns["reward"])

    def with_columns(self, **columns: Tensor) -> Batch:
        """The same record with these per-decision columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    def with_episode(self, **values: Tensor) -> Batch:
        """The same record with these per-episode values added or replaced."""
        return replace(self, episode={**self.episode, **values})

    def select(self, which: Tensor) -> Batch:
        """The episodes named by a bool mask [E] or by indices, in that order."""
        index = which.nonzero().squeeze(-1) if which.dtype == torch.bool else which
        lengths = self.lengths[index]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        start = torch.repeat_interleave(self.offsets[:-1][index] - offsets[:-1], lengths)
        rows = start + torch.arange(int(offsets[-1]))
        chosen = index.tolist()
        return Batch(
            offsets,
            {name: column[rows] for name, column in self.columns.items()},
            {name: values[index] for name, values in self.episode.items()},
            {name: [values[i] for i in chosen] for name, values in self.notes.items()},
        )

    def tree(self) -> dict[str, Any]:
        """The record as a state tree, from which `Batch(**tree)` makes it again."""
        notes = {name: list(values) for name, values in self.notes.items()}
        tensors = {"columns": dict(self.columns), "episode": dict(self.episode)}
        return {"offsets": self.offsets, **tensors, "notes": notes}

    def talk(self, episode: int) -> list[str]:
        """What was said and replied in an episode of texts, in turn; what it went on from is part of it."""
        text = self.notes["talk"][episode] if "talk" in self.notes else ""
        found: list[str] = json.loads(text) if text else [self.notes["answer"][episode]]
        return found

    def groups(self) -> Iterator[tuple[int, Batch]]:
        """Each group's id and its episodes."""
        for group in sorted(set(self.episode["group"].tolist())):
            yield int(group), self.select(self.episode["group"] == group)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """One record of several, in order; all must have the same columns. Raises ValueError if they differ."""
    first = batches[0]
    for other in batches[1:]:
        if set(other.columns) != set(first.columns) or set(other.episode) != set(first.episode):
            raise ValueError("batches of different columns cannot be joined")
    lengths = torch.cat([batch.lengths for batch in batches])
    return Batch(
        torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        {name: torch.cat([batch.columns[name] for batch in batches]) for name in first.columns},
        {name: torch.cat([batch.episode[name] for batch in batches]) for name in first.episode},
        {name: [value for batch in batches for value in batch.notes[name]] for name in first.notes},
    )


def from_episodes(
    columns: Mapping[str, Sequence[Tensor]],
    episode: Mapping[str, Tensor],
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Batch:
    """A record from ragged lists: each column is one tensor per episode, all of that episode's length."""
    lengths = torch.tensor([len(part) for part in next(iter(columns.values()))])
    return Batch(
        torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        {name: torch.cat(list(parts)) for name, parts in columns.items()},
        dict(episode),
        dict(notes or {}),
    )
