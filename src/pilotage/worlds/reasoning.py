"""Problems of reasoning-gym, any of its data sets, judged by its own verifiers.

The part of an answer that is judged is what follows the last marker (`;` in the short style), or all of it where there
is none: a policy may work before it answers, and has one answer to give. Short sums are worked by running totals:

    12+34-5=    46;41

With another marker the working comes before it and the answer after; `detours` has totals repeated:

    12+34-5=    46;46;41=41

Imports no torch: verifier processes load this.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import string
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task, Text
from pilotage.worlds import phrases
from pilotage.worlds.arithmetic import other_sum, simpler_sum, terms_of, value
from pilotage.worlds.chat import CHAT, PLAIN, conversation
from pilotage.worlds.text import TextWorld, place

try:
    import reasoning_gym
    from reasoning_gym.factory import CURRICULA, DATASETS
except ModuleNotFoundError as error:
    raise UsageError(f'{error}: pip install "pilotage[language]"') from None

logger = logging.getLogger(__name__)
INDICES = 2**31
LISTED = 10_000  # the few data sets that list their problems, rather than draw each by its index, list this many
SAMPLED = 64
LONGEST = 4_000  # characters of the judged part of an answer
SEPARATOR = ";"  # of totals in worked sums
# measured with 0.1.25: these draw from sets of texts, whose order Python changes from process to process
UNSTABLE = (
    "isomorphic_strings", "knight_swap", "list_functions", "polynomial_multiplication", "ransom_note", "word_ladder",
)  # fmt: skip
Style = Literal["auto", "short", "full", "chat"]


@dataclasses.dataclass(frozen=True)
class Short:
    """A compact form of a data set's question, the characters of questions and answers, and a size for small models."""

    prompt: Callable[[Mapping[str, Any]], str]  # from the entry's metadata
    alphabet: str
    size: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of its configuration


def _expression(metadata: Mapping[str, Any]) -> str:
    return str(metadata["expression"]).replace(" ", "") + "="


def _numbers(metadata: Mapping[str, Any]) -> str:
    return ",".join(str(number) for number in metadata["numbers"]) + "="


SHORT = {
    "basic_arithmetic": Short(_expression, string.digits + "+-*/()=;"),
    "chain_sum": Short(
        _expression, string.digits + "+-=;", {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    ),
    "gcd": Short(_numbers, string.digits + ",=;"),
    "lcm": Short(_numbers, string.digits + ",=;"),
    "products": Short(_expression, string.digits + "*=;"),
    "spell_backward": Short(lambda metadata: f"{metadata['word']}=", string.ascii_letters + "=;"),
}


def known_dataset(name: str) -> str:
    """`name` if reasoning-gym has it. Raises UsageError with the nearest."""
    if name not in DATASETS:
        raise UsageError(f"reasoning-gym has no data set {name!r}; {nearest(name, DATASETS)}")
    return name


class ReasoningWorld(TextWorld):
    """Data set `dataset` of reasoning-gym, at a level of its own curriculum.

    level: None means a size for small models in the short style (see SHORT), else the data set's defaults, as does 0
        where there is no curriculum. settings: fields of its configuration, which win over the level.
    prompt_style: "short" is a compact form that some data sets have here (see SHORT), "full" the original question,
        "auto" short where there is one, "chat" the original question after worked ones (see pilotage.worlds.chat).
    marker: what precedes the judged part; by default `;` in the short style and `=` in some of the chat style.
    examples: how many worked problems for training are shown before each question, as earlier turns; by default 2 in
        the chat style. instruction: what is said below each question, such as how to answer.
    answer_tokens: bound of an answer, by default derived: a little more than worked solutions take.
    partial_credit: whether the verifier's part marks count; else only full marks are worth anything.
    wrong_share: share of worked solutions that end wrong, after one slip that is carried on. A model started on
        demonstrations with 0.5 to 0.6 answers rightly about as often as they do, and has something to learn.
    detours: in worked sums, the chance that a total is written once more, and then again: lengths that vary, and work
        that a policy may learn to leave out.

    Raises UsageError for unknown names, levels and settings.
    """

    metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        *,
        dataset: str = "chain_sum",
        level: int | None = None,
        settings: Mapping[str, Any] | None = None,
        prompt_style: Style = "auto",
        marker: str | None = None,
        examples: int | None = None,
        instruction: str = "",
        answer_tokens: int | None = None,
        partial_credit: bool = False,
        wrong_share: float = 0.0,
        detours: float = 0.0,
        seed: int = 0,
        held_out_share: float = 1 / 8,
        time_limit: float | None = 5.0,
    ) -> None:
        super().__init__(seed=seed, held_out_share=held_out_share, time_limit=time_limit)
        if prompt_style not in get_args(Style):
            raise UsageError(f"prompt_style is auto, short, full or chat; not {prompt_style!r}")
        if not 0 <= wrong_share <= 1:
            raise UsageError(f"wrong_share is a share from 0 to 1, not {wrong_share}")
        if not 0 <= detours < 1:
            raise UsageError(f"detours is a chance from 0 to below 1, not {detours}")
        self.dataset, self.partial_credit, self.wrong_share = known_dataset(dataset), partial_credit, wrong_share
        self.detours = detours
        if prompt_style == "short" and dataset not in SHORT:
            raise UsageError(f"no short style for {dataset!r}; there is one for {', '.join(SHORT)}")
        self.short = SHORT.get(dataset) if prompt_style in ("auto", "short") else None
        self.chat = CHAT.get(dataset, PLAIN) if prompt_style == "chat" else PLAIN
        self.marker = marker if marker is not None else (SEPARATOR if self.short else self.chat.marker)
        self.example_count = examples if examples is not None else (2 if prompt_style == "chat" else 0)
        self.instruction = instruction
        if self.example_count < 0:
            raise UsageError(f"examples is a number of worked problems, not {self.example_count}")
        if self.short:
            self.phrases = phrases.COMPACT
            if self.example_count or self.instruction:
                raise UsageError("examples and an instruction go with the full question: set prompt_style=chat or full")
        self._answer_tokens = answer_tokens
        if dataset in UNSTABLE and os.environ.get("PYTHONHASHSEED", "random") == "random":
            logger.warning("problems of %s change from process to process unless PYTHONHASHSEED=0 is set", dataset)
        size = {} if level is not None else self.short.size if self.short else self.chat.size
        self._data = _create(dataset, level, {"seed": seed % 2**32, "size": LISTED, **size, **(settings or {})})
        self._entries: dict[int, dict[str, Any]] = {}

    def make(self, rng: np.random.Generator) -> Task:
        task = self._drawn(rng)
        return (
            dataclasses.replace(task, asked=self._asked(task.prompt, task))
            if self.example_count or self.instruction
            else task
        )

    def phrase(self, kind: str, task: Task, **parts: str) -> str:
        return self._asked(super().phrase(kind, task, **parts), task)

    def _asked(self, question: str, task: Task) -> str:
        """A question about this task with what stands around it."""
        if not self.example_count and not self.instruction:
            return question
        others = [shown for shown in self._shown if shown[0] != task.prompt] if self.example_count else []
        return conversation(others[: self.example_count], question, self.instruction)

    @cached_property
    def _shown(self) -> list[tuple[str, str]]:
        """Worked problems for training, one more than are shown: none is shown before itself."""
        streams, found = Streams(self.seed), dict[str, str]()
        for i in range(100 * (self.example_count + 1)):
            task = self._drawn(streams.generator("example", i))
            if not task.answer:
                break
            if place(task.prompt) >= self.held_out_share:
                found.setdefault(task.prompt, self._worded(task, task.answer))
            if len(found) > self.example_count:
                return list(found.items())
        raise UsageError(f"{self.dataset} has no {self.example_count + 1} worked problems to show: set examples=0")

    def _drawn(self, rng: np.random.Generator) -> Task:
        index, entry = self._entry(int(rng.integers(INDICES)))
        kept = {"answer": entry["answer"], "metadata": _needed(entry["metadata"])}
        payload = {"index": index, "entry": kept} if _survives_json(kept) else {"index": index}
        answer = "" if entry["answer"] is None else str(entry["answer"])
        return Task(prompt=self._prompt(entry), answer=answer, category=self.dataset, payload=payload)

    def _worded(self, task: Task, answer: str) -> str:
        """An answer as it is to be given."""
        return self.chat.worded(self._known_entry(task)["metadata"], answer) if self.chat is not PLAIN else answer

    def verify(self, task: Task, answer: str) -> float:
        """reasoning-gym's own score of the judged part. Raises RuntimeError if the problem cannot be made again."""
        judged = answer.rpartition(self.marker)[2].strip() if self.marker else answer
        if len(judged) > max(LONGEST, 2 * len(task.answer)):
            return 0.0  # no answer, and some parsers take minutes over it
        if task.answer.isascii() and not judged.isascii():
            return 0.0  # its number parsers take the digits of every script
        score = float(self._data.score_answer(judged, self._known_entry(task)))
        return score if self.partial_credit or score >= 1.0 else 0.0

    def demonstrate(self, task: Task, rng: np.random.Generator) -> str:
        """The answer, worked where it is a short sum; `wrong_share` of them wrong. Raises UsageError without one."""
        if not task.answer:
            raise UsageError(f"{self.dataset} stores no answers, so it has no worked solutions")
        wrong = bool(rng.random() < self.wrong_share)
        if self.short and self.dataset == "chain_sum":
            return self._worked(_running_totals(task.prompt, rng if wrong else None), rng)
        return self._worded(task, _spoilt(task.answer, rng) if wrong else task.answer)

    def solution(self, task: Task) -> str:
        """The answer, worked without detours where it is a short sum."""
        answer = super().solution(task)
        if self.short and self.dataset == "chain_sum":
            return SEPARATOR.join(_running_totals(task.prompt, None)) + self._told(answer)
        return answer

    def rewrite(self, kind: str, task: Task, rng: np.random.Generator) -> str:
        """Short sums with two terms added up already ("simplify"), or in another order ("diversify")."""
        rules = {"simplify": simpler_sum, "diversify": other_sum}
        if not self.short or self.dataset != "chain_sum" or kind not in rules:
            return super().rewrite(kind, task, rng)
        return rules[kind](terms_of(task.prompt.removesuffix("=")), rng) + "="

    def preserves(self, task: Task, text: str) -> bool | None:
        """By the exact value, where problems are expressions."""
        if not self.short or self.short.prompt is not _expression:
            return None
        return value(text.removesuffix("=")) == value(task.prompt.removesuffix("="))

    def _told(self, answer: str) -> str:
        """What comes after the totals: the answer, where the marker says so."""
        return "" if self.marker == SEPARATOR else self.marker + answer

    def _worked(self, totals: list[str], rng: np.random.Generator) -> str:
        """Totals, some repeated as long as there is room, and where the marker is another, the answer after it."""
        answer = self._told(totals[-1])
        room = self.action.max_tokens - 1 - len(SEPARATOR.join(totals) + answer)
        steps = []
        for total in totals:
            steps.append(total)
            while self.detours and rng.random() < self.detours and room > len(total):
                steps.append(total)
                room -= len(total) + 1
        return SEPARATOR.join(steps) + answer

    @cached_property
    def observation(self) -> Text:
        """Lazy, as it draws problems, which is slow for some data sets and needless in the verifier."""
        return self._texts[0]

    @cached_property
    def action(self) -> Text:
        return self._texts[1]

    @cached_property
    def _texts(self) -> tuple[Text, Text]:
        tasks = [self.task(index, "train") for index in range(SAMPLED)]
        prompt = max(len(task.shown) for task in tasks)
        answer = max(len(self._worded(task, task.answer)) for task in tasks)
        if not self.short:
            seen = set("".join(task.shown + task.answer for task in tasks)) | set(string.printable[:95] + "\n")
            # whoever has seen answers gives one as short
            budget = self._answer_tokens or (answer + answer // 4 + 4 if self.example_count else max(64, 2 * answer))
            return Text(2 * prompt, "".join(sorted(seen))), Text(budget, "".join(sorted(seen)))
        prompt, answer = prompt + prompt // 2, answer + answer // 2 + 1
        if self.dataset == "chain_sum":
            config = self._data.config
            terms, width = config.max_terms, config.max_digits + bool(config.allow_negation)
            prompt = terms * (width + 1)
            total = len(str(terms * 10**config.max_digits)) + 1  # and a sign
            answer = max(terms - 1, 1) * (total + len(SEPARATOR))
            if self.marker != SEPARATOR:
                answer += len(self.marker) + total + 1
            answer = math.ceil(answer * (1 + 2 * self.detours / (1 - self.detours)))
        alphabet = "".join(dict.fromkeys(self.short.alphabet + self.marker))
        return Text(prompt, alphabet), Text(self._answer_tokens or answer, alphabet)

    def _prompt(self, entry: Mapping[str, Any]) -> str:
        return self.short.prompt(entry["metadata"]) if self.short else str(entry["question"])

    def _entry(self, index: int) -> tuple[int, dict[str, Any]]:
        """Problem `index` of the data set, or its remainder where problems are listed."""
        try:
            return index, self._data[index]
        except IndexError:
            return index % LISTED, self._data[index % LISTED]

    def _known_entry(self, task: Task) -> dict[str, Any]:
        if "entry" in task.payload:
            return {"question": task.prompt, **task.payload["entry"]}
        index = int(task.payload["index"])
        if index not in self._entries:
            if len(self._entries) >= 256:
                self._entries.clear()
            self._entries[index] = self._data[index]
        if self._prompt(self._entries[index]) != task.prompt:
            raise RuntimeError(f"problem {index} of {self.dataset} is another in this process: it is not reproducible")
        return self._entries[index]


def _create(dataset: str, level: int | None, settings: Mapping[str, Any]) -> Any:
    """The data set, made by its curriculum at a level and then the settings. Raises UsageError."""
    fields = {field.name for field in dataclasses.fields(DATASETS[dataset][1])}
    for name in settings:
        if name not in fields and name not in ("seed", "size"):
            raise UsageError(f"{dataset} has no setting {name!r}; {nearest(name, fields)}")
    chosen: dict[str, Any] = {}
    if level is not None and dataset in CURRICULA:
        curriculum = CURRICULA[dataset]()
        top = max(len(attribute.levels) for attribute in curriculum.attributes.values()) - 1
        if not 0 <= level <= top:
            raise UsageError(f"levels of {dataset} go from 0 to {top}; not {level}")
        curriculum.set_global_level(level)
        generated = curriculum.generate_configuration()
        chosen = {field.name: getattr(generated, field.name) for field in dataclasses.fields(generated)}
    elif level:
        raise UsageError(f"{dataset} has no curriculum, hence no level {level}; set its settings instead")
    try:
        return reasoning_gym.create_dataset(dataset, **{**chosen, **settings})
    except (AssertionError, TypeError, ValueError) as error:
        raise UsageError(f"{dataset} does not take these settings: {error}") from None


def _needed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without the curriculum's note on difficulty, which no verifier reads and which is rarely JSON."""
    return {name: value for name, value in metadata.items() if name != "difficulty"}


def _survives_json(tree: Any) -> bool:
    """Whether a value is the same after JSON: no tuples, no keys but texts, nothing of numpy."""
    try:
        return bool(json.loads(json.dumps(tree)) == tree)
    except (TypeError, ValueError):
        return False


def _running_totals(prompt: str, slip: np.random.Generator | None) -> list[str]:
    """Totals of `12+34-5=` after each operation: 46, 41. With a slip one total is off, and so are all after it."""
    terms = terms_of(prompt.removesuffix("="))
    steps = max(len(terms) - 1, 1)
    totals = np.cumsum(np.array(terms, dtype=object))[-steps:]
    if slip is not None:
        at = int(slip.integers(steps))
        off = int(slip.choice([1, 2, 10])) * int(slip.choice([-1, 1]))
        totals = np.concatenate([totals[:at], totals[at:] + off])
    return [str(total) for total in totals]


def _spoilt(answer: str, rng: np.random.Generator) -> str:
    """A plausible wrong answer: a number a little off, or a text with one character replaced by another of its own."""
    try:
        return str(int(answer) + int(rng.choice([1, 2, 10])) * int(rng.choice([-1, 1])))
    except ValueError:
        at = int(rng.integers(len(answer)))
        others = sorted(set(answer) - {answer[at]}) or ["?"]
        return answer[:at] + str(rng.choice(others)) + answer[at + 1 :]
