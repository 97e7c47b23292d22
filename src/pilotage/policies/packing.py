"""Episodes as a sequence model reads them: each token once, and rectangles of like length where rows are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
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
    """N distinct tokens (a prompt that several episodes share counts once), numbered through the rectangles in order.

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
    source = _first_of_equal_prompts(batch, column, length)
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


def _first_of_equal_prompts(batch: Batch, column: Tensor, length: Tensor) -> Tensor:
    """[D] the decision that stands for each: itself, or the same place in the first episode with an equal prompt."""
    unsampled = torch.where(batch.sampled, column, batch.lengths[batch.owner])
    prompt = batch.lengths.clone().scatter_reduce_(0, batch.owner, unsampled, "amin")
    numbers = batch["action"].long().numpy()
    known: dict[bytes, int] = {}
    spans = zip(batch.offsets.tolist(), prompt.tolist(), length.tolist(), strict=False)
    stand_in = torch.tensor(
        [known.setdefault(numbers[o : o + size].tobytes(), e) if used else e for e, (o, size, used) in enumerate(spans)]
    )
    shared = torch.minimum(prompt, length[stand_in])[batch.owner]
    shift = (batch.offsets[:-1][stand_in] - batch.offsets[:-1])[batch.owner]
    return torch.arange(batch.decisions) + torch.where(column < shared, shift, 0)
