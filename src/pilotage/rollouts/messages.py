"""Messages of a speaking policy to a world of texts: several episodes for each task, one or more turns."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.batch import Batch, Stop, from_episodes
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, Rollout
from pilotage.worlds.base import World


class Transcript:
    """One episode as it grows: token ids, which the policy sampled, log-probs, turns and rewards."""

    def __init__(self, task: Task, prompt: list[int]) -> None:
        self.task = task
        self.tokens: list[Tensor] = [torch.tensor(prompt)]
        self.logp: list[Tensor] = [torch.zeros(len(prompt))]
        self.sampled: list[bool] = [False] * len(prompt)
        self.turn: list[int] = [0] * len(prompt)
        self.reward: list[float] = [0.0] * len(prompt)
        self.answers: list[str] = []
        self.stop = Stop.LENGTH
        self.reason = ""

    def hear(self, tokens: list[int], turn: int) -> None:
        """Tokens the policy did not make."""
        self.tokens.append(torch.tensor(tokens, dtype=torch.int64))
        self.logp.append(torch.zeros(len(tokens)))
        self._mark(len(tokens), False, turn)

    def say(self, tokens: Tensor, logp: Tensor, turn: int) -> None:
        """A message of the policy."""
        self.tokens.append(tokens)
        self.logp.append(logp)
        self._mark(len(tokens), True, turn)

    def _mark(self, count: int, sampled: bool, turn: int) -> None:
        self.sampled += [sampled] * count
        self.turn += [turn] * count
        self.reward += [0.0] * count


class Messages(Rollout):
    """`samples` answers to each of `prompts` tasks; where the world goes on, up to `max_turns` messages.

    The record is token ids, prompt included (`sampled` false there); turns are concatenated and nothing is ever encoded
    twice. The reward of a message stands at its last token. A message cut by the token limit is judged as it stands.
    """

    def __init__(self, *, temperature: float = 1.0, max_turns: int = 8) -> None:
        self.temperature, self.max_turns = temperature, max_turns

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        tasks = [next_task() for _ in range(prompts)]
        return self.converse(policy, world, tasks, samples, streams, "rollout", step)

    def converse(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        """The groups of these tasks, `samples` episodes each."""
        if not isinstance(policy, SpeakingPolicy):
            raise TypeError("the messages rollout needs a policy that speaks")
        spread = [task for task in tasks for _ in range(samples)]
        opening = world.reset(spread, range(len(spread)))
        prompts = [policy.encode(text, prompt=True) for text in opening[::samples]]
        scripts = [Transcript(task, prompts[i // samples]) for i, task in enumerate(spread)]
        live = list(range(len(spread)))
        for turn in range(self.max_turns):
            uniforms = streams.generator(stream, step, turn).random((len(spread), world.action.max_tokens))
            contexts = [torch.cat(scripts[i].tokens) for i in (live[::samples] if turn == 0 else live)]
            said = policy.speak(
                contexts,
                torch.from_numpy(uniforms)[live],
                temperature=self.temperature,
                repeats=samples if turn == 0 else 1,
            )
            texts = [policy.decode(tokens) for tokens in said.tokens]
            outcome = world.step(texts, live)
            following = []
            for i, row in enumerate(live):
                script = scripts[row]
                script.say(said.tokens[i], said.logp[i], turn)
                script.answers.append(texts[i])
                script.reward[-1] += float(outcome.reward[i])
                script.reason = outcome.invalid.get(i, "")
                if script.reason:
                    script.stop = Stop.INVALID
                elif outcome.terminated[i]:
                    script.stop = Stop.TERMINATED if said.closed[i] else Stop.LENGTH
                elif outcome.truncated[i]:
                    script.stop = Stop.TIME_LIMIT
                else:
                    script.hear(policy.encode(outcome.observation[i], prompt=True), turn + 1)
                    following.append(row)
            live = following
            if not live:
                break
        return _record(scripts, samples)


def _record(scripts: list[Transcript], samples: int) -> Batch:
    stop = torch.tensor([int(script.stop) for script in scripts])
    return from_episodes(
        {
            "action": [torch.cat(script.tokens) for script in scripts],
            "behaviour_logp": [torch.cat(script.logp) for script in scripts],
            "sampled": [torch.tensor(script.sampled) for script in scripts],
            "turn": [torch.tensor(script.turn) for script in scripts],
            "reward": [torch.tensor(script.reward, dtype=torch.float32) for script in scripts],
        },
        {
            "group": torch.arange(len(scripts)) // samples,
            "task": torch.tensor([script.task.key for script in scripts]),
            "terminated": torch.ones(len(scripts), dtype=torch.bool),
            "truncated": torch.zeros(len(scripts), dtype=torch.bool),
            "valid": stop != Stop.INVALID,
            "stop": stop,
        },
        {
            "prompt": [script.task.prompt for script in scripts],
            "answer": [" / ".join(script.answers) for script in scripts],
            "reason": [script.reason for script in scripts],
        },
    )
