"""Tiny policies for tests, whose every probability is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.policies.base import Messages, Minibatch, SpeakingPolicy

END = 0


class Tabled(SpeakingPolicy):
    """Logits of its own for each prompt, whatever has been said since: [prompts, characters and end]."""

    def __init__(self, alphabet: str, table: Mapping[str, Mapping[str, float]], longest: int | None = None) -> None:
        super().__init__()
        self.alphabet, self.longest = alphabet, longest
        self.prompts = list(table)
        logits = torch.full((len(table), len(alphabet) + 1), -30.0, dtype=torch.float64)
        for row, shares in zip(logits, table.values(), strict=True):
            for character, share in shares.items():
                row[self._id(character)] = torch.tensor(share, dtype=torch.float64).log()
        self.logits = nn.Parameter(logits)
        self.asked: list[str] = []  # the prompts of each call's messages

    def _id(self, character: str) -> int:
        return self.alphabet.index(character) + 1 if character else END

    def encode(self, text: str, *, prompt: bool) -> list[int]:
        return [self._id(character) for character in text]

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        return "".join(self.alphabet[int(token) - 1] for token in tokens if int(token) != END)

    @property
    def end_token(self) -> int:
        return END

    def can_read(self, tokens: Sequence[int]) -> bool:
        return self.longest is None or len(tokens) < self.longest

    def speak(
        self,
        prompts: Sequence[Tensor],
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        repeats: int = 1,
        limits: Sequence[int] | None = None,
    ) -> Messages:
        texts = [self.decode(prompt) for prompt in prompts for _ in range(repeats)]
        self.asked += texts
        tokens, logps, closed = [], [], []
        for text, draws in zip(texts, uniforms, strict=True):
            logp = self.logits[self.prompts.index(text)].detach().log_softmax(-1)
            chosen = torch.searchsorted(logp.exp().cumsum(0), draws.double(), right=True).clamp(max=len(logp) - 1)
            ends = (chosen == END).nonzero().flatten()
            said = chosen[: int(ends[0]) + 1] if len(ends) else chosen
            tokens.append(said)
            logps.append(logp[said].float())
            closed.append(bool(len(ends)))
        return self.generated.add(Messages(tokens, logps, closed))

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        batch = minibatch.episodes
        assert batch is not None
        row = torch.tensor([self.prompts.index(text) for text in batch.notes["prompt"]])
        sampled = batch.sampled
        logp = self.logits.log_softmax(-1)[row[batch.owner[sampled]], batch["action"][sampled]]
        return {"logp": logp.float()} if "logp" in names else {}

    def split(self, minibatch: Minibatch) -> Iterator[Minibatch]:
        yield minibatch
