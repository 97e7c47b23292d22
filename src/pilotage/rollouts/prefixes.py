"""Going on from a prefix of an earlier thought, beside stopping there at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.messages import Transcript, draws, extend, opened, recorded, speaking
from pilotage.rollouts.stops import Stops, Thought, ends, mean_reward
from pilotage.worlds.base import World


class Prefixes(Stops):
    """`samples` messages to each of `prompts` tasks, all going on from one prefix, beside `stops` answers of a thought
    that is stopped there.

    The prefix is the beginning of a message of the policy as it is before the step's update, cut after a number of its
    episodes that is drawn uniformly from 0 to one less than there are; `delimiter` ends an episode. It is not trained.
    Per episode: `stop_reward`, the mean verdict on the stopped answers of its task (NaN where none is valid), and
    `stopped`. answered: the stopped answers are recorded too, as members of the group.
    begun: off, all prefixes are empty. The others are those of `pilotage.rollouts.stops:Stops`.
    Qu et al. 2025 (arXiv 2503.07572), figure 6.
    """

    def __init__(
        self,
        *,
        stops: int = 4,
        begun: bool = True,
        answered: bool = False,
        delimiter: str = ";",
        marker: str | None = None,
        hurry: str = "",
        answer_tokens: int | None = None,
        strict: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(
            marker=marker, hurry=hurry, answer_tokens=answer_tokens, strict=strict, temperature=temperature
        )
        if stops < 1 or not delimiter:
            raise UsageError("at least one stop, and a delimiter that is not empty")
        self.stops, self.begun, self.recorded, self.delimiter = stops, begun, answered, delimiter
        self.told: dict[str, float] = {}

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        said, decisions = super().says(prompts, samples, most)
        return f"{said}, begun or not; and answers {self.stops} times where each beginning is stopped", decisions

    def converse(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        policy = speaking(policy)
        most = int(world.action.max_tokens)
        prefixes, asked = self.prefixes(policy, world, tasks, streams, stream, step)
        begun = [len(prefix) - start for prefix, start in zip(prefixes, asked, strict=True)]
        scripts = [prefix.fork(len(prefix)) for prefix in prefixes for _ in range(samples)]
        said = extend(
            policy,
            scripts,
            draws(streams, stream, step, 0, len(scripts), most),
            turn=0,
            temperature=self.temperature,
            repeats=samples,
            limits=[most - used for used in begun for _ in range(samples)],
        )
        starts = [start for start in asked for _ in range(samples)]
        self.judge(policy, world, list(zip(scripts, starts, strict=True)), said.closed)
        stems = [
            self.forced(policy, world, Thought(prefix, start, used, False, False), used, self.stops)
            for prefix, start, used in zip(prefixes, asked, begun, strict=True)
        ]
        self.answer(policy, world, stems, streams, f"{stream}/stops", step)
        stopped = torch.tensor([mean_reward(stem) for stem in stems])
        groups = [number for number in range(len(tasks)) for _ in range(samples)]
        own = len(scripts)
        if self.recorded:
            scripts += [script for stem in stems for script in stem.scripts]
            groups += [number for number, stem in enumerate(stems) for _ in stem.scripts]
        batch = recorded(scripts, groups=groups).with_episode(
            stop_reward=stopped[torch.tensor(groups)], stopped=torch.arange(len(scripts)) >= own
        )
        going = torch.where(batch.valid, batch.returns, torch.nan)[:own]
        known = {"stops/reward": stopped, "stops/progress": going - batch["stop_reward"][:own]}
        # where no verdict is valid there is no mean to tell
        self.told = {name: float(values.nanmean()) for name, values in known.items() if not bool(values.isnan().all())}
        self.told["stops/prefix"] = sum(begun) / len(begun)
        return batch

    def prefixes(
        self, policy: SpeakingPolicy, world: World, tasks: Sequence[Task], streams: Streams, stream: str, step: int
    ) -> tuple[list[Transcript], list[int]]:
        """What is gone on from, for each task, and how many tokens of it are the prompt."""
        if not self.begun:
            scripts = opened(policy, world, tasks)
            return scripts, [len(script) for script in scripts]
        uniforms = draws(streams, f"{stream}/prefix", step, 0, len(tasks), int(world.action.max_tokens))
        thoughts = self.thoughts(policy, world, tasks, 1, uniforms)
        chosen = streams.generator(f"{stream}/cut", step).random(len(tasks))
        for thought, where in zip(thoughts, chosen, strict=True):
            places = [0, *episode_ends(policy, thought, self.delimiter)]
            thought.script = thought.script.fork(thought.asked + places[int(where * (len(places) - 1))])
        return [thought.script for thought in thoughts], [thought.asked for thought in thoughts]

    def metrics(self) -> dict[str, float]:
        """Of the last step: the mean verdict on stopped answers, the mean progress of what went on from there, and
        tokens of the prefixes."""
        return self.told


def episode_ends(policy: SpeakingPolicy, thought: Thought, delimiter: str) -> list[int]:
    """Tokens of a thought up to the end of each of its episodes: a delimiter, or the end of the thinking."""
    inner = ends(policy, thought.said[: thought.length], delimiter)
    return inner if inner and inner[-1] == thought.length else [*inner, thought.length]
