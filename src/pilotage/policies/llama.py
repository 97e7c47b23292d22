"""Llama, Qwen2 and Qwen3 by hand, on the weights of a transformers module: fewer and larger operations.

Query, key and value are one product, gate and up another, and the weights of the norms before them are folded in.
Rotation pairs are made neighbours by permuting the rows of the query and key weights (their inner product does not
change), so that a rotation is one complex multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.policies.packing import Packing, Rectangle

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROTATIONS = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Layer:
    """Weights of one layer; H hidden, h heads, k key heads, d head size, M intermediate.

    qkv [(h + 2k)d, H]; qk_norm [h + k, d] or None; output [H, hd]; gate_up [2M, H]; down [H, M].
    """

    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Tensor | None
    output: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Weights:
    """All weights of a model; `head` is None for a trunk without one. `turns` [context, d / 2] complex rotations."""

    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Tensor | None
    turns: Tensor
    heads: int
    key_heads: int
    size: int
    eps: float


def supports(config: Any) -> bool:
    """Whether a transformers config describes a model that is written out here."""
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in ARCHITECTURES
        and config.hidden_act == "silu"
        and rotation in ROTATIONS
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "mlp_bias", False)
        and config.dtype in (None, torch.float32)
    )


def matrix(linear: Any) -> Tensor:
    """The weight of a linear layer, low-rank adapters added."""
    if not hasattr(linear, "base_layer"):
        return linear.weight  # type: ignore[no-any-return]
    weight: Tensor = linear.base_layer.weight
    for name in linear.active_adapters:
        weight = weight + linear.get_delta_weight(name)
    return weight


def paired(rows: Tensor, size: int) -> Tensor:
    """[heads · d, …] with the two halves of each head interleaved: a rotation's pair become neighbours."""
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def fused_layer(layer: Any, heads: int, key_heads: int, size: int) -> Layer:
    """One transformers layer, fused; differentiable to its parameters."""
    attention, network = layer.self_attn, layer.mlp
    three = (attention.q_proj, attention.k_proj, attention.v_proj)
    query, key, value = (matrix(linear) for linear in three)
    bias, norm = None, None
    if getattr(three[0], "bias", None) is not None:
        bias = torch.cat([paired(three[0].bias, size), paired(three[1].bias, size), three[2].bias])
    if hasattr(attention, "q_norm"):
        both = torch.cat([attention.q_norm.weight.expand(heads, -1), attention.k_norm.weight.expand(key_heads, -1)])
        norm = paired(both.flatten(), size).view_as(both)
    return Layer(
        qkv=torch.cat([paired(query, size), paired(key, size), value]) * layer.input_layernorm.weight,
        qkv_bias=bias,
        qk_norm=norm,
        output=matrix(attention.o_proj),
        gate_up=torch.cat([matrix(network.gate_proj), matrix(network.up_proj)]) * layer.post_attention_layernorm.weight,
        down=matrix(network.down_proj),
    )


def fused(model: Any, length: int) -> Weights:
    """The weights of a transformers model (with or without a head) for up to `length` positions."""
    trunk, config = model.base_model, model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    head = model.get_output_embeddings()
    with torch.no_grad():
        angles = torch.outer(torch.arange(length, dtype=torch.float32), trunk.rotary_emb.inv_freq)
        turns = torch.polar(torch.full_like(angles, trunk.rotary_emb.attention_scaling), angles)
    return Weights(
        embedding=trunk.embed_tokens.weight,
        layers=[fused_layer(layer, heads, key_heads, size) for layer in trunk.layers],
        norm=trunk.norm.weight,
        head=None if head is None else head.weight,
        turns=turns,
        heads=heads,
        key_heads=key_heads,
        size=size,
        eps=config.rms_norm_eps,
    )


class _Scaled(torch.autograd.Function):
    """Root-mean-square norm without a weight; the gradient by hand takes half the time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = (gradients[0] * y).sum(-1, keepdim=True).div_(-y.shape[-1])
        return torch.addcmul(gradients[0], y, along).mul_(scale), None


def scaled(x: Tensor, eps: float) -> Tensor:
    """x over its root mean square in the last dimension."""
    out: Tensor = _Scaled.apply(x, eps)  # type: ignore[no-untyped-call]
    return out


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """x […, d] with each neighbouring pair turned by turns […, d / 2]."""
    return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turns).flatten(-2)


def rotated_heads(mixed: Tensor, layer: Layer, weights: Weights, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From mixed […, (h + 2k)d]: queries […, h, d], keys and values […, k, d], turned by turns […, 1, d / 2]."""
    both = weights.heads + weights.key_heads
    together, value = torch.tensor_split(mixed.view(*mixed.shape[:-1], -1, weights.size), (both,), dim=-2)
    if layer.qk_norm is not None:
        together = scaled(together, weights.eps) * layer.qk_norm
    query, key = torch.tensor_split(rotated(together, turns), (weights.heads,), dim=-2)
    return query, key, value


def network(x: Tensor, layer: Layer, eps: float) -> Tensor:
    """x [m, H] plus the gated network's output."""
    gate, up = functional.linear(scaled(x, eps), layer.gate_up).chunk(2, dim=-1)
    return torch.addmm(x, functional.silu(gate) * up, layer.down.T)


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of each position to those up to it, [n, T, h · d]."""
    out = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        is_causal=True,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2).flatten(2)


def attend(mixed: Tensor, rectangle: Rectangle, layer: Layer, weights: Weights) -> Tensor:
    """What attention gives the tokens that a rectangle owns, from mixed [N, (h + 2k)d] of all tokens."""
    turns = weights.turns[: rectangle.index.shape[1]].unsqueeze(-2)
    out = causal(*rotated_heads(functional.embedding(rectangle.index, mixed), layer, weights, turns)).flatten(0, 1)
    return out if rectangle.own is None else out.index_select(0, rectangle.own)


def hidden(weights: Weights, packing: Packing) -> Tensor:
    """Normed hidden states [S, H] of the tokens a packing keeps; the last layer computes no others."""
    x = functional.embedding(packing.tokens, weights.embedding)
    for layer in weights.layers:
        mixed = functional.linear(scaled(x, weights.eps), layer.qkv, layer.qkv_bias)
        attended = torch.cat([attend(mixed, rectangle, layer, weights) for rectangle in packing.rectangles])
        if layer is weights.layers[-1]:
            attended, x = attended.index_select(0, packing.keep), x.index_select(0, packing.keep)
        x = network(torch.addmm(x, attended, layer.output.T), layer, weights.eps)
    return scaled(x, weights.eps) * weights.norm


class LlamaEngine:
    """Generation with a preallocated cache, [layers, 2, n, k, columns, d]; see `generate.Engine`."""

    def __init__(self, model: Any, context: int) -> None:
        self.weights = fused(model, context)
        self.cache = torch.empty(0)
        self.used = 0
        self.position = torch.empty(0)
        self.mask: Tensor | None = None  # [n, columns] 0 or -inf, where prompts differ in length

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int) -> Tensor:
        weights = self.weights
        n, self.used = prompts.shape
        columns = self.used + room
        self.cache = torch.empty(len(weights.layers), 2, n, weights.key_heads, columns, weights.size)
        self.position = lengths.clone()
        if int(lengths.min()) < self.used:
            column = torch.arange(columns)
            between = (column >= lengths.unsqueeze(-1)) & (column < self.used)
            self.mask = torch.zeros(n, columns).masked_fill_(between, -torch.inf)
        x = functional.embedding(prompts, weights.embedding)
        turns = weights.turns[: self.used].unsqueeze(-2)
        for layer, (keys, values) in zip(weights.layers, self.cache, strict=True):
            mixed = functional.linear(scaled(x, weights.eps), layer.qkv, layer.qkv_bias)
            query, key, value = rotated_heads(mixed, layer, weights, turns)
            keys[:, :, : self.used] = key.transpose(1, 2)
            values[:, :, : self.used] = value.transpose(1, 2)
            flat = torch.addmm(x.flatten(0, 1), causal(query, key, value).flatten(0, 1), layer.output.T)
            x = network(flat, layer, weights.eps).view(x.shape)
        return self._head(x[torch.arange(n), lengths - 1])

    def select(self, rows: Tensor) -> None:
        old = self.cache
        self.cache = old.new_empty(*old.shape[:2], len(rows), *old.shape[3:])
        self.cache[..., : self.used, :] = old[:, :, rows, :, : self.used]
        self.position = self.position[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def step(self, tokens: Tensor) -> Tensor:
        weights, column = self.weights, self.used
        self.used += 1
        x = functional.embedding(tokens, weights.embedding)
        turns = weights.turns[self.position].unsqueeze(-2)
        mask = None if self.mask is None else self.mask[:, None, None, : self.used]
        for layer, (keys, values) in zip(weights.layers, self.cache, strict=True):
            mixed = functional.linear(scaled(x, weights.eps), layer.qkv, layer.qkv_bias)
            query, keys[:, :, column], values[:, :, column] = rotated_heads(mixed, layer, weights, turns)
            # the heads that share a key head stand where positions usually do
            grouped = query.view(len(x), weights.key_heads, -1, weights.size)
            attended = functional.scaled_dot_product_attention(
                grouped, keys[:, :, : self.used], values[:, :, : self.used], attn_mask=mask
            )
            x = network(torch.addmm(x, attended.flatten(1), layer.output.T), layer, weights.eps)
        self.position = self.position + 1
        return self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        assert self.weights.head is not None  # noqa: S101
        return functional.linear(scaled(x, self.weights.eps) * self.weights.norm, self.weights.head)
