"""Llama, Qwen2 and Qwen3 by hand, on the weights of a transformers module: fewer and larger operations.

Query, key and value are one product, gate and up another, and the weights of the norms before them are folded in.
Rotation pairs are made neighbours by permuting the rows of the query and key weights (their inner product does not
change), so that a rotation is one complex multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.policies.packing import Packing, Rectangle

ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROTATIONS = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Map:
    """A linear map: weight [out, in], bias [out] or None, and a low-rank part up [out, r] · down [r, in] or None."""

    weight: Tensor
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x [m, in] mapped to [m, out], added to `onto` where that is given."""
        if onto is None:
            out = functional.linear(x, self.weight, self.bias)
        else:
            out = torch.addmm(onto if self.bias is None else onto + self.bias, x, self.weight.T)
        if self.down is None or self.up is None:
            return out
        return torch.addmm(out, functional.linear(x, self.down), self.up.T)


@dataclass(frozen=True)
class Layer:
    """Weights of one layer; H hidden, h heads, k key heads, d head size, M intermediate.

    qkv H → (h + 2k)d; qk_norm [h + k, d] or None; output hd → H; gate_up H → 2M; down M → H.
    """

    qkv: Map
    qk_norm: Tensor | None
    output: Map
    gate_up: Map
    down: Map


@dataclass(frozen=True)
class Weights:
    """All weights of a model; `head` is None for a trunk without one. `turns` [context, d / 2] complex rotations.
    floor: [] the root of what norms add to a mean square."""

    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Tensor | None
    turns: Tensor
    heads: int
    key_heads: int
    size: int
    floor: Tensor


def supports(config: Any) -> bool:
    """Whether a transformers config describes a model that is written out here."""
    rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return (
        config.model_type in ARCHITECTURES
        and config.hidden_act == "silu"
        and rotation in ROTATIONS
        and not getattr(config, "use_sliding_window", False)
        and config.dtype in (None, torch.float32)
    )


def matrix(linear: Any) -> Tensor:
    """The weight of a linear layer, low-rank adapters added."""
    weight: Tensor = plain(linear).weight
    for name in getattr(linear, "active_adapters", ()):
        weight = weight + linear.get_delta_weight(name)
    return weight


def plain(linear: Any) -> Any:
    """The linear layer under its adapters."""
    return getattr(linear, "base_layer", linear)


def mapped(linears: Sequence[Any], merge: bool, gain: Tensor | None = None, pairs: int = 0, size: int = 0) -> Map:
    """Linear layers of one input as one map, after a norm of weight `gain`; the outputs of the first `pairs` are paired
    by heads of `size`. Adapters are merged, or stay a low-rank part."""

    def order(rows: list[Tensor]) -> list[Tensor]:
        return [paired(part, size) if i < pairs else part for i, part in enumerate(rows)]

    weight = torch.cat(order([matrix(linear) if merge else plain(linear).weight for linear in linears]))
    biases = [plain(linear).bias for linear in linears]
    bias = None if biases[0] is None else torch.cat(order(biases))
    down = up = None
    if not merge and hasattr(linears[0], "lora_A"):
        (name,) = linears[0].active_adapters
        down = torch.cat([linear.lora_A[name].weight for linear in linears])
        ups = order([linear.lora_B[name].weight * linear.scaling[name] for linear in linears])
        up = torch.block_diag(*ups)  # type: ignore[no-untyped-call]
        down = down if gain is None else down * gain
    return Map(weight if gain is None else weight * gain, bias, down, up)


def paired(rows: Tensor, size: int) -> Tensor:
    """[heads · d, …] with the two halves of each head interleaved: a rotation's pair become neighbours."""
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def fused_layer(layer: Any, heads: int, key_heads: int, size: int, merge: bool) -> Layer:
    """One transformers layer, fused; differentiable to its parameters."""
    attention, network = layer.self_attn, layer.mlp
    norm = None
    if hasattr(attention, "q_norm"):
        both = torch.cat([attention.q_norm.weight.expand(heads, -1), attention.k_norm.weight.expand(key_heads, -1)])
        norm = paired(both.flatten(), size).view_as(both)
    three = (attention.q_proj, attention.k_proj, attention.v_proj)
    return Layer(
        qkv=mapped(three, merge, layer.input_layernorm.weight, pairs=2, size=size),
        qk_norm=norm,
        output=mapped([attention.o_proj], merge),
        gate_up=mapped([network.gate_proj, network.up_proj], merge, layer.post_attention_layernorm.weight),
        down=mapped([network.down_proj], merge),
    )


def fused(model: Any, length: int, merge: bool = False) -> Weights:
    """The weights of a transformers model (with or without a head) for up to `length` positions; `merge` makes adapters
    part of the weights, which is faster to use and slower to train."""
    trunk, config = model.base_model, model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    head = model.get_output_embeddings()
    with torch.no_grad():
        angles = torch.outer(torch.arange(length, dtype=torch.float32), trunk.rotary_emb.inv_freq)
        turns = torch.polar(torch.full_like(angles, trunk.rotary_emb.attention_scaling), angles)
    return Weights(
        embedding=trunk.embed_tokens.weight,
        layers=[fused_layer(layer, heads, key_heads, size, merge) for layer in trunk.layers],
        norm=trunk.norm.weight,
        head=None if head is None else head.weight,
        turns=turns,
        heads=heads,
        key_heads=key_heads,
        size=size,
        floor=torch.tensor(config.rms_norm_eps**0.5),
    )


def root_mean_square(x: Tensor, floor: Tensor) -> Tensor:
    """[…, 1] the root of x's mean square in the last dimension and floor's square."""
    size: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return size.mul_(x.shape[-1] ** -0.5).hypot_(floor)


class _Scaled(torch.autograd.Function):
    """Root-mean-square norm without a weight; the gradient by hand takes half the time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, floor: Tensor) -> Tensor:
        root = root_mean_square(x, floor)
        y = x / root
        ctx.save_for_backward(y, root)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, root = ctx.saved_tensors
        along = (gradients[0] * y).sum(-1, keepdim=True).div_(-y.shape[-1])
        return torch.addcmul(gradients[0], y, along).div_(root), None


def scaled(x: Tensor, floor: Tensor) -> Tensor:
    """x over its root mean square in the last dimension."""
    if not torch.is_grad_enabled():  # a function of autograd takes as long as its operations, where rows are few
        return x / root_mean_square(x, floor)
    out: Tensor = _Scaled.apply(x, floor)  # type: ignore[no-untyped-call]
    return out


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """x […, d] with each neighbouring pair turned by turns […, d / 2]."""
    return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turns).flatten(-2)


def rotated_heads(mixed: Tensor, layer: Layer, weights: Weights, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From mixed […, (h + 2k)d]: queries […, h, d], keys and values […, k, d], turned by turns […, 1, d / 2]."""
    both = weights.heads + weights.key_heads
    together, value = torch.tensor_split(mixed.view(*mixed.shape[:-1], -1, weights.size), (both,), dim=-2)
    if layer.qk_norm is not None:
        together = scaled(together, weights.floor) * layer.qk_norm
    query, key = torch.tensor_split(rotated(together, turns), (weights.heads,), dim=-2)
    return query, key, value


def network(x: Tensor, layer: Layer, floor: Tensor) -> Tensor:
    """x [m, H] plus the gated network's output."""
    gate, up = layer.gate_up(scaled(x, floor)).chunk(2, dim=-1)
    return layer.down(functional.silu(gate) * up, onto=x)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of queries [n, t, h, d] to keys [n, T, k, d] where a mask [n, 1, t, T] is 0, not -inf; without one, of
    each position to those up to it. Returns [n, t, h · d]."""
    out = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        mask,
        is_causal=mask is None,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, rectangle: Rectangle) -> Tensor:
    """What attention gives the tokens that a rectangle owns, [·, h · d], from queries [N, h, d], keys and values
    [N, k, d] of all tokens."""
    index, tails = rectangle.index, rectangle.tails
    asking, own, mask = (index, rectangle.own, None) if tails is None else (tails.index, tails.own, tails.mask)
    pairs = ((asking, query), (index, key), (index, value))
    query, key, value = (functional.embedding(i, x.flatten(1)).view(*i.shape, *x.shape[1:]) for i, x in pairs)
    out = attention(query, key, value, mask).flatten(0, 1)
    return out if own is None else out.index_select(0, own)


def hidden(weights: Weights, packing: Packing) -> Tensor:
    """Normed hidden states [S, H] of the tokens a packing keeps; the last layer computes no others."""
    x = functional.embedding(packing.tokens, weights.embedding)
    turns = weights.turns[packing.columns].unsqueeze(-2)
    for layer in weights.layers:
        three = rotated_heads(layer.qkv(scaled(x, weights.floor)), layer, weights, turns)
        attended = torch.cat([attend(*three, rectangle) for rectangle in packing.rectangles])
        if layer is weights.layers[-1]:
            attended, x = attended.index_select(0, packing.keep), x.index_select(0, packing.keep)
        x = network(layer.output(attended, onto=x), layer, weights.floor)
    return scaled(x, weights.floor) * weights.norm
