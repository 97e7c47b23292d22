"""Several networks of the same sizes run as one: critics of actions, and (one alone) actors.

Forward and backward are written out, since at 256 rows of 256 numbers it counts how often memory is gone through: one
member after another, so that its numbers stay in the processor's cache; ReLU and its mask in place; and no gradient
that nobody asked for.
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


class Feedforward(torch.autograd.Function):
    """[S, …] inputs side by side → [S, N, outputs] of N networks with ReLU between layers.

    parts: how many inputs there are. tensors: those, then the layers' weights [N, wide, narrow], then their biases
    [N, 1, narrow]. Not differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, parts: int, *tensors: Tensor) -> Tensor:
        depth = (len(tensors) - parts) // 2
        inputs = torch.cat(tensors[:parts], -1) if parts > 1 else tensors[0]
        weights, biases = tensors[parts:-depth], tensors[-depth:]
        hidden, found = [], []
        for member in range(len(weights[0])):
            out = inputs
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                out = torch.addmm(bias[member], out, weight[member]).relu_()
                hidden.append(out)
            found.append(torch.addmm(biases[-1][member], out, weights[-1][member]))
        ctx.widths = [part.shape[-1] for part in tensors[:parts]]
        ctx.save_for_backward(inputs, *weights, *hidden)
        return torch.stack(found, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts, (inputs, *saved) = len(ctx.widths), ctx.saved_tensors
        depth = (len(ctx.needs_input_grad) - 1 - parts) // 2
        weights, hidden = saved[:depth], saved[depth:]
        trained = ctx.needs_input_grad[-1]
        of_weights = [torch.empty_like(w) for w in weights if trained]
        of_biases = [w.new_empty(len(w), 1, w.shape[-1]) for w in weights if trained]
        of_inputs: list[Tensor | None] = [None] * parts
        for member in range(len(weights[0])):
            values = [inputs, *hidden[member * (depth - 1) : (member + 1) * (depth - 1)]]
            here = gradient[:, member].contiguous()
            # behind a minimum over members, each row has a gradient in one of them only
            heard = None if trained else here.any(-1).nonzero().squeeze(-1)
            if heard is not None and len(heard) < FEW * len(here):
                here, *values = (each.index_select(0, heard) for each in (here, *values))
            else:
                heard = None
            for layer in reversed(range(depth)):
                if layer < depth - 1:
                    masked(here, values[layer + 1], 0, grad_input=here)
                if trained:
                    torch.mm(values[layer].t(), here, out=of_weights[layer][member])
                    torch.sum(here, 0, keepdim=True, out=of_biases[layer][member])
                if layer:
                    here = torch.mm(here, weights[layer][member].t())
            for part, rows in enumerate(weights[0][member].split(ctx.widths)):
                if ctx.needs_input_grad[1 + part]:
                    found = torch.mm(here, rows.t())
                    if heard is not None:
                        found = found.new_zeros(len(inputs), found.shape[-1]).index_copy_(0, heard, found)
                    before = of_inputs[part]
                    of_inputs[part] = found if before is None else before.add_(found)
        return None, *of_inputs, *(of_weights + of_biases or [None] * (2 * depth))


class Networks(nn.Module):
    """N networks of the same sizes, with ReLU between layers, initialised as nn.Linear initialises its own."""

    def __init__(self, members: int, sizes: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for wide, narrow in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(wide)
            self.weights.append(nn.Parameter(torch.empty(members, wide, narrow).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, narrow).uniform_(-bound, bound)))

    def outputs(self, *inputs: Tensor, frozen: bool = False, members: int | None = None) -> Tensor:
        """[S, …] inputs, laid side by side → [S, N, outputs]; of the first `members` only, where given.

        `frozen` lets gradients reach the inputs only.
        """
        # straight from where they are registered: a list of parameters is slow to go through
        layers: list[Any] = [*self.weights._parameters.values(), *self.biases._parameters.values()]
        if frozen:
            layers = [p.detach() for p in layers]
        if members is not None:
            layers = [p[:members] for p in layers]
        if not self.layer_norm:
            return Feedforward.apply(len(inputs), *inputs, *layers)  # type: ignore[no-any-return,no-untyped-call]
        out, depth = torch.cat(inputs, -1).expand(len(layers[0]), -1, -1), len(self.weights)
        for i, (weight, bias) in enumerate(zip(layers[:depth], layers[depth:], strict=True)):
            if i:
                out = functional.relu(functional.layer_norm(out, out.shape[-1:]))
            out = torch.baddbmm(bias, out, weight)
        return out.transpose(0, 1)


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
