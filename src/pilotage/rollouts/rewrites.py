"""Answers to tasks, and to other words for those that were hard: the step's own answers say which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.data.batch import Batch, Difficulty, concatenate
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, fits, returns_by_group
from pilotage.rollouts.messages import Messages, draws, speaking
from pilotage.worlds.base import World
from pilotage.worlds.text import TextWorld

KINDS: Mapping[int, str] = {
    Difficulty.HARD: "simplify",
    Difficulty.MEDIUM: "diversify",
}  # phrases, and rules, by difficulty
MODES: Mapping[str, tuple[int, ...]] = {
    "both": (Difficulty.HARD, Difficulty.MEDIUM),
    "hard_only": (Difficulty.HARD,),
    "medium_only": (Difficulty.MEDIUM,),
    "off": (),
}
SHORTEST, LONGEST = 10, 2000  # characters of a rewrite, both outside
TRIES = 4  # of a rule that draws
FENCE = "```"


def difficulty(accuracy: Tensor, *, hard: float = 0.3, medium: float = 0.7) -> Tensor:
    """[G] 2 (hard) up to an accuracy of `hard`, 1 (medium) up to `medium`, both included, 0 above and where NaN."""
    labels = torch.zeros(len(accuracy), dtype=torch.int64)
    labels[accuracy <= medium] = Difficulty.MEDIUM
    labels[accuracy <= hard] = Difficulty.HARD
    return labels


def parsed(said: str, problem: str) -> str | None:
    """What a policy that was to rewrite a problem wrote: what stands between the first fences, or all of it where there
    are none. None where it is not longer than 10 characters, or not shorter than 2,000; problems that are as short as
    that themselves may be rewritten in more than half of their own length."""
    opened = said.find(FENCE)
    text = said
    if opened >= 0:
        inside = said[opened + len(FENCE) :]
        first, newline, rest = inside.partition("\n")
        # the fence's own line may name a language
        inside = rest if newline and re.fullmatch(r"\w*\s*", first) else inside
        text = inside.partition(FENCE)[0]
    text = text.strip()
    return text if min(SHORTEST, len(problem) // 2) < len(text) < LONGEST else None


def leaks(task: Task, text: str) -> bool:
    """Whether the answer stands in the text, as a number or word of its own, more often than in the problem."""
    if not task.answer:
        return False
    alone = re.compile(rf"(?<!\w){re.escape(task.answer)}(?!\w)")
    return len(alone.findall(text)) > len(alone.findall(task.prompt))


@dataclass
class Tally:
    """What became of a step's rewrites."""

    asked: int = 0
    malformed: int = 0  # nothing between fences, or too short or too long, for the context too
    unchanged: int = 0
    leaked: int = 0
    held_out: int = 0
    known: int = 0  # rewrites of which the world can tell whether they have the answer
    preserved: int = 0
    kept: int = 0

    def metrics(self) -> dict[str, float]:
        names = ("malformed", "unchanged", "leaked", "held_out", "kept") if self.asked else ()
        found = {f"rewrite/{name}": getattr(self, name) / self.asked for name in names}
        return found | ({"rewrite/preserved": self.preserved / self.known} if self.known else {})


class Rewritten(Messages):
    """`samples` answers to each of `prompts` tasks, and to one rewrite of each that was hard or of medium difficulty.

    The share of right answers, which is the mean return of a group's valid answers, makes a task hard (up to `hard`),
    medium (up to `medium`) or easy; `difficulty` [E] keeps that label, of the task as it is, for its rewrite too. Hard
    tasks are to be put simpler, medium ones differently; mode: "both", "hard_only", "medium_only" or "off". Rewrites
    are groups of their own, numbered from `prompts` on, `rewritten` [E]; answers to them are judged by the original.

    rewriter: "policy" asks the policy itself, in the world's words, which show it the answer too; what it writes then
    is not in the record. "rule" asks the world. temperature_of_rewrites, most_tokens: of the policy as rewriter.
    Not played: rewrites that are malformed (see `parsed`), unchanged, held out, that show the answer, and with `exact`
    those that the world knows to have another one. Raises UsageError.
    """

    def __init__(
        self,
        *,
        rewriter: str = "policy",
        mode: str = "both",
        hard: float = 0.3,
        medium: float = 0.7,
        exact: bool = False,
        temperature_of_rewrites: float = 0.7,
        most_tokens: int = 400,
        temperature: float = 1.0,
        max_turns: int = 8,
    ) -> None:
        super().__init__(temperature=temperature, max_turns=max_turns)
        if rewriter not in ("policy", "rule"):
            raise UsageError(f"rewriter is policy or rule, not {rewriter!r}")
        if mode not in MODES:
            raise UsageError(f"mode is one of {', '.join(MODES)}; not {mode!r}")
        if not 0 <= hard <= medium <= 1:
            raise UsageError(f"0 <= hard <= medium <= 1 are accuracies; not {hard:g} and {medium:g}")
        self.rewriter, self.difficulties, self.hard, self.medium = rewriter, MODES[mode], hard, medium
        self.exact, self.temperature_of_rewrites, self.most_tokens = exact, temperature_of_rewrites, most_tokens
        self.told: dict[str, float] = {}

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, TextWorld):
            raise UsageError(f"{type(world).__name__} has no problems to put in other words")
        task, streams = world.task(0, "train"), Streams(0)
        for kind in KINDS.values():  # raises where the world has no such phrase or rule
            world.phrase(kind, task, answer=task.answer)
            if self.rewriter == "rule":
                world.rewrite(kind, task, streams.generator(kind))

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        if not isinstance(world, TextWorld):
            raise TypeError("rewrites need a world of texts")
        tasks = [next_task() for _ in range(prompts)]
        first = self.converse(policy, world, tasks, samples, streams, "rollout", step)
        _, accuracy, _ = returns_by_group(first)
        labels = difficulty(accuracy, hard=self.hard, medium=self.medium)
        chosen = [i for i in range(prompts) if int(labels[i]) in self.difficulties]
        tally = Tally(asked=len(chosen))
        asked = [(tasks[i], KINDS[int(labels[i])]) for i in chosen]
        made = self._rewrites(speaking(policy), world, asked, streams, step, tally)
        pairs = [(i, task) for i, task in zip(chosen, made, strict=True) if task is not None]
        self.told = {
            "rewrite/hard": _share(labels == Difficulty.HARD),
            "rewrite/medium": _share(labels == Difficulty.MEDIUM),
        }
        self.told |= {"rewrite/rescued": 0.0, **tally.metrics()}
        first = first.with_episode(difficulty=labels[first["group"]], rewritten=torch.zeros(len(first)).bool())
        if not pairs:
            return first
        again = [task for _, task in pairs]
        second = self.converse(policy, world, again, samples, streams, "rollout/rewritten", step)
        least, _, most = returns_by_group(second)
        origin = torch.tensor([i for i, _ in pairs])
        self.told["rewrite/rescued"] = float(((accuracy[origin] <= 0) & (least < most)).sum()) / prompts
        group = second["group"]
        second = second.with_episode(
            difficulty=labels[origin][group], rewritten=torch.ones(len(second)).bool(), group=group + prompts
        )
        return concatenate([first, second])

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        said, decisions = super().says(prompts, samples, most)
        if not self.difficulties:
            return said, decisions
        return f"{said}; and as often other words for those that were {' or '.join(self._named())}", 2 * decisions

    def _named(self) -> list[str]:
        return [Difficulty(one).name.lower() for one in self.difficulties]

    def _rewrites(
        self,
        policy: SpeakingPolicy,
        world: TextWorld,
        asked: Sequence[tuple[Task, str]],
        streams: Streams,
        step: int,
        tally: Tally,
    ) -> list[Task | None]:
        """For each (task, kind) the task in other words, None where there are none to be used."""
        if self.rewriter == "policy":
            texts = self._written(policy, world, asked, streams, step)
            return [
                self._judged(policy, world, task, text, tally) for (task, _), text in zip(asked, texts, strict=True)
            ]
        found: list[Task | None] = []
        for i, (task, kind) in enumerate(asked):
            rng = streams.generator("rewrite", step, i)
            drawn = [world.rewrite(kind, task, rng) for _ in range(TRIES)]
            fresh = (text for text in drawn if text != task.prompt and not world.holds_out(text))
            found.append(self._judged(policy, world, task, next(fresh, drawn[0]), tally))
        return found

    def _written(
        self, policy: SpeakingPolicy, world: TextWorld, asked: Sequence[tuple[Task, str]], streams: Streams, step: int
    ) -> list[str | None]:
        """What the policy writes when asked for other words; None where it cannot be asked, or wrote no text."""
        requests = [task.put(world.phrase(kind, task, answer=task.answer), kind) for task, kind in asked]
        able = [i for i, task in enumerate(requests) if fits(policy, task)]
        found: list[str | None] = [None] * len(requests)
        if not able:
            return found
        prompts = [torch.tensor(policy.encode(requests[i].shown, prompt=True)) for i in able]
        most = min(self.most_tokens, world.observation.max_tokens + 1)  # and the end
        uniforms = draws(streams, "rewrite", step, 0, len(requests), most)[able]
        said = policy.speak(prompts, uniforms, temperature=self.temperature_of_rewrites)
        for i, tokens in zip(able, said.tokens, strict=True):
            found[i] = parsed(policy.decode(tokens), requests[i].prompt)
        return found

    def _judged(
        self, policy: SpeakingPolicy, world: TextWorld, task: Task, text: str | None, tally: Tally
    ) -> Task | None:
        """The task in these words, if they may be used."""
        rewritten = task.put(text or "", "rewrite")
        if not text or not fits(policy, rewritten):
            tally.malformed += 1
            return None
        preserved = world.preserves(task, text)
        tally.known += preserved is not None
        tally.preserved += preserved is True
        unchanged, leaked, held_out = text == task.prompt, leaks(task, text), world.holds_out(text)
        tally.unchanged += unchanged
        tally.leaked += leaked
        tally.held_out += held_out
        if unchanged or leaked or held_out or (self.exact and preserved is False):
            return None
        tally.kept += 1
        return rewritten

    def metrics(self) -> dict[str, float]:
        """Shares of the step's problems: `rewrite/hard`, `rewrite/medium`, `rewrite/rescued` (no answer right, but some
        and not all of the rewrite's). Shares of those to be rewritten: `rewrite/kept`, and why not: `malformed`,
        `unchanged`, `leaked`, `held_out`. `rewrite/preserved`: of well-formed rewrites of which the world can tell,
        those with the same answer."""
        return self.told


def _share(groups: Tensor) -> float:
    return float(groups.float().mean())
