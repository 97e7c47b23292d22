"""Generation with Llama-like weights: see `generate.Engine`, and `policies.llama` for what is run.

The past has two parts. What was read stands once for each prompt, in blocks of like length, and all rows of a prompt
attend to it in one product (Juravsky et al. 2024, Hydragen). What was written is each row's own, a column for each
step. Softmax over both is the two softmaxes weighted by their sums, which is exact. Where the past is small, the few
more operations cost more than they spare: then what was read is copied to the rows' own columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.policies.llama import attention, fused, network, rotated_heads, scaled
from pilotage.policies.packing import buckets, shared

# Costs, in numbers of keys that a row attends to alone (one head's key of 16 is 16): 0.3 ns each on one thread, product
# with the query, softmax and product with the values together. A small operation takes 4 µs, and a block six of them.
FOR_A_ROW = 1 / 3  # a number, where all rows of a prompt attend to it in one product
FOR_A_PROMPT = 1 / 2  # the number's way from memory, once for all of them
FOR_A_BLOCK = 80_000
FOR_PARTS = 2  # blocks' worth of combining two parts
PLAIN_BELOW = 400  # multiply-adds; torch works out smaller products of a batch in a plain loop, four times as slowly
KEEP_PROMPTS_ABOVE = 0.8  # a block drops prompts without a row once fewer than this share of them have one


@dataclass
class Block:
    """What was read of P prompts: keys [layers, P, k, d, W], values [layers, P, k, W, d].

    mask: [P · k, 1, W], -inf beyond each prompt; None where all fill the block. most: rows of a prompt, at most.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
    most: int

    def __len__(self) -> int:
        return self.keys.shape[1]

    @property
    def width(self) -> int:
        """Columns."""
        return self.keys.shape[-1]

    def keep(self, prompts: Tensor) -> None:
        """Goes on with these prompts, in the memory at hand."""
        if self.mask is not None:
            self.mask = self.mask.view(len(self), -1, 1, self.width)[prompts].flatten(0, 1)
        self.keys, self.values = chosen(self.keys, prompts), chosen(self.values, prompts)


class LlamaEngine:
    """Generation with preallocated caches; see `generate.Engine`.

    The rows' own keys [layers, n, k, d, columns] lie transposed, which makes the product with one query fast; values
    [layers, n, k, columns, d]. At least so many columns are attended to that products are fast. Where prompts of
    different length were copied there, or columns are not written yet, mask [n or 1, columns] is -inf at those that are
    not a row's. prompt [n]: which of the blocks' prompts a row goes on from.
    """

    def __init__(self, model: Any, context: int) -> None:
        self.weights = fused(model, context, merge=True)
        self.blocks: list[Block] = []
        self.keys = self.values = self.position = self.prompt = self.seats = self.places = torch.empty(0)
        self.mask: Tensor | None = None
        self.used = self.room = self.least = 0

    # ---- reading

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int, repeats: Tensor) -> Tensor:
        weights, order = self.weights, lengths.argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        self.prompt, self.position = rank.repeat_interleave(repeats), lengths.repeat_interleave(repeats)
        self.mask, self.used, self.room = None, 0, room
        self.blocks, last = [], torch.empty(len(order), weights.embedding.shape[1])
        for runs in self._planned(lengths, repeats):
            self.blocks.append(self._block([int(lengths[rows[0]]) for rows in runs], lengths[torch.cat(runs)]))
            start = 0
            for rows in runs:  # so that short prompts are not read at the width of the longest
                width = int(lengths[rows[0]])
                last[rows] = self._read(prompts[rows, :width], lengths[rows], self.blocks[-1], start)
                start += len(rows)
        self._settle()
        if self.blocks:
            self._make(0)
        return self._head(last).repeat_interleave(repeats, 0)

    def _planned(self, lengths: Tensor, repeats: Tensor) -> list[list[Tensor]]:
        """Prompts of like length, as `buckets` has them, put together to blocks as long as that costs less."""
        found: list[list[Tensor]] = []
        size, width, most = 0, 0, 0
        for rows in buckets(lengths):
            new = len(rows), int(lengths[rows[0]]), int(repeats[rows].max())
            both = size + new[0], width, max(most, new[2])
            if found and self._cost(*both) <= self._cost(size, width, most) + self._cost(*new):
                found[-1].append(rows)
                size, width, most = both
            else:
                found.append([rows])
                size, width, most = new
        return found

    def _cost(self, prompts: int, width: int, most: int) -> float:
        """Of attending to a block of so many prompts, each with up to so many rows."""
        columns = prompts * width * (most * FOR_A_ROW + FOR_A_PROMPT)
        return columns * self.weights.heads * self.weights.size + FOR_A_BLOCK

    def _block(self, widths: list[int], lengths: Tensor) -> Block:
        """Room for what will be read of prompts of these lengths, longest first, in runs of these widths."""
        weights, count = self.weights, len(lengths)
        make = torch.empty if widths[0] == widths[-1] else torch.zeros  # what is masked has to be finite
        keys = make(len(weights.layers), count, weights.key_heads, weights.size, widths[0])
        values = make(len(weights.layers), count, weights.key_heads, widths[0], weights.size)
        mask = None
        if int(lengths[-1]) < widths[0]:
            beyond = torch.arange(widths[0]) >= lengths.repeat_interleave(weights.key_heads).view(-1, 1, 1)
            mask = torch.zeros(beyond.shape).masked_fill_(beyond, -torch.inf)
        return Block(keys, values, mask, 0)

    def _read(self, prompts: Tensor, lengths: Tensor, block: Block, start: int) -> Tensor:
        """Keeps the past of these prompts in a block, from its prompt `start`; the hidden states [m, H] of their last
        tokens."""
        weights, (count, width) = self.weights, prompts.shape
        alike = shared(prompts, lengths)  # beginnings that are the same are read once
        x = functional.embedding(prompts.flatten() if alike is None else alike[0].tokens, weights.embedding)
        turns = weights.turns[:width].unsqueeze(-2)
        for layer, keys, values in zip(weights.layers, block.keys, block.values, strict=True):
            mixed = layer.qkv(scaled(x, weights.floor))
            if alike is None:
                mixed = mixed.view(count, width, -1)
            else:
                mixed = functional.embedding(alike[0].rectangles[0].index, mixed)
            query, key, value = rotated_heads(mixed, layer, weights, turns)
            keys[start : start + count, ..., :width] = key.permute(0, 2, 3, 1)
            values[start : start + count, :, :width] = value.transpose(1, 2)
            attended = attention(query, key, value).flatten(0, 1)
            if alike is not None:
                attended = attended.index_select(0, alike[1])
            x = network(layer.output(attended, onto=x), layer, weights.floor)
        return x[torch.arange(count) * width + lengths - 1 if alike is None else alike[0].keep]

    # ---- rows and their pasts

    def _make(self, width: int) -> None:
        """Room for each row's own columns, as many as were read of the longest and will be written."""
        weights, n, columns = self.weights, len(self.prompt), width + self.room
        self.keys = torch.empty(len(weights.layers), n, weights.key_heads, weights.size, columns)
        self.values = torch.empty(len(weights.layers), n, weights.key_heads, columns, weights.size)
        self.mask = None
        self.least = -(-PLAIN_BELOW * weights.key_heads // (weights.heads * weights.size))
        if columns < self.least:  # few steps: padding would not pay
            self.least = 0
        elif width < self.least:
            waiting = slice(width, self.least)
            self.keys[..., waiting], self.values[..., waiting, :] = 0.0, 0.0  # what is masked has to be finite
            self.mask = torch.zeros(1, columns)
            self.mask[:, waiting] = -torch.inf

    def _settle(self) -> None:
        """Seats rows beside the others of their prompt, or copies to each what was read, whichever costs less."""
        sizes = [len(block) for block in self.blocks]
        counts = torch.split(self.prompt.bincount(minlength=sum(sizes)), sizes)
        kept, blocks = [], []
        for block, count in zip(self.blocks, counts, strict=True):
            block.most = int(count.max())
            live = count > 0
            if int(live.sum()) < KEEP_PROMPTS_ABOVE * len(block):
                if block.most:
                    block.keep(live.nonzero().squeeze(-1))
            else:
                live = torch.ones_like(live)
            kept.append(live)
            blocks += [block] if block.most else []
        self.blocks = blocks
        self.prompt = (torch.cat(kept).cumsum(0) - 1)[self.prompt]
        apart = sum(self._cost(len(block), block.width, block.most) for block in blocks) + FOR_PARTS * FOR_A_BLOCK
        width = max(block.width for block in blocks)
        if apart < len(self.prompt) * width * self.weights.heads * self.weights.size:
            self._seat()
        else:
            self._copy(width)

    def _seat(self) -> None:
        """seats: the row's heads [n · k] that each place of all blocks, [P, k, most] one after the other, asks for
        (any, where no row sits); places: where each of the row's heads sits."""
        heads, most = self.weights.key_heads, torch.tensor([block.most for block in self.blocks])
        most = most.repeat_interleave(torch.tensor([len(block) for block in self.blocks]))
        before = (most.cumsum(0) - most) * heads
        order = self.prompt.argsort(stable=True)
        sitting = self.prompt[order]
        count = sitting.bincount(minlength=len(most))
        number = torch.empty_like(order)
        number[order] = torch.arange(len(order)) - (count.cumsum(0) - count)[sitting]
        first = before[self.prompt] + number
        self.places = (first.unsqueeze(-1) + most[self.prompt].unsqueeze(-1) * torch.arange(heads)).flatten()
        self.seats = torch.zeros(int(most.sum()) * heads, dtype=torch.long)
        self.seats[self.places] = torch.arange(len(self.places))

    def _copy(self, width: int) -> None:
        """Copies what was read to the rows' own columns, before what they have written."""
        keys, values = self.keys, self.values
        self._make(width)
        if len(self.blocks) > 1:  # what is masked has to be finite
            self.keys[..., :width], self.values[..., :width, :] = 0.0, 0.0
        length, columns = (self.position - self.used).unsqueeze(-1), torch.arange(self.keys.shape[-1])
        beyond = (columns >= length) & (columns < width)
        if bool(beyond.any()):
            mask = torch.zeros(1, len(columns)) if self.mask is None else self.mask
            self.mask = mask.masked_fill(beyond, -torch.inf)
        start = 0
        for block in self.blocks:
            rows = ((self.prompt >= start) & (self.prompt < start + len(block))).nonzero().squeeze(-1)
            whole = slice(None) if len(rows) == len(self.prompt) else rows
            for layer in range(len(self.keys)):
                self.keys[layer, whole, ..., : block.width] = block.keys[layer, self.prompt[rows] - start]
                self.values[layer, whole, :, : block.width] = block.values[layer, self.prompt[rows] - start]
            start += len(block)
        if self.used:
            written = slice(width, width + self.used)
            self.keys[..., written], self.values[..., written, :] = keys[..., : self.used], values[..., : self.used, :]
            if self.mask is not None:
                self.mask[:, written] = 0.0
        self.blocks, self.used = [], width + self.used

    def select(self, rows: Tensor) -> None:
        self.keys = chosen(self.keys, rows, self.used, -1)
        self.values = chosen(self.values, rows, self.used, -2)
        self.position, self.prompt = self.position[rows], self.prompt[rows]
        if self.mask is not None and len(self.mask) > 1:
            self.mask = self.mask[rows]
        if self.blocks:
            self._settle()

    # ---- writing

    def step(self, tokens: Tensor) -> Tensor:
        weights, column = self.weights, self.used
        self.used += 1
        attended_to = max(self.used, self.least)
        if self.mask is not None and column < self.least:
            self.mask[:, column] = 0.0
            if self.used == self.least and not bool(self.mask.any()):
                self.mask = None
        x = functional.embedding(tokens, weights.embedding)
        turns = weights.turns.index_select(0, self.position).unsqueeze(-2)
        for number, (layer, keys, values) in enumerate(zip(weights.layers, self.keys, self.values, strict=True)):
            mixed = layer.qkv(scaled(x, weights.floor))
            query, keys[..., column], values[:, :, column] = rotated_heads(mixed, layer, weights, turns)
            # the heads that share a key head stand where positions usually do
            grouped = query.reshape(len(x), weights.key_heads, -1, weights.size) * weights.size**-0.5
            heights = grouped @ keys[..., :attended_to]
            if self.mask is not None:
                heights += self.mask[:, None, None, :attended_to]
            shares = heights.softmax(-1)
            attended = shares @ values[:, :, :attended_to]
            if self.blocks:
                read, total = self._attend_to_read(number, grouped.flatten(0, 1))
                more = total.view(heights.shape[:-1]) - log_total(heights, shares)
                attended = attended.lerp(read.view_as(attended), more.sigmoid_().unsqueeze(-1))
            x = network(layer.output(attended.flatten(1), onto=x), layer, weights.floor)
        self.position = self.position + 1
        return self._head(x)

    def _attend_to_read(self, layer: int, query: Tensor) -> tuple[Tensor, Tensor]:
        """What queries [n · k, g, d] find in what was read, and their log-sums [n · k, g] there."""
        size, found, tops, peaks, start = query.shape[-1], [], [], [], 0
        asked = query.flatten(1).index_select(0, self.seats)
        for block in self.blocks:
            keys, values = block.keys[layer].flatten(0, 1), block.values[layer].flatten(0, 1)
            end = start + len(keys) * block.most
            together = asked[start:end].view(len(keys), -1, size)
            start = end
            heights = together @ keys if block.mask is None else torch.baddbmm(block.mask, together, keys)
            shares = heights.softmax(-1)
            found.append((shares @ values).view(-1, asked.shape[1]))
            tops.append(heights.amax(-1).view(-1, query.shape[1]))
            peaks.append(shares.amax(-1).view(-1, query.shape[1]))
        totals = torch.cat(tops) - torch.cat(peaks).log_()
        return torch.cat(found).index_select(0, self.places), totals.index_select(0, self.places)

    def _head(self, x: Tensor) -> Tensor:
        assert self.weights.head is not None  # noqa: S101
        return functional.linear(scaled(x, self.weights.floor) * self.weights.norm, self.weights.head)


def log_total(heights: Tensor, shares: Tensor) -> Tensor:
    """The log of the sum of exponentials of heights […, columns], whose softmax is `shares`; logsumexp is slower."""
    return heights.amax(-1) - shares.amax(-1).log_()


def chosen(past: Tensor, rows: Tensor, used: int | None = None, along: int = -1) -> Tensor:
    """past [layers, n, …] of these rows, its first `used` columns along a dimension: into the memory at hand where that
    is enough, for fresh pages cost more than the copy."""
    fits = len(rows) <= past.shape[1]
    found = past[:, : len(rows)] if fits else past.new_zeros(past.shape[0], len(rows), *past.shape[2:])
    for new, old in zip(found, past, strict=True):
        columns = old.shape[along] if used is None else used
        new.narrow(along, 0, columns).copy_(old.narrow(along, 0, columns)[rows])
    return found
