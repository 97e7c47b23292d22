"""Sampling of messages: one loop over any engine that keeps the past of its rows, and the engine for any transformers
causal language model. The engine for Llama-like weights is in `policies.llama_engine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.policies.base import Messages

BELOW_ONE = 1 - 2**-24  # the largest float32 under 1
KEEP_ROWS_ABOVE = 0.8  # rows are dropped once fewer than this share of them still speak


class Engine(Protocol):
    """Holds the past of n rows and says what may come next."""

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int, repeats: Tensor) -> Tensor:
        """Reads prompts [p, T], padded on the right, and goes on with so many rows of each, n in all, prompt-major,
        with room for more tokens; next logits [n, V]."""

    def select(self, rows: Tensor) -> None:
        """Goes on with these rows [m] (repeated or left out as named)."""

    def step(self, tokens: Tensor) -> Tensor:
        """Reads one more token per row [n]; next logits [n, V]."""


def padded(prompts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts [n, T] padded on the right, and their lengths [n]."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return torch.nn.utils.rnn.pad_sequence([prompt.long() for prompt in prompts], batch_first=True), lengths


def choose(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens [n] by the inverse of the cumulative distribution of logits [n, V], and their untempered log-probs."""
    if temperature == 1:  # chances once: none that is drawn is too small for its logarithm
        chances = logits.softmax(-1)
        token = drawn(chances, uniforms)
        return token.squeeze(-1), chances.gather(-1, token).log_().squeeze(-1)
    logp = logits.log_softmax(-1)
    token = drawn((logp / temperature).softmax(-1), uniforms) if temperature else logp.argmax(-1, keepdim=True)
    return token.squeeze(-1), logp.gather(-1, token).squeeze(-1)


def drawn(chances: Tensor, uniforms: Tensor) -> Tensor:
    """Which [n, 1] of so many chances [n, V] uniform numbers [n] come to."""
    heights = chances.cumsum(-1)
    # strictly below the total, so that a token of probability 0 is never chosen
    return torch.searchsorted(heights, uniforms.unsqueeze(-1) * heights[:, -1:], right=True)


def speak(
    engine: Engine,
    prompts: Sequence[Tensor],
    uniforms: Tensor,
    *,
    ends: Sequence[int],
    context: int,
    temperature: float = 1.0,
    repeats: int | Sequence[int] = 1,
    limits: Sequence[int] | None = None,
) -> Messages:
    """Samples messages with an engine (see `SpeakingPolicy.speak`); one ends at any of `ends`, or at the context.

    Raises UsageError for a prompt without a token.
    """
    n, most = uniforms.shape
    times = torch.tensor([repeats] * len(prompts) if isinstance(repeats, int) else list(repeats), dtype=torch.long)
    if len(times) != len(prompts) or n != int(times.sum()):
        raise ValueError(f"{len(prompts)} prompts x {repeats} repeats need as many rows of uniforms, not {n}")
    if limits is not None and (len(limits) != n or min(limits, default=1) < 1):
        raise ValueError(f"{n} messages need as many limits of at least one token, not {limits}")
    if n == 0 or most == 0:
        return _among(n, [], Messages([], [], []))
    if not all(len(prompt) for prompt in prompts):
        raise UsageError("a prompt needs at least one token")
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < context]
    if len(fitting) < len(prompts):
        chosen = torch.zeros(len(prompts), dtype=torch.bool).index_fill(
            0, torch.tensor(fitting, dtype=torch.long), True
        )
        rows = chosen.repeat_interleave(times).nonzero().squeeze(-1).tolist()
        some = speak(
            engine,
            [prompts[i] for i in fitting],
            uniforms[rows],
            ends=ends,
            context=context,
            temperature=temperature,
            repeats=times[fitting].tolist(),
            limits=None if limits is None else [limits[row] for row in rows],
        )
        return _among(n, rows, some)
    together, lengths = padded(prompts)
    with torch.inference_mode():
        logits = engine.prefill(together, lengths, most, times)
        limit = (context - lengths).clamp(max=most).repeat_interleave(times)
        if limits is not None:
            limit = limit.minimum(torch.tensor(limits))
        draws = uniforms.to(torch.float32).clamp(max=BELOW_ONE)
        tokens, logp, count, closed = _write(engine, logits, draws, limit, torch.tensor(list(ends)), temperature)
    sizes = count.tolist()
    return Messages(  # copied outside inference mode, so that gradients may pass through what is made of them
        [row[:size].clone() for row, size in zip(tokens, sizes, strict=True)],
        [row[:size].clone() for row, size in zip(logp, sizes, strict=True)],
        closed.tolist(),
    )


def _among(n: int, rows: Sequence[int], said: Messages) -> Messages:
    """n messages: these on the rows named, and nothing, not closed, on all others."""
    found = Messages([torch.zeros(0, dtype=torch.long)] * n, [torch.zeros(0)] * n, [False] * n)
    for row, tokens, logp, closed in zip(rows, said.tokens, said.logp, said.closed, strict=True):
        found.tokens[row], found.logp[row], found.closed[row] = tokens, logp, closed
    return found


def _write(
    engine: Engine, logits: Tensor, uniforms: Tensor, limit: Tensor, ends: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens and log-probs [n, T], lengths [n] and whether closed [n], from the first logits [n, V] and limits [n], at
    most T."""
    n, most = uniforms.shape
    tokens, logp = torch.zeros(n, most, dtype=torch.long), torch.zeros(n, most)
    lengths = torch.zeros(n, dtype=torch.long)
    # of the engine's rows: the message that each writes, its draws by step, its tokens so far, whether it goes on
    rows, draws = torch.arange(n), uniforms.T.contiguous()
    count, speaking = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
    said: list[tuple[Tensor, Tensor]] = []  # by these rows: one step after the other, laid down when rows change
    for t in range(most):
        said.append(choose(logits, draws[t], temperature))
        token = said[-1][0]
        count += speaking
        speaking &= torch.isin(token, ends, invert=True) & (limit > t + 1)
        left = int(speaking.sum())
        if left < KEEP_ROWS_ABOVE * len(rows):
            steps = slice(t + 1 - len(said), t + 1)
            for laid, parts in zip((tokens, logp), zip(*said, strict=True), strict=True):
                laid[rows, steps] = torch.stack(parts, dim=1)
            lengths[rows] = count
            if left == 0:
                break
            kept = speaking.nonzero().squeeze(-1)
            engine.select(kept)
            rows, draws, said = rows[kept], draws[:, kept], []
            token, limit, count, speaking = (of_row[kept] for of_row in (token, limit, count, speaking))
        logits = engine.step(token)
    return tokens, logp, lengths, torch.isin(tokens[torch.arange(n), lengths - 1], ends)


class TransformersEngine:
    """Any transformers causal language model, through its own cache. New tokens of all rows share a column; what
    padding lies between a prompt and that column is masked, and positions count without it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache: Any = None
        self.mask = torch.empty(0)
        self.position = torch.empty(0)

    def prefill(self, prompts: Tensor, lengths: Tensor, room: int, repeats: Tensor) -> Tensor:
        trunk = self.model.base_model
        out = trunk(input_ids=prompts, use_cache=True)
        self.cache = out.past_key_values
        self.mask = (torch.arange(prompts.shape[1]) < lengths.unsqueeze(-1)).long()
        self.position = lengths.clone()
        logits = self._head(out.last_hidden_state[torch.arange(len(prompts)), lengths - 1])
        rows = torch.arange(len(prompts)).repeat_interleave(repeats)
        if bool((repeats != 1).any()):
            self.select(rows)
        return logits[rows]

    def select(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.position = self.mask[rows], self.position[rows]

    def step(self, tokens: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        out = self.model.base_model(
            input_ids=tokens.unsqueeze(-1),
            attention_mask=self.mask,
            position_ids=self.position.unsqueeze(-1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position = self.position + 1
        return self._head(out.last_hidden_state[:, -1])

    def _head(self, hidden: Tensor) -> Tensor:
        return self.model.get_output_embeddings()(hidden)  # type: ignore[no-any-return]
