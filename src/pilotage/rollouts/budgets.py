"""Thinking under budgets: several thoughts on each task, each stopped at several budgets and answered at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.data.budgets import by_budget
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import number
from pilotage.rollouts.messages import draws, recorded, speaking
from pilotage.rollouts.stops import Stem, Stops, Thought
from pilotage.worlds.base import World


@dataclass(frozen=True)
class Cut:
    """Answers to one thought at one place, and for which budgets (numbers) they stand, `each` for each of them; where
    they are fewer, all stand for all."""

    stem: Stem
    thought: int
    covers: range
    each: int

    def standing(self) -> list[list[int]]:
        """For each transcript the numbers of the budgets it stands for."""
        if len(self.stem.scripts) < self.each * len(self.covers):
            return [list(self.covers)] * len(self.stem.scripts)
        return [[number] for number in self.covers for _ in range(self.each)]


class Budgets(Stops):
    """`samples` thoughts on each of `prompts` tasks, stopped at budgets b_1 < … < b_S, with `answers` answers at each.

    A thought that ends by itself has one place for all budgets from there on, answered as often as they ask together;
    what it said itself is the first of these answers. Thinking is trained in one episode of its thought only, the first
    of its last place; in all others it is restored. Columns beside the usual: `segment` [D], s for thinking tokens
    b_s ≤ t < b_{s+1} where they are trained, else -1. Per episode: `thought` and `place`, numbers of the thought and of
    the place; `budgets` [E, S]; `stands_for` [E, S], 1 where the episode's score is one of that budget's.

    budgets: tokens, rising; empty: `cuts` equal parts of the world's bound. drawn: at each step all but the last are
    drawn
        from those below it, without replacement. The others are those of `pilotage.rollouts.stops:Stops`.
    Qi et al. 2025 (arXiv 2505.13438), released code.
    """

    def __init__(
        self,
        *,
        budgets: Sequence[int] = (),
        cuts: int = 4,
        drawn: bool = False,
        answers: int = 4,
        marker: str | None = None,
        hurry: str = "",
        answer_tokens: int | None = None,
        strict: bool = True,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(
            marker=marker, hurry=hurry, answer_tokens=answer_tokens, strict=strict, temperature=temperature
        )
        if cuts < 1 or answers < 1:
            raise UsageError(f"at least one cut and one answer, not {cuts} and {answers}")
        if any(later <= sooner for sooner, later in pairwise((0, *budgets))):
            raise UsageError(f"budgets are tokens that rise from 1 on, not {', '.join(map(str, budgets))}")
        self.budgets, self.cuts, self.drawn, self.answers = tuple(budgets), cuts, drawn, answers
        self.told: dict[str, float] = {}

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        places = len(self.budgets) or self.cuts
        return (
            f"thinks {samples} times about each of {prompts} prompts: {number(prompts * samples)} thoughts, stopped at "
            f"up to {places} budgets and answered {self.answers} times at each",
            0,
        )

    def check(self, policy: Policy, world: World) -> None:
        super().check(policy, world)
        self.usual(world)

    def usual(self, world: World) -> tuple[int, ...]:
        """The budgets where none are drawn. Raises UsageError for one beyond the world's bound."""
        most = int(world.action.max_tokens)
        if self.budgets and self.budgets[-1] > most:
            raise UsageError(f"a budget of {self.budgets[-1]} tokens is beyond this world's {most} for a message")
        return self.budgets or tuple(sorted({max(1, most * (s + 1) // self.cuts) for s in range(self.cuts)}))

    def of_step(self, world: World, streams: Streams, stream: str, step: int) -> tuple[int, ...]:
        """The budgets of a step."""
        usual = self.usual(world)
        if not self.drawn:
            return usual
        generator = streams.generator(f"{stream}/budgets", step)
        below = generator.choice(np.arange(1, usual[-1]), len(usual) - 1, replace=False)
        return (*sorted(below.tolist()), usual[-1])

    def converse(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        policy = speaking(policy)
        budgets = self.of_step(world, streams, stream, step)
        uniforms = draws(streams, stream, step, 0, len(tasks) * samples, world.action.max_tokens)
        thoughts = self.thoughts(policy, world, tasks, samples, uniforms, budgets[-1])
        cuts = [
            cut
            for number, thought in enumerate(thoughts)
            for cut in self.places(policy, world, thought, number, budgets)
        ]
        self.answer(policy, world, [cut.stem for cut in cuts], streams, f"{stream}/answers", step)
        batch = _recorded(cuts, thoughts, budgets, samples)
        self.told = self._told(batch, thoughts, budgets)
        return batch

    def places(
        self, policy: SpeakingPolicy, world: World, thought: Thought, number: int, budgets: Sequence[int]
    ) -> list[Cut]:
        """Where one thought is answered, in order: at the budgets before its end, and at its end or the last budget."""
        count, end = len(budgets), thought.marked or thought.closed
        before = [s for s in range(count if end else count - 1) if budgets[s] < thought.length]
        found = [Cut(self.forced(policy, world, thought, budgets[s], self.answers), number, range(s, s + 1),
        self.answers)
                 for s in before]  # fmt: skip
        rest = range(len(before), count)
        wanted = self.answers * len(rest)
        last = (
            self.ended(policy, world, thought, wanted, trained=True)
            if end
            else self.forced(policy, world, thought, thought.length, wanted, trained=True)
        )
        return [*found, Cut(last, number, rest, self.answers)]

    def _told(self, batch: Batch, thoughts: Sequence[Thought], budgets: Sequence[int]) -> dict[str, float]:
        score, known = by_budget(batch)
        names = [str(s + 1) for s in range(len(budgets))] if self.drawn else [str(b) for b in budgets]
        means = [float(score[known[:, s], s].mean()) if bool(known[:, s].any()) else 0.0 for s in range(len(budgets))]
        return {
            **{f"budgets/accuracy_{name}": mean for name, mean in zip(names, means, strict=True)},
            "budgets/accuracy": sum(means) / len(means),
            "budgets/thinking": sum(thought.length for thought in thoughts) / len(thoughts),
            "budgets/ended": sum(thought.marked or thought.closed for thought in thoughts) / len(thoughts),
        }

    def metrics(self) -> dict[str, float]:
        """Of the last step: the mean score at each budget and over budgets, tokens of thinking, and the share of
        thoughts that ended by themselves."""
        return self.told


def _recorded(cuts: Sequence[Cut], thoughts: Sequence[Thought], budgets: Sequence[int], samples: int) -> Batch:
    scripts = [script for cut in cuts for script in cut.stem.scripts]
    owner = [cut.thought for cut in cuts for _ in cut.stem.scripts]
    batch = recorded(scripts, groups=[number // samples for number in owner])
    pairs = enumerate(numbers for cut in cuts for numbers in cut.standing())
    rows, columns = zip(*((row, number) for row, numbers in pairs for number in numbers), strict=True)
    stands = torch.zeros(len(scripts), len(budgets))
    stands[list(rows), list(columns)] = 1.0
    bounds = torch.tensor(budgets)
    thinks = {id(thought.script): (thought.asked, thought.length) for thought in thoughts}
    asked, length = torch.tensor([thinks.get(id(script), (0, 0)) for script in scripts]).unbind(1)
    place = torch.arange(batch.decisions) - batch.spread(batch.offsets[:-1] + asked)
    thought = (place >= 0) & (place < batch.spread(length))
    segment = torch.where(thought, torch.bucketize(place, bounds, right=True), -1)
    places = [number for number, cut in enumerate(cuts) for _ in cut.stem.scripts]
    return batch.with_columns(segment=segment).with_episode(
        thought=torch.tensor(owner),
        place=torch.tensor(places),
        budgets=bounds.expand(len(scripts), -1).clone(),
        stands_for=stands,
    )
