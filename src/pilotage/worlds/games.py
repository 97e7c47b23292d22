"""OpenSpiel's Colonel Blotto as a world of texts: an answer is an allocation of coins, and no allocation is best.

The payoffs are OpenSpiel's own. Answers can be listed, so what a policy is worth in the game is known exactly: its
worst-case win rate, and the duality gap of the game regularised towards a reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError
from pilotage.data.tasks import Split, Task, Text
from pilotage.worlds.text import TextWorld

Floats = NDArray[np.float64]
PROMPT = "?"
LISTED = 500  # answers that a game may have at most


class Blotto(TextWorld):
    """One question, "how do you spread your coins over the fields?"; an answer such as `4 1 5` plays against another.

    answers: all allocations. payoff [A + 1, A + 1]: the probability that the row's answer wins against the column's, ½
    for a draw; the last one stands for every text that is no allocation: it loses to all others and draws with itself.
    An answer's reward is its win probability against a uniformly drawn allocation. There is one prompt, so nothing is
    held out; see `pilotage.run.measures.GameValue` for what a policy is worth.

    Raises UsageError without OpenSpiel, and for a game that it does not know or with too many allocations.
    """

    metric: ClassVar[str] = "return"

    def __init__(self, *, coins: int = 10, fields: int = 3) -> None:
        super().__init__(time_limit=None)
        if coins < 1 or fields < 2 or math.comb(coins + fields - 1, fields - 1) > LISTED:
            raise UsageError(
                f"at least 1 coin, 2 fields, and no more than {LISTED} allocations; not {coins} on {fields}"
            )
        self.answers, legal = _payoffs(coins, fields)
        self.payoff = np.pad(legal, ((0, 1), (0, 1)))
        self.payoff[:-1, -1], self.payoff[-1, -1] = 1.0, 0.5
        self.index = {answer: i for i, answer in enumerate(self.answers)}
        self.observation = Text(len(PROMPT) + 2, PROMPT)
        self.action = Text(max(map(len, self.answers)) + 1, "0123456789 ")

    def task(self, index: int, split: Split) -> Task:
        """Always the same question."""
        return Task(index, split, PROMPT)

    def make(self, rng: np.random.Generator) -> Task:
        """The question."""
        return Task(prompt=PROMPT)

    def verify(self, task: Task, answer: str) -> float:
        """The win probability against a uniformly drawn allocation."""
        return float(self.payoff[self.number(answer), :-1].mean())

    def number(self, answer: str) -> int:
        """The answer's row in `payoff`; the last one for what is no allocation."""
        return self.index.get(answer, len(self.answers))

    def win_probability(self, task: Task, answers: Sequence[str]) -> Floats:
        """[K, K] the probability that each answer wins against each other one."""
        rows = [self.number(answer) for answer in answers]
        found: Floats = self.payoff[np.ix_(rows, rows)]
        return found

    def demonstrate(self, task: Task, rng: np.random.Generator) -> str:
        """An allocation, drawn uniformly."""
        return self.answers[int(rng.integers(len(self.answers)))]


def _payoffs(coins: int, fields: int) -> tuple[list[str], Floats]:
    """Allocations in OpenSpiel's order, and [A, A] win probabilities from its payoffs of 1, 0 and -1."""
    try:
        import pyspiel
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[games]"') from None
    game = pyspiel.load_matrix_game(f"blotto(coins={coins},fields={fields},players=2)")
    names = [game.row_action_name(action) for action in range(game.num_rows())]
    answers = [name.strip("[]").replace(",", " ") for name in names]
    payoff = np.array(game.row_utilities(), np.float64).reshape(game.num_rows(), game.num_cols())
    return answers, (payoff + 1) / 2
