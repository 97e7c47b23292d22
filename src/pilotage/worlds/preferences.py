"""A world made of a preference file: its prompts are the tasks, its pairs what is known of them. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pilotage.data import preferences
from pilotage.data.piece import UsageError
from pilotage.data.preferences import Preference
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task, Text
from pilotage.worlds.text import TextWorld, place


class PreferenceFile(TextWorld):
    """The lines of `path` as tasks, in passes over all lines of a split, each pass in an order of its own.

    digest: of the file's bytes; another file under the same name is refused. answer_tokens: bound of an answer, by
    default the characters of the longest one in the file. Accuracy is the share of answers equal to the chosen one.

    Raises UsageError for a file that cannot be read or holds something else, and where no line falls in a split.
    """

    def __init__(
        self, *, path: str = "", digest: str = "", answer_tokens: int | None = None, seed: int = 0,
        held_out_share: float = 1 / 8,
    ) -> None:  # fmt: skip
        super().__init__(seed=seed, held_out_share=held_out_share, time_limit=None)
        if digest and preferences.digest(Path(path)) != digest:
            raise UsageError(f"{path} is not the file this recipe was made with: its digest is no longer {digest}")
        self.lines: dict[str, list[Preference]] = {"train": [], "held_out": []}
        found = preferences.read(Path(path))
        for line in found:
            self.lines["held_out" if place(line.prompt) < held_out_share else "train"].append(line)
        for split, lines in self.lines.items():
            if not lines:
                raise UsageError(
                    f"{path}: none of {len(found)} lines is in the split {split}; see world.held_out_share"
                )
        texts = [text for line in found for text in (line.chosen, line.rejected)]
        letters = "".join(sorted(set("".join([*texts, *(line.prompt for line in found)]))))
        self.observation = Text(max(len(line.prompt) for line in found) + 2, letters)
        self.action = Text(answer_tokens or max(map(len, texts)) + 1, letters)

    def task(self, index: int, split: Split) -> Task:
        """Line number `index` of the endless walk through passes over the split."""
        lines = self.lines[split]
        order = Streams(self.seed).generator(f"lines {split}", index // len(lines)).permutation(len(lines))
        line = lines[int(order[index % len(lines)])]
        return Task(index, split, line.prompt, line.chosen, payload={"rejected": line.rejected})

    def make(self, rng: np.random.Generator) -> Task:
        """Any line of the training split."""
        return self.task(int(rng.integers(len(self.lines["train"]))), "train")

    def verify(self, task: Task, answer: str) -> float:
        """Whether the answer is the chosen one."""
        return float(answer == task.answer)

    def pair(self, task: Task) -> tuple[str, str]:
        """The chosen answer and the rejected one."""
        return task.answer, str(task.payload["rejected"])

    def demonstrate(self, task: Task, rng: np.random.Generator) -> str:
        """The chosen answer."""
        return task.answer
