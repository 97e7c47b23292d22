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


@dataclass(frozen=True)
class Rectangle:
    """Rows of one bucket, padded on the right (so causality alone keeps padding out).

    index: [n, T] packed token at each place. own: flat places, in order, whose tokens appear here first; None if all.
    """

    index: Tensor
    own: Tensor | None


@dataclass(frozen=True)
class Packing:
    """N distinct tokens (a beginning that several episodes share, such as their prompt, counts once), numbered through
    the rectangles in order.

    tokens: [N] ids. keep: [S] packed tokens whose states are wanted.
    """

    tokens: Tensor
    rectangles: list[Rectangle]
    keep: Tensor

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(rectangle.index.shape[1] for rectangle in self.rectangles)


def pack(batch: Batch, wanted: Tensor) -> Packing:
    """The packing of a batch for the states at decisions `wanted` [S]; what an episode has beyond them is left out."""
    offsets, owner = batch.offsets, batch.owner
    column = torch.arange(batch.decisions) - offsets[owner]
    length = torch.zeros(len(batch), dtype=torch.long)
    length.scatter_reduce_(0, owner[wanted], column[wanted] + 1, "amax")
    source = first_of_equal_starts(batch, column, length)
    rank = torch.zeros(batch.decisions, dtype=torch.long)
    count, places = 0, []
    for rows in buckets(length):
        width = int(length[rows[0]])
        across = torch.arange(width)
        place = offsets[rows].unsqueeze(-1) + torch.minimum(across, length[rows].unsqueeze(-1) - 1)
        first = (source[place] == place) & (across < length[rows].unsqueeze(-1))
        own = first.flatten().nonzero().squeeze(-1)
        rank[place.flatten()[own]] = torch.arange(count, count + len(own))
        count += len(own)
        places.append((place, own))
    tokens = torch.zeros(count, dtype=torch.long)
    rectangles = []
    for place, own in places:
        index = rank[source[place]]
        taken = place.flatten()[own]
        tokens[rank[taken]] = batch["action"][taken].long()
        rectangles.append(Rectangle(index, None if len(own) == index.numel() else own))
    return Packing(tokens, rectangles, rank[source[wanted]])


def buckets(length: Tensor) -> Iterator[Tensor]:
    """Episodes with anything to read, longest first, in runs of like length."""
    order = length.argsort(descending=True, stable=True)
    sizes = length[order].tolist()
    start = 0
    for i in range(len(sizes) + 1):
        if i == len(sizes) or sizes[i] < SHORTEST * sizes[start] or sizes[i] == 0:
            if i > start:
                yield order[start:i]
            start = i
            if i == len(sizes) or sizes[i] == 0:
                return


def first_of_equal_starts(batch: Batch, column: Tensor, length: Tensor) -> Tensor:
    """[D] the decision that stands for each: the same place in the first episode that begins with the same tokens up
    to there. To a causal model the two are one. Decisions at or beyond their episode's `length` stand for themselves.
    """
    source = torch.arange(batch.decisions)
    read = (column < length[batch.owner]).nonzero().squeeze(-1)
    source[read] = read[equal_starts(batch["action"][read].long(), column[read])]
    return source


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
    return Packing(tokens[own], [Rectangle(index, flat)], last), flat


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers well mixed, one to one. Steele et al. 2014 (SplitMix64)."""
    found = numbers * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))
