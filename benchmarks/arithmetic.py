"""Multiply-adds that work needs at the least, counted by hand from its shapes. Pure.

Matrix products only (activations, norms, the optimiser and the environment are left out), every prompt read once for
its group, nothing padded, nothing computed twice. Both sides of a row are held against the same count.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


def network(sizes: Sequence[int]) -> int:
    """Forward, one row through linear layers of these sizes."""
    return sum(wide * narrow for wide, narrow in itertools.pairwise(sizes))


def network_training(sizes: Sequence[int]) -> int:
    """Forward and backward: the gradient of each weight, and of each layer's input but the first's."""
    return 3 * network(sizes) - sizes[0] * sizes[1]


def actor_critic(inputs: int, outputs: int, hidden: Sequence[int], epochs: int) -> int:
    """PPO, one decision: it is acted and valued once, and trained on `epochs` times."""
    actor, critic = [inputs, *hidden, outputs], [inputs, *hidden, 1]
    trained = network_training(actor) + network_training(critic)
    return network(actor) + network(critic) + epochs * trained


def action_critics(inputs: int, width: int, hidden: Sequence[int], *, soft: bool) -> int:
    """SAC (`soft`) or TD3, one decision of an update: two critics are asked for the target and trained; the actor is
    asked for the next action and trained, by TD3 every second time.

    Its gradient comes through the critics' inputs of actions: through the one that is least of two, or the first.
    """
    actor, critic = [inputs, *hidden, 2 * width if soft else width], [inputs + width, *hidden, 1]
    target = network(actor) + 2 * network(critic)
    asked = 2 if soft else 1
    acted = network_training(actor) + (asked + 1) * network(critic) - inputs * hidden[0]
    return target + 2 * network_training(critic) + (acted if soft else acted // 2)


@dataclass(frozen=True)
class Transformer:
    """A decoder with gated networks and as many key heads as heads."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int

    def forward(self, start: int, end: int, scored: int) -> int:
        """Positions start … end - 1, each attending to itself and all before it; `scored` of them through the head."""
        count = end - start
        linear = 4 * self.hidden**2 + 3 * self.hidden * self.intermediate
        attended = (start + 1 + end) * count // 2  # the sum of t + 1 over positions t
        return self.layers * (count * linear + 2 * self.hidden * attended) + scored * self.hidden * self.vocabulary

    def generation(self, prompts: Sequence[int], completions: Sequence[int]) -> int:
        """Completions of these lengths, the same number for each prompt and prompt-major; the last token of each is not
        read again."""
        repeats = len(completions) // len(prompts)
        total = sum(self.forward(0, length, 0) for length in prompts)
        for i, length in enumerate(completions):
            start = prompts[i // repeats]
            total += self.forward(start, start + length - 1, length)
        return total

    def training(self, prompts: Sequence[int], completions: Sequence[int]) -> int:
        """Forward and backward over each prompt with its completion."""
        repeats = len(completions) // len(prompts)
        totals = ((prompts[i // repeats], length) for i, length in enumerate(completions))
        return sum(3 * self.forward(0, prompt + length - 1, length) for prompt, length in totals)
