"""Several networks of the same sizes run as one: critics of actions, and (one alone) actors.

Forward and backward are written out, since at 256 rows of 256 numbers it counts how often memory is gone through, and
how often Python is: one member after another, so that its numbers stay in the processor's cache; ReLU and its mask in
place; no gradient that nobody asked for; and all weights in one parameter, which optimisers, clipping and slow copies
go through in one operation each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

masked = torch.ops.aten.threshold_backward.grad_input  # of ReLU, from its output, into a tensor that is there
FEW = 0.75  # of the rows: below it, those without a gradient are left out

Layer = tuple[Tensor, Tensor]  # of one network: weight [wide, narrow] and bias [1, narrow]


def pieces_of(flat: Tensor, members: int, sizes: Sequence[int]) -> list[Tensor]:
    """[P] parameters → by layer, those of all networks: weight [N, wide, narrow], bias [N, 1, narrow]; views."""
    shapes = [(members, rows, narrow) for wide, narrow in itertools.pairwise(sizes) for rows in (wide, 1)]
    cut = flat.split_with_sizes([math.prod(shape) for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(cut, shapes, strict=True)]


def networks_of(flat: Tensor, members: int, sizes: Sequence[int]) -> list[list[Layer]]:
    """[P] parameters → the layers of each network, views."""
    parts = zip(*(piece.unbind() for piece in pieces_of(flat, members, sizes)), strict=True)
    return [list(zip(network[::2], network[1::2], strict=True)) for network in parts]


def run(networks: list[list[Layer]], inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """[S, inputs] → [S, N, outputs] of these networks, and the outputs of their hidden layers, network by network."""
    hidden, found = [], []
    for layers in networks:
        out = inputs
        for weight, bias in layers[:-1]:
            out = torch.addmm(bias, out, weight).relu_()
            hidden.append(out)
        weight, bias = layers[-1]
        found.append(torch.addmm(bias, out, weight))
    return found[0].unsqueeze(1) if len(found) == 1 else torch.stack(found, 1), hidden


class Feedforward(torch.autograd.Function):
    """[S, …] inputs side by side → [S, N, outputs] of N networks.

    flat: the parameters [P] of all networks, that gradients are for; networks: those that are asked, by layer. Not
    differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, whole: Networks, networks: list[list[Layer]], flat: Tensor, *inputs: Tensor) -> Tensor:
        joined = torch.cat(inputs, -1) if len(inputs) > 1 else inputs[0]
        found, hidden = run(networks, joined)
        ctx.whole, ctx.networks, ctx.widths = whole, networks, [part.shape[-1] for part in inputs]
        ctx.save_for_backward(flat, joined, *hidden)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, joined, *hidden = ctx.saved_tensors
        _, _, trained, *heard_by = ctx.needs_input_grad
        whole, depth = ctx.whole, len(ctx.networks[0])
        whole_asked = len(ctx.networks) == whole.members
        of_flat = (torch.empty_like if whole_asked else torch.zeros_like)(flat) if trained else None
        of_networks = networks_of(of_flat, whole.members, whole.sizes) if of_flat is not None else []
        of_inputs: list[Tensor | None] = [None] * len(heard_by)
        for member, layers in enumerate(ctx.networks):
            values = [joined, *hidden[member * (depth - 1) : (member + 1) * (depth - 1)]]
            here = gradient[:, member].contiguous()
            # behind a minimum over members, each row has a gradient in one of them only
            rows = None if trained else here.any(-1).nonzero().squeeze(-1)
            if rows is not None and len(rows) < FEW * len(here):
                here, *values = (each.index_select(0, rows) for each in (here, *values))
            else:
                rows = None
            for layer in reversed(range(depth)):
                if layer < depth - 1:
                    masked(here, values[layer + 1], 0, grad_input=here)
                if trained:
                    of_weight, of_bias = of_networks[member][layer]
                    torch.mm(values[layer].t(), here, out=of_weight)
                    torch.sum(here, 0, keepdim=True, out=of_bias)
                if layer:
                    here = torch.mm(here, layers[layer][0].t())
            if any(heard_by):
                _spread(here, rows, layers[0][0].split(ctx.widths), heard_by, of_inputs, len(joined))
        return None, None, of_flat, *of_inputs


def _spread(
    here: Tensor, rows: Tensor | None, weights: Sequence[Tensor], heard_by: Sequence[bool],
    of_inputs: list[Tensor | None], count: int,
) -> None:  # fmt: skip
    """Adds one member's gradient to that of each input that wants one; `rows`: those it is of, if not all."""
    for part, weight in enumerate(weights):
        if heard_by[part]:
            found = torch.mm(here, weight.t())
            if rows is not None:
                found = found.new_zeros(count, found.shape[-1]).index_copy_(0, rows, found)
            before = of_inputs[part]
            of_inputs[part] = found if before is None else before.add_(found)


class Networks(nn.Module):
    """N networks of the same sizes, with ReLU between layers, initialised as nn.Linear initialises its own.

    All their numbers are one parameter, `flat`. In a state dict they stand by layer: `weights.0` [N, wide, narrow],
    `biases.0` [N, 1, narrow] and so on.
    """

    def __init__(self, members: int, sizes: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.members, self.sizes, self.layer_norm = members, tuple(sizes), layer_norm
        drawn = []
        for wide, narrow in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(wide)
            drawn += [torch.empty(members, rows, narrow).uniform_(-bound, bound) for rows in (wide, 1)]
        self.flat = nn.Parameter(torch.cat([piece.flatten() for piece in drawn]))
        self.made: list[list[Layer]] | None = None
        self.register_state_dict_post_hook(_by_layer)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_layers)  # type: ignore[no-untyped-call]

    @property
    def weights(self) -> list[Tensor]:
        """Of each layer, [N, wide, narrow]; differentiable views."""
        return pieces_of(self.flat, self.members, self.sizes)[::2]

    @property
    def biases(self) -> list[Tensor]:
        """Of each layer, [N, 1, narrow]; differentiable views."""
        return pieces_of(self.flat, self.members, self.sizes)[1::2]

    def _networks(self) -> list[list[Layer]]:
        """The layers of each network; cut anew where the parameters have been moved, or copied."""
        # a view that is alive and begins where the parameters do is one of them
        if self.made is None or self.made[0][0][0].data_ptr() != self.flat.data_ptr():
            with torch.inference_mode(False):  # what acting makes has to serve training too
                self.made = networks_of(self.flat.detach(), self.members, self.sizes)
        return self.made

    def outputs(self, *inputs: Tensor, frozen: bool = False, members: int | None = None) -> Tensor:
        """[S, …] inputs, laid side by side → [S, N, outputs]; of the first `members` only, where given.

        `frozen` lets gradients reach the inputs only.
        """
        flat, members = self.flat.detach() if frozen else self.flat, members or self.members
        if not self.layer_norm:
            networks = self._networks()[:members]
            if not torch.is_grad_enabled():
                return run(networks, torch.cat(inputs, -1) if len(inputs) > 1 else inputs[0])[0]
            return Feedforward.apply(self, networks, flat, *inputs)  # type: ignore[no-any-return,no-untyped-call]
        pieces = [piece[:members] for piece in pieces_of(flat, self.members, self.sizes)]
        out = torch.cat(inputs, -1).expand(members, -1, -1)
        for i, (weight, bias) in enumerate(zip(pieces[::2], pieces[1::2], strict=True)):
            if i:
                out = functional.relu(functional.layer_norm(out, out.shape[-1:]))
            out = torch.baddbmm(bias, out, weight)
        return out.transpose(0, 1)


def _by_layer(net: Networks, state: dict[str, Any], prefix: str, _: Any) -> None:
    """A state dict as it is kept: by layer."""
    flat = state.pop(prefix + "flat").detach()
    for name, piece in zip(_names(net), pieces_of(flat, net.members, net.sizes), strict=True):
        state[prefix + name] = piece


def _from_layers(net: Networks, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Puts together what `_by_layer` took apart, where all of it is there."""
    names = [prefix + name for name in _names(net)]
    shapes = [piece.shape for piece in pieces_of(net.flat.detach(), net.members, net.sizes)]
    if all(name in state and state[name].shape == shape for name, shape in zip(names, shapes, strict=True)):
        state[prefix + "flat"] = torch.cat([state.pop(name).flatten() for name in names])


def _names(net: Networks) -> list[str]:
    return [f"{kind}.{layer}" for layer in range(len(net.sizes) - 1) for kind in ("weights", "biases")]


class Single(Networks):
    """One network: [S, …] inputs, laid side by side → [S, outputs], which `bounded` puts through tanh."""

    def __init__(self, sizes: Sequence[int], *, bounded: bool = False) -> None:
        super().__init__(1, sizes)
        self.bounded = bounded

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.outputs(*inputs).squeeze(1)
        return found.tanh() if self.bounded else found


class Ensemble(Networks):
    """N networks of one output: [S, …] inputs, laid side by side → [S, N].

    `value`: a network of states beside them, where a method needs one.
    """

    def __init__(self, members: int, sizes: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__(members, sizes, layer_norm)
        self.value: Ensemble | None = None

    def forward(self, *inputs: Tensor, frozen: bool = False, members: int | None = None) -> Tensor:
        """See `Networks.outputs`."""
        return self.outputs(*inputs, frozen=frozen, members=members).squeeze(-1)
