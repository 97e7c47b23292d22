"""Language policies: any transformers causal language model as a policy whose decisions are tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.tasks import Text
from pilotage.policies import generate, llama, llama_engine
from pilotage.policies.base import Messages, Minibatch, SpeakingPolicy
from pilotage.policies.characters import Characters
from pilotage.policies.distributions import Categorical
from pilotage.policies.packing import Packing, pack, read_anew

CHUNK_ABOVE = 2**24  # logits; above, they are worked out again in the backward pass, chunk by chunk
CHUNK = 2**22  # logits of a chunk; a backward pass holds some seven times as much
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


class Tokenizer(Protocol):
    """What a language policy needs of a tokenizer."""

    @property
    def size(self) -> int: ...
    @property
    def ends(self) -> tuple[int, ...]: ...
    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]: ...
    def decode(self, tokens: Sequence[int] | Tensor) -> str: ...
    def to_folder(self, folder: Path) -> None: ...


def written_by_hand(model: Any) -> bool:
    """Whether `policies.llama` may run this model in place of transformers."""
    return llama.supports(model.config)


def hidden_states(model: Any, packing: Packing) -> Tensor:
    """Last hidden states [S, H] of a transformers model for the tokens that a packing keeps."""
    if not packing.rectangles:
        return model.get_input_embeddings().weight[:0]  # type: ignore[no-any-return]
    if written_by_hand(model):
        return llama.hidden(llama.fused(model, packing.longest), packing)
    found = []
    for rectangle in packing.rectangles:
        out = model.base_model(input_ids=packing.tokens[rectangle.index], use_cache=False).last_hidden_state
        found.append(out.flatten(0, 1) if rectangle.own is None else out.flatten(0, 1)[rectangle.own])
    return torch.cat(found)[packing.keep]


def preceding(batch: Batch, decisions: Tensor) -> Tensor:
    """[S] the tokens just before these decisions. Raises ValueError where an episode starts with one."""
    if bool((batch.offsets[batch.owner[decisions]] == decisions).any()):
        raise ValueError("the first token of an episode cannot be sampled: there is nothing before it")
    return decisions - 1


def scores(hidden: Tensor, head: Tensor, bias: Tensor | None, action: Tensor, entropy: bool) -> tuple[Tensor, ...]:
    """Log-probs of actions [S] under the logits of hidden [S, H] and, where wanted, entropies [S]."""
    logits = functional.linear(hidden, head, bias)
    normaliser = logits.logsumexp(-1)
    logp = logits.gather(-1, action.unsqueeze(-1)).squeeze(-1) - normaliser
    if not entropy:
        return (logp,)
    return logp, normaliser - ((logits - normaliser.unsqueeze(-1)).exp() * logits).sum(-1)


def chosen_scores(
    hidden: Tensor, head: Tensor, bias: Tensor | None, action: Tensor, entropy: bool
) -> tuple[Tensor, ...]:
    """As `scores`, but without holding all logits where they are more than `CHUNK_ABOVE`."""
    if len(hidden) * len(head) <= CHUNK_ABOVE:
        return scores(hidden, head, bias, action, entropy)
    rows = max(1, CHUNK // len(head))
    parts = [
        checkpoint(scores, h, head, bias, a, entropy, use_reentrant=False, preserve_rng_state=False)
        for h, a in zip(torch.split(hidden, rows), torch.split(action, rows), strict=True)
    ]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class Critic(nn.Module):
    """A trunk of its own with a scalar head."""

    def __init__(self, trunk: Any, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, 1)

    def forward(self, packing: Packing) -> Tensor:
        """[S] values of the tokens that a packing keeps."""
        return self.head(hidden_states(self.trunk, packing)).squeeze(-1)  # type: ignore[no-any-return]


class LanguageModel(SpeakingPolicy):
    """A causal language model, its tokenizer and, where wanted, a critic, as a policy.

    In the state dict a tensor that two names share (tied embeddings) stands once, and one that was frozen from the
    start not at all.
    """

    gives: ClassVar[frozenset[str]] = SpeakingPolicy.gives | {"features"}

    def __init__(
        self, model: Any, tokenizer: Tokenizer, *, critic: nn.Module | None = None, tokens_per_microbatch: int = 4096
    ) -> None:
        super().__init__()
        scaled = [name for name in SCALED_LOGITS if getattr(model.config, name, None) not in (None, 1, 1.0)]
        if scaled:
            raise UsageError(f"models with {scaled[0]} are not supported: log-probs would leave it out")
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                # padding is known by lengths here; by id, an end token inside a conversation would never be trained
                module.padding_idx = None
        self.model = model
        self.critic = critic
        self.tokenizer = tokenizer
        self.tokens_per_microbatch = tokens_per_microbatch
        self.context = int(model.config.max_position_embeddings)
        self.frozen = frozenset(name for name, p in self.named_parameters() if not p.requires_grad)
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_in)  # type: ignore[no-untyped-call]
        self.train(self.training)

    def train(self, mode: bool = True) -> LanguageModel:
        """Sets the mode of this module; what is inside stays in evaluation mode, so that dropout is always off."""
        super().train(False)
        self.training = mode
        return self

    # ---- text and tokens

    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]:
        return self.tokenizer.encode(text, prompt=prompt, after=after)

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        return self.tokenizer.decode(tokens)

    @property
    def end_token(self) -> int:
        return self.tokenizer.ends[0]

    def can_read(self, tokens: Sequence[int]) -> bool:
        return len(tokens) < self.context

    def speak(
        self,
        prompts: Sequence[Tensor],
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        repeats: int | Sequence[int] = 1,
        limits: Sequence[int] | None = None,
    ) -> Messages:
        engine: generate.Engine = generate.TransformersEngine(self.model)
        if written_by_hand(self.model):
            with torch.inference_mode():
                engine = llama_engine.LlamaEngine(self.model, self.context)
        said = generate.speak(
            engine,
            prompts,
            uniforms,
            ends=self.tokenizer.ends,
            context=self.context,
            temperature=temperature,
            repeats=repeats,
            limits=limits,
        )
        return self.generated.add(said)

    # ---- scores

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        """`logp`, `entropy` and `value` [S], `distribution` of logits [S, V], `features` [S, H], the last hidden state
        once the token has been read: one row per sampled token."""
        batch = minibatch.episodes
        if batch is None:
            raise ValueError("a language policy scores whole episodes: the minibatch has none")
        decisions = batch.sampled.nonzero().squeeze(-1)
        found: dict[str, Any] = {}
        if "features" in names:
            found["features"] = hidden_states(self.model, pack(batch, decisions))
        if names <= {"features"}:
            return found
        packing = pack(batch, preceding(batch, decisions))
        if "value" in names:
            found["value"] = self._values(packing)
        if names & {"logp", "entropy", "distribution"}:
            hidden = hidden_states(self.model, packing)
            if "distribution" in names:
                found["distribution"] = Categorical(self.model.get_output_embeddings()(hidden))
            if names & {"logp", "entropy"}:
                action = batch["action"][decisions].long()
                found |= zip(("logp", "entropy"), self._scores(hidden, action, "entropy" in names), strict=False)
        return {name: value for name, value in found.items() if name in names}

    def _scores(self, hidden: Tensor, action: Tensor, entropy: bool) -> tuple[Tensor, ...]:
        head = self.model.get_output_embeddings()
        return chosen_scores(hidden, llama.matrix(head), getattr(head, "bias", None), action, entropy)

    def _values(self, packing: Packing) -> Tensor:
        if self.critic is None:
            raise UsageError(f"{type(self).__name__} has no critic: set critic=True")
        return self.critic(packing)  # type: ignore[no-any-return]

    def split(self, minibatch: Minibatch) -> Iterator[Minibatch]:
        """Parts of successive episodes, of at most `tokens_per_microbatch` tokens (or one episode), where those that an
        episode begins with as the one before it does are not counted: they are read once.

        Episodes without a sampled token are in no part. The order is kept so that groups stay together: episodes of one
        part share their prompt's work. Where groups are to stay whole, a part is cut between groups only.
        """
        batch = minibatch.episodes
        if batch is None:
            raise ValueError("a language policy scores whole episodes: the minibatch has none")
        rows_of = batch.total(batch.sampled.long())
        ends = rows_of.cumsum(0)
        heard = (rows_of > 0).nonzero().squeeze(-1)
        together = batch["group"] if minibatch.whole_groups else torch.arange(len(batch))
        for chosen in self._runs(batch, heard, together):
            # episodes left out have no rows, so the rows of a run are a run too
            rows = slice(int(ends[chosen[0]] - rows_of[chosen[0]]), int(ends[chosen[-1]]))
            yield replace(
                minibatch,
                columns={name: column[rows] for name, column in minibatch.columns.items()},
                owner=minibatch.owner[rows],
                index=minibatch.index[rows],
                episodes=batch.select(chosen),
            )

    @torch.no_grad()
    def final_values(self, batch: Batch) -> Tensor:
        """[E] the critic's value after each episode's last token."""
        values = torch.zeros(len(batch))
        every = torch.arange(len(batch))
        for chosen in self._runs(batch, every, every):
            part = batch.select(chosen)
            values[chosen] = self._values(pack(part, part.offsets[1:] - 1))
        return values

    def _runs(self, batch: Batch, chosen: Tensor, together: Tensor) -> Iterator[Tensor]:
        """The chosen episodes in runs whose tokens are worked out at once, see `runs`."""
        lengths = batch.lengths[chosen]
        new = read_anew(batch, chosen) if written_by_hand(self.model) else lengths
        return runs(new, lengths, chosen, self.tokens_per_microbatch, together[chosen])

    # ---- files

    def facts(self) -> dict[str, Any]:
        """Parameters, how many of them are trained, architecture, vocabulary, context."""
        config = self.model.config
        return {
            **super().facts(),
            "trained": sum(p.numel() for p in self.parameters() if p.requires_grad),
            "architecture": config.model_type,
            "vocabulary": config.vocab_size,
            "context": self.context,
        }

    def to_folder(self, path: str | Path) -> None:
        """Writes the actor as a Hugging Face folder (configuration, weights with adapters merged, tokenizer)."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        merged = {
            name.replace(".base_layer.", "."): llama.matrix(self.model.get_submodule(name.split(".base_layer.")[0]))
            if name.endswith(".base_layer.weight")
            else tensor
            for name, tensor in self.model.state_dict().items()
            if ".lora_" not in name
        }
        self.model.save_pretrained(folder, state_dict={n: t.detach().contiguous() for n, t in merged.items()})
        self.tokenizer.to_folder(folder)


def runs(new: Tensor, lengths: Tensor, chosen: Tensor, most: int, together: Tensor) -> Iterator[Tensor]:
    """The chosen episodes [n] in order, cut into runs of at most `most` tokens, or of one block: successive episodes
    with equal entries of `together` [n] are never parted. Tokens are the `lengths` [n] of a run's first episode and
    what is `new` [n] in the others."""
    _, block, sizes = torch.unique_consecutive(together, return_inverse=True, return_counts=True)
    totals = torch.zeros_like(sizes).index_add_(0, block, new).tolist()
    alone = (lengths - new)[sizes.cumsum(0) - sizes].tolist()  # what a block's first episode shares with the one before
    start, end, total = 0, 0, 0
    for size, length, shared in zip(sizes.tolist(), totals, alone, strict=True):
        if total + length > most and end > start:
            yield chosen[start:end]
            start, total = end, 0
        total += length if total else length + shared
        end += size
    if start < len(chosen):
        yield chosen[start:]


def _left_out(policy: LanguageModel) -> dict[str, Tensor]:
    """Parameters that the state dict does without: later names of shared ones, and frozen ones."""
    first: dict[int, str] = {}
    every = dict(policy.named_parameters(remove_duplicate=False))
    return {n: p for n, p in every.items() if first.setdefault(id(p), n) != n or n in policy.frozen}


def _leave_out(policy: LanguageModel, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _left_out(policy):
        state.pop(prefix + name, None)


def _fill_in(policy: LanguageModel, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Puts back what was left out, for loading: shared tensors as saved, frozen ones as they are."""
    saved = {id(p): state[prefix + n] for n, p in policy.named_parameters() if prefix + n in state}
    for name, parameter in _left_out(policy).items():
        state.setdefault(prefix + name, saved.get(id(parameter), parameter.detach()))


def new_model(settings: dict[str, Any], architecture: str, seed: int, trunk_only: bool = False) -> Any:
    """A fresh transformers model in float32, the same for the same seed, leaving global random state alone."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(architecture, **settings)
    except ValueError:
        raise UsageError(f"transformers knows no architecture {architecture!r}; try llama, qwen2 or qwen3") from None
    kind = AutoModel if trunk_only else AutoModelForCausalLM
    return seeded(seed, lambda: kind.from_config(config, dtype=torch.float32))


def seeded(seed: int, build: Any) -> Any:
    """What `build()` makes under a seed, leaving global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def need_texts(observation: Any, action: Any) -> None:
    """Raises UsageError unless both spaces are texts."""
    if not (isinstance(observation, Text) and isinstance(action, Text)):
        kinds = f"{type(observation).__name__} and {type(action).__name__}"
        raise UsageError(f"a language policy needs a world of texts; this one has {kinds}")


class TinyLanguageModel(LanguageModel):
    """A small character model from scratch; with the defaults and 100 characters it has 0.14M parameters."""

    untrained: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: int = 64,
        layers: int = 2,
        heads: int = 4,
        architecture: str = "llama",
        context: int = 2048,
        critic: bool = False,
        tokens_per_microbatch: int = 4096,
        seed: int,
    ) -> None:
        need_texts(observation, action)
        if not (observation.alphabet and action.alphabet):
            raise UsageError("a character model needs a world that names its alphabet; this one's is empty")
        if hidden % heads or hidden // heads % 2:
            raise UsageError(f"hidden must be an even multiple of heads; {hidden} is not of {heads}")
        tokenizer = Characters(observation.alphabet + action.alphabet)
        settings = {
            "vocab_size": tokenizer.size,
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": hidden // heads,
            "max_position_embeddings": context,
            "bos_token_id": tokenizer.begin,
            "eos_token_id": tokenizer.end,
            "pad_token_id": None,
            "tie_word_embeddings": False,
        }
        judge = None
        if critic:
            trunk = new_model(settings, architecture, seed + 1, trunk_only=True)
            judge = seeded(seed + 2, lambda: Critic(trunk, hidden))
        super().__init__(
            new_model(settings, architecture, seed),
            tokenizer,
            critic=judge,
            tokens_per_microbatch=tokens_per_microbatch,
        )
