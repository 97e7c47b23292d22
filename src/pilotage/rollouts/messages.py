"""Messages of a speaking policy to a world of texts: several episodes for each task, one or more turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pilotage.data.batch import Batch, Stop, from_episodes
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Messages as Spoken
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, Rollout, number
from pilotage.worlds.base import World
from pilotage.worlds.text import begin


@dataclass
class Span:
    """Successive tokens of a transcript, at least one, of one turn. logp [size]: where the policy sampled them, else
    None. reward: that of the last one."""

    size: int
    logp: Tensor | None
    turn: int
    reward: float = 0.0


class Transcript:
    """One episode as it grows: `context`, all its token ids so far, from which the policy goes on, and its spans.

    begun: how many messages were given before its first one, in an episode that goes on from others; `turn` in what
    follows counts from there.
    """

    def __init__(self, task: Task, prompt: Sequence[int] | Tensor) -> None:
        self.task = task
        self.context = torch.zeros(0, dtype=torch.int64)
        self.spans: list[Span] = []
        self.answers: list[str] = []
        self.replies: list[str] = []
        self.begun = 0
        self.stop = Stop.LENGTH
        self.reason = ""
        self.hear(prompt, 0)

    def __len__(self) -> int:
        return self.context.shape[0]

    @property
    def talk(self) -> list[str]:
        """What was said and replied, in turn."""
        found = [text for pair in zip(self.answers, self.replies, strict=False) for text in pair]
        return found + self.answers[len(self.replies) :]

    def fork(self, length: int) -> Transcript:
        """A new transcript of the same task that begins with the first `length` tokens; none of them is trained in
        it."""
        return Transcript(self.task, self.context[:length])

    def keep(self, length: int) -> None:
        """Forgets all but the first `length` tokens; those stay what they are."""
        self.context, left, spans = self.context[:length], length, self.spans
        self.spans = []
        for span in spans:
            if span.size > left:
                span = Span(left, None if span.logp is None else span.logp[:left], span.turn)
            if span.size:
                self.spans.append(span)
            left -= span.size

    def hear(self, tokens: Sequence[int] | Tensor, turn: int) -> None:
        """Tokens the policy did not make: what the world said, or what is put into its mouth."""
        self._add(torch.as_tensor(tokens, dtype=torch.int64), None, turn)

    def say(self, tokens: Tensor, logp: Tensor, turn: int) -> None:
        """A message of the policy."""
        self._add(tokens, logp, turn)

    def _add(self, tokens: Tensor, logp: Tensor | None, turn: int) -> None:
        if size := tokens.shape[0]:
            self.context = torch.cat([self.context, tokens]) if self.spans else tokens
            self.spans.append(Span(size, logp, self.begun + turn))


class Messages(Rollout):
    """`samples` answers to each of `prompts` tasks; where the world goes on, up to `max_turns` messages.

    The record is token ids, prompt included (`sampled` false there); turns are concatenated and nothing is ever encoded
    twice. The reward of a message stands at its last token. A message cut by the token limit is judged as it stands.
    A task that goes on from earlier messages begins after them; they stand in the record, not `sampled`, and count as
    turns. Notes: `prompt` is what was shown first, `variant` and `category` are the task's, `talk` is what was said and
    replied as JSON, empty where one message is all (see `Batch.talk`).
    """

    def __init__(self, *, temperature: float = 1.0, max_turns: int = 8) -> None:
        self.temperature, self.max_turns = temperature, max_turns

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        tasks = [next_task() for _ in range(prompts)]
        return self.converse(policy, world, tasks, samples, streams, "rollout", step)

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        total = prompts * samples
        said = f"asks {prompts} prompts {samples} times: {number(total)} answers of at most {most} tokens each"
        return said, total * most

    def converse(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        """The groups of these tasks, `samples` episodes each."""
        policy = speaking(policy)
        scripts = opened(policy, world, [task for task in tasks for _ in range(samples)])
        self.talk(policy, world, scripts, streams, stream, step, repeats=samples)
        return recorded(scripts, samples)

    def talk(
        self,
        policy: SpeakingPolicy,
        world: World,
        scripts: list[Transcript],
        streams: Streams,
        stream: str,
        step: int,
        *,
        repeats: int = 1,
        prefixes: Sequence[str] = (),
    ) -> None:
        """Goes on with scripts that were opened, to their ends; `repeats` successive ones have one context at first.

        prefixes: what the first message of each script begins with, if given. It is not trained, and as many tokens
        fewer are left for the rest.
        """
        rows, most = len(scripts), world.action.max_tokens
        injected = [policy.encode(prefix, prompt=False) if prefix else [] for prefix in prefixes]
        for script, tokens in zip(scripts, injected, strict=False):
            if tokens:
                script.hear(tokens, 0)
                policy.generated.injected += len(tokens)
        live = list(range(rows))
        for turn in range(self.max_turns):
            begins = turn == 0 and bool(injected)
            spoken = extend(
                policy,
                [scripts[row] for row in live],
                draws(streams, stream, step, turn, rows, most)[live],
                turn=turn,
                temperature=self.temperature,
                repeats=repeats if turn == 0 else 1,
                limits=[max(1, most - len(tokens)) for tokens in injected] if begins else None,
            )
            texts = [policy.decode(tokens) for tokens in spoken.tokens]
            if begins:
                texts = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
            said = Said(texts, spoken.closed, [len(tokens) > 0 for tokens in spoken.tokens])
            going = self.answered(policy, world, scripts, live, said, turn)
            live = [row for row in going if scripts[row].begun + turn + 1 < self.max_turns]
            if not live:
                break

    def answered(
        self, policy: SpeakingPolicy, world: World, scripts: list[Transcript], live: list[int], said: Said, turn: int
    ) -> list[int]:
        """Gives the world the live scripts' messages and writes down what it says; the rows that go on.

        A script that had no room in the context for a message goes no further: in its first turn it is invalid, as
        that says nothing of the policy; later, the answer is cut.
        """
        for row in (row for row, fits in zip(live, said.fits, strict=True) if not fits):
            script = scripts[row]
            script.stop = Stop.LENGTH
            if all(span.logp is None for span in script.spans):
                script.stop, script.reason = Stop.INVALID, f"a prompt of {len(script)} tokens fills the context"
        live, said = [row for row, fits in zip(live, said.fits, strict=True) if fits], said.fitting()
        if not live:
            return []
        outcome = world.step(said.texts, live)
        following = []
        for i, row in enumerate(live):
            script = scripts[row]
            script.answers.append(said.texts[i])
            script.spans[-1].reward += float(outcome.reward[i])
            script.reason = outcome.invalid.get(i, "")
            if script.reason:
                script.stop = Stop.INVALID
            elif outcome.terminated[i]:
                script.stop = Stop.TERMINATED if said.closed[i] else Stop.LENGTH
            elif outcome.truncated[i]:
                script.stop = Stop.TIME_LIMIT
            else:
                last = int(script.context[-1])
                script.hear(policy.encode(outcome.observation[i], prompt=True, after=last), turn + 1)
                script.replies.append(outcome.observation[i])
                following.append(row)
        return following


@dataclass(frozen=True)
class Said:
    """Messages as texts, whether each closed with an end token, and whether there was room for one at all."""

    texts: list[str]
    closed: list[bool]
    fits: list[bool]

    def fitting(self) -> Said:
        """Those that there was room for."""
        kept = [i for i, fits in enumerate(self.fits) if fits]
        return Said([self.texts[i] for i in kept], [self.closed[i] for i in kept], [True] * len(kept))


def speaking(policy: Policy) -> SpeakingPolicy:
    """The policy, which has to speak. Raises TypeError."""
    if not isinstance(policy, SpeakingPolicy):
        raise TypeError("the messages rollout needs a policy that speaks")
    return policy


def opened(policy: SpeakingPolicy, world: World, tasks: Sequence[Task]) -> list[Transcript]:
    """A transcript of each task, on lanes of their own, with what the world asks first, and what was said before."""
    opening, paid = begin(world, tasks, range(len(tasks)))
    encoded: dict[str, list[int]] = {}
    for task, text in zip(tasks, opening, strict=True):
        if text not in encoded:
            encoded[text] = policy.encode(text, prompt=True)
            if task.asked:
                own = len(policy.encode(task.prompt, prompt=True))
                policy.generated.injected += max(0, len(encoded[text]) - own)
    scripts = [Transcript(task, encoded[text]) for task, text in zip(tasks, opening, strict=True)]
    for script, rewards in zip(scripts, paid, strict=True):
        for part, reward in zip(before(policy, script.task), rewards, strict=True):
            message, reply = part
            script.hear(message, 0)
            script.spans[-1].reward += reward
            script.begun += 1
            script.hear(reply, 0)
        script.answers, script.replies = list(script.task.said[::2]), list(script.task.said[1::2])
    return scripts


def before(policy: SpeakingPolicy, task: Task) -> list[tuple[list[int], list[int]]]:
    """The tokens of each message that a task goes on from, and of the reply to it, as the policy reads them."""
    heard, end = task.heard, policy.end_token
    return [
        ([*policy.encode(message, prompt=False), end], policy.encode(reply, prompt=True, after=end))
        for message, reply in zip(heard[::2], heard[1::2], strict=True)
    ]


def draws(streams: Streams, stream: str, step: int, turn: int, rows: int, tokens: int) -> Tensor:
    """[rows, tokens] uniforms for one turn of a step, by the named stream."""
    return torch.from_numpy(streams.generator(stream, step, turn).random((rows, tokens)))


def extend(
    policy: SpeakingPolicy,
    scripts: Sequence[Transcript],
    uniforms: Tensor,
    *,
    turn: int,
    temperature: float,
    repeats: int | Sequence[int] = 1,
    limits: Sequence[int] | None = None,
) -> Spoken:
    """One message more on each script, sampled from where it stands; `repeats` successive scripts (so many, or for each
    run of them as many as named) have one context.

    uniforms: [scripts, most new tokens]. limits: most new tokens of each.
    """
    if isinstance(repeats, int):
        contexts = [script.context for script in scripts[::repeats]]
    else:
        contexts = [scripts[end - count].context for end, count in zip(accumulate(repeats), repeats, strict=True)]
    said = policy.speak(contexts, uniforms, temperature=temperature, repeats=repeats, limits=limits)
    for script, tokens, logp in zip(scripts, said.tokens, said.logp, strict=True):
        script.say(tokens, logp, turn)
    return said


def recorded(scripts: Sequence[Transcript], samples: int = 1, groups: Sequence[int] | None = None) -> Batch:
    """The record of finished scripts: successive ones form groups of `samples`, unless their `groups` are named."""
    stop = torch.tensor([int(script.stop) for script in scripts])
    batch = from_episodes(
        {"action": [script.context for script in scripts]},
        {
            "group": torch.arange(len(scripts)) // samples if groups is None else torch.tensor(list(groups)),
            "task": torch.tensor([script.task.key for script in scripts]),
            "terminated": torch.ones(len(scripts), dtype=torch.bool),
            "truncated": torch.zeros(len(scripts), dtype=torch.bool),
            "valid": stop != Stop.INVALID,
            "stop": stop,
        },
        {
            "prompt": [script.task.shown for script in scripts],
            "answer": [" / ".join(script.answers) for script in scripts],
            "talk": [json.dumps(script.talk) if len(script.talk) > 1 else "" for script in scripts],
            "reason": [script.reason for script in scripts],
            "variant": [script.task.variant for script in scripts],
            "category": [script.task.category for script in scripts],
        },
    )
    spans = [span for script in scripts for span in script.spans]
    size = torch.tensor([span.size for span in spans], dtype=torch.int64)
    sampled = torch.tensor([span.logp is not None for span in spans], dtype=torch.bool).repeat_interleave(size)
    logp, reward = torch.zeros(batch.decisions), torch.zeros(batch.decisions)
    logp[sampled] = torch.cat([logp[:0], *(span.logp for span in spans if span.logp is not None)])
    reward[size.cumsum(0) - 1] = torch.tensor([span.reward for span in spans], dtype=torch.float32)
    turn = torch.tensor([span.turn for span in spans], dtype=torch.int64).repeat_interleave(size)
    return batch.with_columns(behaviour_logp=logp, sampled=sampled, turn=turn, reward=reward)
