"""A policy of tokens that can be worked by hand: logits by the token before, and by whether the world has replied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.policies import generate
from pilotage.policies.base import Messages, Minibatch, SpeakingPolicy
from pilotage.policies.characters import Characters

LITTLE = -1e4


class Bigram(SpeakingPolicy):
    """table [2, V, V]: logits of the next token, at first and after a reply, by the token before.

    At the beginning it speaks of sums (see `pilotage.worlds.modes`) in all modes, rarely well: I3, R3;4, T[3], I3], ….
    """

    learning_rate = 1e-2

    def __init__(self, observation: Any, action: Any, *, seed: int) -> None:
        super().__init__()
        self.tokenizer = Characters(observation.alphabet + action.alphabet)
        ids, size = self.tokenizer.ids, self.tokenizer.size
        table = torch.full((2, size, size), LITTLE)
        digits = [ids[digit] for digit in "0123456789"]

        def may(turn: int, before: int | Sequence[int], after: Sequence[int]) -> None:
            for row in [before] if isinstance(before, int) else before:
                table[turn, row, list(after)] = 0.0

        end, separator = Characters.end, Characters.separator
        may(0, separator, [ids[tag] for tag in "IRT"])
        may(0, [ids[tag] for tag in "IR;["], digits)
        may(0, ids["T"], [ids["["]])
        may(0, digits, [end, end, ids[";"], ids["]"], *digits[:2]])
        may(0, ids["]"], [end])
        may(1, separator, digits)
        may(1, digits, [end])
        self.table = nn.Parameter(table)

    gives = frozenset({"logp"})

    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]:
        return self.tokenizer.encode(text, prompt=prompt)

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        return self.tokenizer.decode(tokens)

    @property
    def end_token(self) -> int:
        return self.tokenizer.end

    def speak(
        self, prompts: Sequence[Tensor], uniforms: Tensor, *, temperature: float = 1.0, repeats: int = 1,
        limits: Sequence[int] | None = None,
    ) -> Messages:  # fmt: skip
        replied = torch.tensor([int((p == Characters.separator).sum() > 1) for p in prompts])
        said = generate.speak(
            Rows(self.table.detach(), replied), prompts, uniforms, ends=self.tokenizer.ends, context=10**6,
            temperature=temperature, repeats=repeats, limits=limits,
        )  # fmt: skip
        return self.generated.add(said)

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        batch = minibatch.episodes
        assert batch is not None
        chosen = batch.sampled.nonzero().squeeze(-1)
        before, replied = batch["action"][chosen - 1].long(), (batch["turn"][chosen] > 0).long()
        logp = self.table[replied, before].log_softmax(-1)
        return {"logp": logp.gather(-1, batch["action"][chosen].long()[:, None]).squeeze(-1)}


class Rows:
    """The engine of a bigram: it remembers which rows have been replied to."""

    def __init__(self, table: Tensor, replied: Tensor) -> None:
        self.table, self.replied = table, replied

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int, repeats: Tensor) -> Tensor:
        rows = torch.arange(len(prompts)).repeat_interleave(repeats)
        self.replied = self.replied[rows]
        return self.table[self.replied, prompts[rows, lengths[rows] - 1]]

    def select(self, rows: Tensor) -> None:
        self.replied = self.replied[rows]

    def step(self, tokens: Tensor) -> Tensor:
        return self.table[self.replied, tokens]
