"""Forced stops: a thought is restored up to a point, made to end, answered several times and judged.

What is restored and what is injected is not trained. Plans that ask how far a policy has come while it thinks, and the
measures that ask the same, are made of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.messages import Messages, Said, Transcript, draws, extend, opened
from pilotage.worlds.base import World
from pilotage.worlds.text import TextWorld


@dataclass
class Thought:
    """A message as sampled, split: the first `asked` tokens are the prompt, `length` more the thinking.

    marked: the marker stands at the end of the thinking, and an answer may follow. closed: the message ended by itself.
    """

    script: Transcript
    asked: int
    length: int
    marked: bool
    closed: bool

    @property
    def said(self) -> Tensor:
        """All tokens after the prompt."""
        return self.script.context[self.asked :]


@dataclass
class Stem:
    """Transcripts that have a beginning in common, of which `asked` tokens are the prompt. All but the first `whole`
    are still to be answered, in at most `room` tokens; `closed` says of the whole ones whether they ended by
    themselves."""

    scripts: list[Transcript]
    asked: int
    room: int
    closed: tuple[bool, ...] = ()

    @property
    def open(self) -> list[Transcript]:
        """Those without an answer, where there is room for one."""
        return self.scripts[len(self.closed) :] if self.room > 0 else []


class Stops(Messages):
    """What plans with forced stops share. Raises UsageError for a world whose problems are not one message each.

    marker: the text that closes thinking; None: the world's own `marker`, or none, and then a message is all thinking
        and a stop injects nothing. hurry: put before the marker where a thought is stopped by force. answer_tokens:
        bound of an answer, within what the world allows a message. strict: a message with other than one marker is
        worth 0.
    """

    def __init__(
        self,
        *,
        marker: str | None = None,
        hurry: str = "",
        answer_tokens: int | None = None,
        strict: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(temperature=temperature, max_turns=1)
        if answer_tokens is not None and answer_tokens < 1:
            raise UsageError(f"answer_tokens is at least 1, or none, not {answer_tokens}")
        self.marker, self.hurry, self.answer_tokens, self.strict = marker, hurry, answer_tokens, strict

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, TextWorld):
            raise UsageError(f"forced stops need a world of problems with one message each, not {type(world).__name__}")
        if isinstance(policy, SpeakingPolicy):
            policy.encode(self.injected(world), prompt=False)

    def closing(self, world: World) -> str:
        """The text that closes thinking here; empty where there is none."""
        return getattr(world, "marker", "") if self.marker is None else self.marker

    def injected(self, world: World) -> str:
        """What ends a thought by force."""
        return self.hurry + closing if (closing := self.closing(world)) else ""

    def thoughts(
        self,
        policy: SpeakingPolicy,
        world: World,
        tasks: Sequence[Task],
        samples: int,
        uniforms: Tensor,
        most: int | None = None,
    ) -> list[Thought]:
        """`samples` messages to each task, by uniforms [tasks · samples, tokens]; a thought that has not ended by
        itself within `most` tokens is cut there."""
        scripts = opened(policy, world, [task for task in tasks for _ in range(samples)])
        asked = [len(script) for script in scripts]
        said = extend(policy, scripts, uniforms, turn=0, temperature=self.temperature, repeats=samples)
        marker, found = self.closing(world), []
        for script, start, closed in zip(scripts, asked, said.closed, strict=True):
            tokens = script.context[start:]
            most_here = len(tokens) if most is None else min(most, len(tokens))
            at = ends(policy, tokens, marker)[:1] if marker else []
            if at and at[0] <= most_here:
                found.append(Thought(script, start, at[0], True, closed))
            else:
                found.append(Thought(script, start, most_here, False, closed and len(tokens) == most_here))
        return found

    def forced(
        self, policy: SpeakingPolicy, world: World, thought: Thought, length: int, count: int, trained: bool = False
    ) -> Stem:
        """A stem of `count` transcripts of a thought that is stopped after `length` tokens; with `trained`, the first
        of them is the thought itself, cut there. Without room for an answer a stop injects nothing and answers
        nothing."""
        tokens = policy.encode(self.injected(world), prompt=False)
        room = self.room(policy, world, thought.asked, length + len(tokens))
        base = thought.script.fork(thought.asked + length)
        own = [thought.script] if trained else []
        for script in own:
            script.keep(thought.asked + length)
        if room <= 0:
            return Stem(own or [base], thought.asked, 0)
        for script in (base, *own):
            script.hear(tokens, 0)
        policy.generated.injected += len(tokens)
        others = [base, *(base.fork(len(base)) for _ in range(count - len(own) - 1))]
        return Stem([*own, *others[: count - len(own)]], thought.asked, room)

    def ended(self, policy: SpeakingPolicy, world: World, thought: Thought, count: int, trained: bool = False) -> Stem:
        """A stem of `count` transcripts of a thought that ended by itself: the message as it was said and, where a
        marker stands in it, other answers after the same thought. Without, all is said, and it stands alone."""
        script, length = thought.script, thought.asked + thought.length
        room = self.room(policy, world, thought.asked, thought.length)
        closed = thought.closed
        own = script if trained else script.fork(len(script))
        if not thought.marked:
            return Stem([own], thought.asked, 0, (closed,))
        if len(script) > length + room:
            own.keep(length + room)
            closed = False
        others = [script.fork(length) for _ in range(count - 1)]
        return Stem([own, *(others if room > 0 else [])], thought.asked, room, (closed,))

    def room(self, policy: SpeakingPolicy, world: World, asked: int, used: int) -> int:
        """Tokens there are for an answer, after so many of the prompt and of the message."""
        most = int(world.action.max_tokens)
        context = getattr(policy, "context", None)
        left = (most if context is None else min(most, context - asked)) - used
        return left if self.answer_tokens is None else min(left, self.answer_tokens)

    def answer(
        self, policy: SpeakingPolicy, world: World, stems: Sequence[Stem], streams: Streams, stream: str, step: int
    ) -> None:
        """Samples the answers that are missing and has all transcripts judged, each as one message."""
        waiting = [stem for stem in stems if stem.open]
        scripts = [script for stem in waiting for script in stem.open]
        closed = {id(script): ended for stem in stems for script, ended in zip(stem.scripts, stem.closed, strict=False)}
        if scripts:
            limits = [stem.room for stem in waiting for _ in stem.open]
            said = extend(
                policy,
                scripts,
                draws(streams, stream, step, 0, len(scripts), max(limits)),
                turn=0,
                temperature=self.temperature,
                repeats=[len(stem.open) for stem in waiting],
                limits=limits,
            )
            closed |= zip(map(id, scripts), said.closed, strict=True)
        every = [(script, stem.asked) for stem in stems for script in stem.scripts]
        self.judge(policy, world, every, [closed.get(id(script), False) for script, _ in every])

    def judge(
        self,
        policy: SpeakingPolicy,
        world: World,
        scripts: Sequence[tuple[Transcript, int]],
        closed: Sequence[bool],
    ) -> None:
        """Gives the world each transcript's text after its prompt (so many tokens) and writes down what it says."""
        lanes = list(range(len(scripts)))
        world.reset([script.task for script, _ in scripts], lanes)
        texts = [policy.decode(script.context[asked:]) for script, asked in scripts]
        fits = [len(script) > asked for script, asked in scripts]  # else the prompt fills the context
        plain = [script for script, _ in scripts]
        if self.answered(policy, world, plain, lanes, Said(texts, list(closed), fits), 0):
            raise UsageError("forced stops need a world of problems with one message each")
        marker = self.closing(world)
        if self.strict and marker:
            for script, text in zip(plain, texts, strict=True):
                if text.count(marker) != 1:
                    script.spans[-1].reward = 0.0


def ends(policy: SpeakingPolicy, tokens: Tensor, mark: str) -> list[int]:
    """For each time that a text stands in the decoded tokens, how many tokens there are up to and with it."""

    def reached(size: int, number: int) -> bool:
        return policy.decode(tokens[:size]).count(mark) >= number

    found: list[int] = []
    text, at = policy.decode(tokens), 0
    for number in range(1, text.count(mark) + 1):
        at = text.index(mark, at) + len(mark)
        low, high = found[-1] if found else 0, len(tokens)
        if low < at <= high and reached(at, number):  # where each token is a character, it is there
            low, high = (at - 1, at) if not reached(at - 1, number) else (low, at)
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle, number) else (middle, high)
        found.append(high)
    return found


def mean_reward(stem: Stem) -> float:
    """The mean verdict of a stem's transcripts, invalid ones left out; NaN where there is none."""
    rewards = [script.spans[-1].reward for script in stem.scripts if not script.reason]
    return sum(rewards) / len(rewards) if rewards else float("nan")
