"""The language models of the benchmarks: random weights on which a small skeleton is put that decides when texts end.

A text is at each character in one of two moods, and its mood rarely changes; texts end soon in one and late in the
other. Lengths are therefore a mixture of geometric ones, heavier in the tail than one alone, without training. The
skeleton lives in two dimensions of the residual stream that layers do not write: one is constant, the other says the
last character's mood; the head reads both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.arithmetic import Transformer
from benchmarks.sums import Sums
from pilotage.policies.language import TinyLanguageModel

STAY = 4.0  # log-odds of a character of the same mood over one of the other
END_SOON, END_LATE = 1 / 16, 1 / 96  # chances of an end after each character
NEVER = -30.0
QUIET = 2.5


@dataclass(frozen=True)
class Size:
    """A model's shape, with 4 heads."""

    hidden: int
    layers: int

    def shape(self, vocabulary: int) -> Transformer:
        """What its arithmetic is."""
        return Transformer(self.hidden, self.layers, 4 * self.hidden, vocabulary)


SIZES = {"0.14M": Size(64, 2), "1M": Size(128, 4)}


def make(size: str, *, ends: bool = True) -> TinyLanguageModel:
    """The model of a size; without `ends`, one whose texts never end by themselves. The same at every call."""
    chosen, world = SIZES[size], Sums()
    policy = TinyLanguageModel(world.observation, world.action, hidden=chosen.hidden, layers=chosen.layers, seed=0)
    specials, first = (0, 1), 3
    model, end = policy.model, policy.end_token
    count = policy.tokenizer.size
    mood = torch.tensor([-1.0, 1.0]).repeat(count)[:count]
    mood[:first] = 0.0
    with torch.no_grad():
        trunk = model.model
        trunk.embed_tokens.weight[:, 0] = 1.0
        trunk.embed_tokens.weight[:, 1] = mood
        # norms divide by it, so that the head says little after a prompt: few empty texts, and either mood
        trunk.embed_tokens.weight[policy.tokenizer.separator, 2] = QUIET
        for layer in trunk.layers:
            layer.self_attn.o_proj.weight[:2] = 0.0
            layer.mlp.down_proj.weight[:2] = 0.0
        height = math.sqrt(chosen.hidden / 2)  # what the last norm makes of the two dimensions, about
        head = model.lm_head.weight
        head[:, 0], head[:, 1] = 0.0, mood * STAY / 2 / height
        head[specials, 0] = NEVER / height
        half = (count - first) / 2
        others = half * (math.exp(STAY / 2) + math.exp(-STAY / 2))
        soon, late = (math.log(chance / (1 - chance) * others) for chance in (END_SOON, END_LATE))
        head[end, 0] = (soon + late) / 2 / height if ends else NEVER / height
        head[end, 1] = (soon - late) / 2 / height
    return policy


def to_folder(size: str, folder: Path, *, ends: bool = True) -> Path:
    """The model as a Hugging Face folder, which both sides read."""
    make(size, ends=ends).to_folder(folder)
    return folder
