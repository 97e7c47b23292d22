"""Episodes as a sequence model reads them: each token once, and rectangles of like length where rows are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.data.batch import Batch

SHORTEST = 0.75  # of a rectangle's longest row: shorter ones go to the next

# Episodes that share much of what they read are worked out beyond it alone; below these, the operations that it takes
# cost more than it spares.
TAIL_FROM = 0.5  # of an episode's tokens are another's too
TAILS_FROM = 20_000  # places that queries are spared, over all of a packing
TAILS_SHORTEST = 0.5  # as `SHORTEST`, where there are but few queries a row


@dataclass(frozen=True)
class Tails:
    """The ends of a rectangle's rows, where what comes before them is worked out in rows elsewhere.

    index: [n, t] packed token at each place. own: flat places that are not padding; None if all. mask: [n, 1, t, T], 0
    up to the token in its row, -inf beyond.
    """

    index: Tensor
    own: Tensor | None
    mask: Tensor


@dataclass(frozen=True)
class Rectangle:
    """Rows of one bucket, padded on the right (so causality alone keeps padding out).

    index: [n, T] packed token at each place. own: flat places, in order, whose tokens appear here first; None if all.
    tails: the part that needs to be worked out, if not all.
    """

    index: Tensor
    own: Tensor | None
    tails: Tails | None = None


@dataclass(frozen=True)
class Packing:
    """N distinct tokens (a beginning that several episodes share, such as their prompt, counts once), numbered through
    the rectangles in order.

    tokens: [N] ids. columns: [N] how many tokens come before each. keep: [S] packed tokens whose states are wanted.
    """

    tokens: Tensor
    columns: Tensor
    rectangles: list[Rectangle]
    keep: Tensor

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(rectangle.index.shape[1] for rectangle in self.rectangles)


def pack(batch: Batch, wanted: Tensor) -> Packing:
    """The packing of a batch for the states at decisions `wanted` [S]; what an episode has beyond them is left out, and
    episodes that others begin with."""
    offsets, owner = batch.offsets, batch.owner
    column = torch.arange(batch.decisions) - offsets[owner]
    length = torch.zeros(len(batch), dtype=torch.long)
    length.scatter_reduce_(0, owner[wanted], column[wanted] + 1, "amax")
    source = first_of_equal_starts(batch, length)
    past = batch.total((source != torch.arange(batch.decisions)).long())
    tail = with_tails(length, past)
    rank = torch.zeros(batch.decisions, dtype=torch.long)
    count, found = 0, []
    in_rows, in_tails = length.where(~tail & (past < length), 0), length.where(tail, 0)
    for rows in [*buckets(in_rows), *buckets(in_tails, TAILS_SHORTEST)]:
        across = torch.arange(int(length[rows[0]]))
        place = offsets[rows].unsqueeze(-1) + torch.minimum(across, length[rows].unsqueeze(-1) - 1)
        first = (across >= past[rows].unsqueeze(-1)) & (across < length[rows].unsqueeze(-1))
        own = first.flatten().nonzero().squeeze(-1)
        taken = place.flatten()[own]
        rank[taken] = torch.arange(count, count + len(own))
        count += len(own)
        found.append((rows, place, own, taken))
    rectangles = []
    for rows, place, own, _ in found:
        index = rank[source[place]]
        tails = tails_of(index, length[rows], past[rows]) if bool(tail[rows[0]]) else None
        rectangles.append(Rectangle(index, None if len(own) == index.numel() else own, tails))
    every = torch.cat([offsets[:0], *(taken for *_, taken in found)])
    return Packing(batch["action"][every].long(), column[every], rectangles, rank[source[wanted]])


def with_tails(length: Tensor, past: Tensor) -> Tensor:
    """[E] which episodes are worked out only beyond their `past`, the tokens at their beginning that another has."""
    tail = (past < length) & (past >= TAIL_FROM * length)
    return tail & bool((length * past)[tail].sum() >= TAILS_FROM)


def tails_of(index: Tensor, length: Tensor, past: Tensor) -> Tails:
    """The tails of rows [n, T] of these lengths [n], beyond their pasts [n]."""
    column = past.unsqueeze(-1) + torch.arange(int((length - past).max()))
    own = (column < length.unsqueeze(-1)).flatten().nonzero().squeeze(-1)
    column = torch.minimum(column, length.unsqueeze(-1) - 1)
    beyond = torch.arange(index.shape[1]) > column.unsqueeze(-1)
    mask = torch.zeros(beyond.shape).masked_fill_(beyond, -torch.inf).unsqueeze(1)
    return Tails(index.gather(1, column), None if len(own) == column.numel() else own, mask)


def buckets(length: Tensor, shortest: float = SHORTEST) -> Iterator[Tensor]:
    """Episodes with anything to read, longest first, in runs of like length."""
    order = length.argsort(descending=True, stable=True)
    sizes = length[order].tolist()
    start = 0
    for i in range(len(sizes) + 1):
        if i == len(sizes) or sizes[i] < shortest * sizes[start] or sizes[i] == 0:
            if i > start:
                yield order[start:i]
            start = i
            if i == len(sizes) or sizes[i] == 0:
                return


def first_of_equal_starts(batch: Batch, length: Tensor) -> Tensor:
    """[D] the decision that stands for each: the same place in the longest episode (the first of those) that begins
    with the same tokens up to there. To a causal model the two are one. Decisions at or beyond their episode's `length`
    stand for themselves.
    """
    order = length.argsort(descending=True, stable=True)
    ordered = length[order]
    column = torch.arange(int(ordered.sum())) - (ordered.cumsum(0) - ordered).repeat_interleave(ordered)
    read = batch.offsets[order].repeat_interleave(ordered) + column
    source = torch.arange(batch.decisions)
    source[read] = read[equal_starts(batch["action"][read].long(), column)]
    return source


def read_anew(batch: Batch, chosen: Tensor) -> Tensor:
    """[n] tokens of each of these episodes [n] beyond those that the one before it in `chosen` begins with too."""
    starts, lengths = batch.offsets[chosen], batch.lengths[chosen]
    owner = torch.arange(len(chosen)).repeat_interleave(lengths)
    column = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
    before = (owner - 1).clamp(min=0)
    there = starts[before] + torch.minimum(column, lengths[before] - 1)
    action = batch["action"]
    alike = (owner > 0) & (column < lengths[before]) & (action[starts[owner] + column] == action[there])
    return lengths - lengths.scatter_reduce(0, owner[~alike], column[~alike], "amin")


def equal_starts(tokens: Tensor, places: Tensor) -> Tensor:
    """[M] for each of M tokens of sequences one after the other, `places` counted in each from 0: the first token at
    its place in a sequence that is the same up to there."""
    token, place = tokens.numpy(), places.numpy()
    every = np.arange(len(token))
    start = every - place
    before = np.maximum(every - 1, start)  # the first token of a sequence comes after itself
    equal = False
    salt = 0
    while not equal:  # each beginning gets a number; should two have had one number, another salt parts them
        salt += 1
        parts = _mixed(token.astype(np.uint64) + _mixed(place.astype(np.uint64) + np.uint64(salt)))
        sums = parts.cumsum()
        _, first, same = np.unique(sums - (sums - parts)[start], return_index=True, return_inverse=True)
        stand = first[same]
        # proof by induction that what came before is the same too
        equal = bool(
            ((place[stand] == place) & (token[stand] == token) & (stand[before] == stand[before[stand]])).all()
        )
    return torch.from_numpy(stand)


def shared(prompts: Tensor, lengths: Tensor) -> tuple[Packing, Tensor] | None:
    """The packing of prompts [n, T], padded on the right, for the states of their last tokens: one rectangle, and the
    flat places that it owns. None where it would spare less than half of the tokens."""
    read = torch.arange(prompts.shape[1]) < lengths.unsqueeze(-1)
    rows, places = read.nonzero(as_tuple=True)
    tokens = prompts[read]
    stand = equal_starts(tokens, places)
    own = (stand == torch.arange(len(stand))).nonzero().squeeze(-1)
    if 2 * len(own) > prompts.numel():
        return None
    rank = torch.zeros(len(stand), dtype=torch.long)
    rank[own] = torch.arange(len(own))
    index = torch.zeros_like(prompts)
    index[read] = rank[stand]
    last = index[torch.arange(len(prompts)), lengths - 1]
    flat = rows[own] * prompts.shape[1] + places[own]
    return Packing(tokens[own], places[own], [Rectangle(index, flat)], last), flat


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers well mixed, one to one. Steele et al. 2014 (SplitMix64)."""
    found = numbers * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
