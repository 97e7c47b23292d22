"""Generation with Llama-like weights: see `generate.Engine`, and `policies.llama` for what is run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.policies.llama import causal, fused, network, rotated_heads, scaled
from pilotage.policies.packing import buckets, shared


class LlamaEngine:
    """Generation with preallocated caches; see `generate.Engine`.

    keys [layers, n, k, d, columns] lie transposed, which makes the product with one query fast; values
    [layers, n, k, columns, d]. Where prompts differ in length, mask [n, columns] is -inf between a prompt and the
    column at which all rows go on.
    """

    def __init__(self, model: Any, context: int) -> None:
        self.weights = fused(model, context, merge=True)
        self.keys = self.values = self.position = torch.empty(0)
        self.mask: Tensor | None = None
        self.used = 0

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int) -> Tensor:
        weights = self.weights
        n, self.used = prompts.shape
        columns = self.used + room
        # what lies between a prompt and the column at which all go on is masked, and has to be finite for that
        make = torch.empty if int(lengths.min()) == self.used else torch.zeros
        self.keys = make(len(weights.layers), n, weights.key_heads, weights.size, columns)
        self.values = make(len(weights.layers), n, weights.key_heads, columns, weights.size)
        self.position = lengths.clone()
        if int(lengths.min()) < self.used:
            column = torch.arange(columns)
            between = (column >= lengths.unsqueeze(-1)) & (column < self.used)
            self.mask = torch.zeros(n, columns).masked_fill_(between, -torch.inf)
        last = torch.empty(n, weights.embedding.shape[1])
        for rows in buckets(lengths):  # so that short prompts are not read at the width of the longest
            last[rows] = self._read(prompts[rows, : int(lengths[rows[0]])], lengths[rows], rows)
        return self._head(last)

    def _read(self, prompts: Tensor, lengths: Tensor, rows: Tensor) -> Tensor:
        """Keeps the past of these rows; the hidden states [m, H] of their last tokens."""
        weights, (count, width) = self.weights, prompts.shape
        alike = shared(prompts, lengths)  # beginnings that are the same are read once
        x = functional.embedding(prompts.flatten() if alike is None else alike[0].tokens, weights.embedding)
        turns = weights.turns[:width].unsqueeze(-2)
        for layer, keys, values in zip(weights.layers, self.keys, self.values, strict=True):
            mixed = layer.qkv(scaled(x, weights.eps))
            if alike is None:
                mixed = mixed.view(count, width, -1)
            else:
                mixed = functional.embedding(alike[0].rectangles[0].index, mixed)
            query, key, value = rotated_heads(mixed, layer, weights, turns)
            keys[rows, ..., :width] = key.permute(0, 2, 3, 1)
            values[rows, :, :width] = value.transpose(1, 2)
            attended = causal(query, key, value).flatten(0, 1)
            if alike is not None:
                attended = attended.index_select(0, alike[1])
            x = network(layer.output(attended, onto=x), layer, weights.eps)
        return x[torch.arange(count) * width + lengths - 1 if alike is None else alike[0].keep]

    def select(self, rows: Tensor) -> None:
        keys, values = self.keys, self.values
        if len(rows) > keys.shape[1]:
            self.keys = keys.new_empty(keys.shape[0], len(rows), *keys.shape[2:])
            self.values = values.new_empty(values.shape[0], len(rows), *values.shape[2:])
        else:  # into the memory at hand: fresh pages cost more than the copy
            self.keys, self.values = keys[:, : len(rows)], values[:, : len(rows)]
        for layer in range(len(keys)):
            self.keys[layer, ..., : self.used] = keys[layer, ..., : self.used][rows]
            self.values[layer, ..., : self.used, :] = values[layer, ..., : self.used, :][rows]
        self.position = self.position[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def step(self, tokens: Tensor) -> Tensor:
        weights, column = self.weights, self.used
        self.used += 1
        x = functional.embedding(tokens, weights.embedding)
        turns = weights.turns[self.position].unsqueeze(-2)
        for layer, keys, values in zip(weights.layers, self.keys, self.values, strict=True):
            mixed = layer.qkv(scaled(x, weights.eps))
            query, keys[..., column], values[:, :, column] = rotated_heads(mixed, layer, weights, turns)
            # the heads that share a key head stand where positions usually do
            grouped = query.reshape(len(x), weights.key_heads, -1, weights.size) * weights.size**-0.5
            heights = grouped @ keys[..., : self.used]
            if self.mask is not None:
                heights += self.mask[:, None, None, : self.used]
            attended = heights.softmax(-1) @ values[:, :, : self.used]
            x = network(layer.output(attended.flatten(1), onto=x), layer, weights.eps)
        self.position = self.position + 1
        return self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        assert self.weights.head is not None  # noqa: S101
        return functional.linear(scaled(x, self.weights.eps) * self.weights.norm, self.weights.head)
