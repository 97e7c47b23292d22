"""Networks that denoise: a perceptron over everything at once, and a causal transformer over observations and actions.

Both take noisy samples [n, …], the time [n] (or [1], the same for all) that a process tells of the level, and
conditions; both give what the process asks for, in the shape of the sample. No dropout: its draws would have no
address.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 6  # of the features of time: periods from 2 down to 1/16 of its unit


class TimeFeatures(nn.Module):
    """[n] times → [n, 13]: the time itself, and sines and cosines of it."""

    width = 1 + 2 * FREQUENCIES

    def forward(self, time: Tensor) -> Tensor:
        angle = time.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(FREQUENCIES))
        return torch.cat([time.unsqueeze(-1), angle.sin(), angle.cos()], dim=-1)


class MLPDenoiser(nn.Module):
    """A perceptron over the flattened sample, its condition [n, C] and features of the time.

    shape: of one sample. The last layer starts at 0, so that at first the network says 0.
    """

    def __init__(self, shape: Sequence[int], condition: int, hidden: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        sizes = [size + condition + TimeFeatures.width, *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.SiLU()]
        last = nn.Linear(sizes[-1], size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.features = TimeFeatures()
        self.layers = nn.Sequential(*layers, last)

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        count = len(noisy)
        parts = [noisy.reshape(count, -1), self.features(time).expand(count, -1)]
        if condition is not None:
            parts.append(condition)
        said: Tensor = self.layers(torch.cat(parts, dim=-1))
        return said.reshape(count, *self.shape)


class Block(nn.Module):
    """Pre-norm: causal attention over the tokens, then a perceptron of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        rows, length, width = tokens.shape
        mixed = self.mix(self.before(tokens)).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        tokens = tokens + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        found: Tensor = tokens + self.inner(self.between(tokens))
        return found


class CausalDenoiser(nn.Module):
    """A transformer over [time, goal, s_1, a_1, …, s_n, a_n, a_n+1, …, a_W]: what is said of a_t sees nothing after it.

    Inputs: noisy actions [n, W, A], time [n] or [1], observations [n, observed, D] with observed <= W, and a goal
    [n, G, D'] (G = 0: none). s_t and a_t share a learnt position; each goal index has its own; the time has none. The
    observations and the goal are embedded by one map where they have one width. Reuss et al. 2023, arXiv 2304.02532,
    and released code, whose dropout is left out here. Raises ValueError if heads do not divide the width.
    """

    def __init__(
        self,
        window: int,
        observed: int,
        action: int,
        observation: int,
        *,
        goals: int = 0,
        goal: int = 0,
        width: int = 96,
        layers: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if width % heads or not 1 <= observed <= window:
            raise ValueError(f"{heads} heads and a width of {width}, {observed} observations in a window of {window}")
        self.window, self.observed, self.goals = window, observed, goals
        self.told, self.seen, self.moved = nn.Linear(1, width), nn.Linear(observation, width), nn.Linear(action, width)
        self.wanted = self.seen if goal == observation else (nn.Linear(goal, width) if goals else None)
        self.places = nn.Parameter(torch.zeros(window, width))
        self.goal_places = nn.Parameter(torch.zeros(goals, width)) if goals else None
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, action)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        for places in (self.places, self.goal_places):
            if places is not None:
                nn.init.normal_(places, std=0.02)

    def forward(self, noisy: Tensor, time: Tensor, observations: Tensor, goal: Tensor | None = None) -> Tensor:
        count, observed = len(noisy), self.observed
        head = [self.told(time.reshape(-1, 1, 1)).expand(count, 1, -1)]
        if self.wanted is not None and self.goals:
            if goal is None:
                raise ValueError("this network wants a goal")
            head.append(self.wanted(goal) + self.goal_places)
        moves = self.moved(noisy) + self.places
        seen = self.seen(observations) + self.places[:observed]
        paired = torch.stack([seen, moves[:, :observed]], dim=2).flatten(1, 2)
        start = sum(part.shape[1] for part in head)
        tokens = self.last(self.blocks(torch.cat([*head, paired, moves[:, observed:]], dim=1)))[:, start:]
        acting = torch.cat([tokens[:, 1 : 2 * observed : 2], tokens[:, 2 * observed :]], dim=1)
        said: Tensor = self.head(acting)
        return said
