"""A tokenizer of single characters: three special tokens and an alphabet, nothing learnt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from pilotage.data.piece import UsageError

FILE = "characters.json"
SCHEMA = 1


class Characters:
    """Token ids of characters. 0 begins a prompt, 1 ends it, 2 ends a message; the sorted alphabet follows."""

    begin, separator, end = 0, 1, 2
    specials = ("<begin>", "<separator>", "<end>")

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise UsageError("a character model needs a world that names its alphabet; this one's is empty")
        self.alphabet = "".join(sorted(set(alphabet)))
        self.ids = {character: i + len(self.specials) for i, character in enumerate(self.alphabet)}
        self.texts = ["" for _ in self.specials] + list(self.alphabet)

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.specials) + len(self.alphabet)

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that close a message."""
        return (self.end,)

    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]:
        """The ids of a text; a prompt is framed by begin and separator, in a later turn (`after`) too. Raises
        UsageError for an unknown character."""
        try:
            ids = [self.ids[character] for character in text]
        except KeyError as error:
            raise UsageError(f"the character {error.args[0]!r} is not in the alphabet {self.alphabet!r}") from None
        return [self.begin, *ids, self.separator] if prompt else ids

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """The text of ids, specials left out."""
        ids: Iterable[int] = tokens.tolist() if isinstance(tokens, Tensor) else tokens
        return "".join([self.texts[i] for i in ids])

    def to_json(self) -> dict[str, object]:
        return {"schema": SCHEMA, "alphabet": self.alphabet}

    @staticmethod
    def from_json(tree: dict[str, object]) -> Characters:
        if tree.get("schema") != SCHEMA:
            raise UsageError(f"{FILE} has schema {tree.get('schema')!r}; this version reads {SCHEMA}")
        return Characters(str(tree["alphabet"]))

    def to_folder(self, folder: Path) -> None:
        """Writes our own JSON, which reads back exactly, and a tokenizer.json that other tools read."""
        (folder / FILE).write_text(json.dumps(self.to_json(), ensure_ascii=False), encoding="utf-8")
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        vocabulary = {name: i for i, name in enumerate(self.specials)} | self.ids
        # no unknown token: a character outside the alphabet is an error in other tools too
        backend = Tokenizer(models.WordLevel(vocabulary))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        pairs = [(self.specials[0], self.begin), (self.specials[1], self.separator)]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{self.specials[0]} $A {self.specials[1]}", special_tokens=pairs
        )
        PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token=self.specials[0], eos_token=self.specials[2], pad_token=self.specials[2]
        ).save_pretrained(folder)

    @staticmethod
    def from_folder(folder: Path) -> Characters:
        return Characters.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
