"""Whole messages, each stopped at the ends of its episodes, to see what every episode has brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

import numpy as np
import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy, score
from pilotage.rollouts.messages import draws, recorded, speaking
from pilotage.rollouts.prefixes import episode_ends
from pilotage.rollouts.stops import Stem, Stops, Thought, mean_reward
from pilotage.worlds.base import World


@dataclass
class Trail:
    """The places at which a thought was stopped, in tokens of thinking, the stems there, and the chances: before its
    first token, and at each place."""

    places: list[int]
    stems: list[Stem]
    chances: list[float]

    @property
    def progress(self) -> float:
        """The last chance less the first; NaN where either is not known."""
        return self.chances[-1] - self.chances[0]


class Traces(Stops):
    """`samples` messages to each of `prompts` tasks, as `pilotage.rollouts.messages:Messages` plays them; the thinking
    of each is stopped where its episodes end, at up to `ends` places, and answered `stops` times there.

    The chance at a place is the mean verdict on these answers (those of a whole thought have the message's own among
    them); the chance before the first token is that of answers without thinking, asked once for each task. Answers are
    not recorded and not trained. Columns: `gain` [D], at a token of thinking the chance at the next place less that at
    the one before, else 0. Per episode: `stop_reward`, the chance before the first token; `progress`, the last chance
    less this one; `stopped`, false. What rests on no valid verdict is NaN, and no gain.

    cut: a message with a verdict above 0 is cut at the place of the highest chance, the first of equals, and ends with
    the marker and an answer from there that is worth no less, if there is one. All of it is trained, the marker too
    (but no `hurry`), and its log-probs are the policy's own. ends: 0 stops nowhere. delimiter: ends an episode. The
    others are those of `pilotage.rollouts.stops:Stops`.
    Qu et al. 2025 (arXiv 2503.07572): the later online form of the authors' code and, cut, figure 6, left.
    """

    def __init__(
        self,
        *,
        ends: int = 6,
        stops: int = 4,
        cut: bool = False,
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
        if stops < 1 or ends < 0 or not delimiter:
            raise UsageError("at least one stop, ends from 0 up, and a delimiter that is not empty")
        self.ends, self.stops, self.cut, self.delimiter = ends, stops, cut, delimiter
        self.told: dict[str, float] = {}

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        said, decisions = super().says(prompts, samples, most)
        return f"{said}; and answers {self.stops} times at up to {self.ends} places of each", decisions

    def converse(
        self, policy: Policy, world: World, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Batch:
        policy = speaking(policy)
        uniforms = draws(streams, stream, step, 0, len(tasks) * samples, world.action.max_tokens)
        thoughts = self.thoughts(policy, world, tasks, samples, uniforms)
        own = [(thought.script, thought.asked) for thought in thoughts]
        self.judge(policy, world, own, [thought.closed for thought in thoughts])
        trails = self.trails(policy, world, thoughts, samples, streams, f"{stream}/ends", step)
        pairs = enumerate(zip(thoughts, trails, strict=True))
        cut = [row for row, (thought, trail) in pairs if self.cut and self.shorten(policy, world, thought, trail)]
        batch = recorded([thought.script for thought in thoughts], samples)
        if cut:
            rows = torch.tensor(cut)
            which = batch.spread(torch.zeros(len(batch), dtype=torch.bool).index_fill(0, rows, True))
            logp = batch["behaviour_logp"].clone()
            logp[which] = score(batch.select(rows), policy, "logp")
            batch = batch.with_columns(behaviour_logp=logp)
        self.told = self._told(trails, len(cut))
        return _with_gains(batch, thoughts, trails)

    def trails(
        self,
        policy: SpeakingPolicy,
        world: World,
        thoughts: Sequence[Thought],
        samples: int,
        streams: Streams,
        stream: str,
        step: int,
    ) -> list[Trail]:
        """Stops each thought, `samples` successive ones being on one task, and has the answers judged."""
        if not self.ends:
            return [Trail([], [], [nan]) for _ in thoughts]
        first = [self.forced(policy, world, thought, 0, self.stops) for thought in thoughts[::samples]]
        found = [stopped(self, policy, world, one, self.delimiter, self.ends, self.stops) for one in thoughts]
        self.answer(policy, world, [*first, *(stem for _, stems in found for stem in stems)], streams, stream, step)
        return [
            Trail(places, stems, [mean_reward(first[row // samples]), *map(mean_reward, stems)])
            for row, (places, stems) in enumerate(found)
        ]

    def shorten(self, policy: SpeakingPolicy, world: World, thought: Thought, trail: Trail) -> bool:
        """Cuts a message where the chance is highest, and its trail with it; whether there was anything to cut."""
        script, worth = thought.script, thought.script.spans[-1].reward
        known = [-1.0 if isnan(chance) else chance for chance in trail.chances[1:]]
        if script.reason or not worth > 0 or not known:
            return False
        at = known.index(max(known))
        answers = [one for one in trail.stems[at].scripts if not one.reason and one.spans[-1].reward >= worth]
        if at == len(known) - 1 or not answers:
            return False
        end = thought.asked + trail.places[at]
        closing = policy.encode(self.closing(world), prompt=False)
        answer = answers[0].context[end + len(policy.encode(self.injected(world), prompt=False)) :]
        said = torch.cat([torch.tensor(closing, dtype=torch.int64), answer])
        script.keep(end)
        script.say(said, torch.zeros(len(said)), 0)
        script.spans[-1].reward, script.stop = answers[0].spans[-1].reward, answers[0].stop
        script.answers = [policy.decode(script.context[thought.asked :])]
        trail.places, trail.stems = trail.places[: at + 1], trail.stems[: at + 1]
        trail.chances = trail.chances[: at + 2]
        return True

    def _told(self, trails: Sequence[Trail], cut: int) -> dict[str, float]:
        known = {
            "stops/reward": [trail.chances[0] for trail in trails],
            "stops/progress": [trail.progress for trail in trails],
        }
        found = {name: [value for value in values if not isnan(value)] for name, values in known.items()}
        told = {name: sum(values) / len(values) for name, values in found.items() if values}
        told["stops/places"] = sum(len(trail.places) for trail in trails) / len(trails)
        return {**told, "stops/cut": cut / len(trails)} if self.cut else told

    def metrics(self) -> dict[str, float]:
        """Of the last step: the mean chance before the first token, the mean progress of messages, places in each and,
        where messages are cut, the share that was."""
        return self.told


def stopped(
    plan: Stops, policy: SpeakingPolicy, world: World, thought: Thought, delimiter: str, most: int, count: int
) -> tuple[list[int], list[Stem]]:
    """At most `most` of the ends of a thought's episodes, evenly and with the last, and stems of `count` answers to it
    there."""
    places = [place for place in episode_ends(policy, thought, delimiter) if place < thought.length]
    if len(places) >= most:
        places = [places[i] for i in np.linspace(0, len(places) - 1, most - 1).astype(int)]
    stems = [plan.forced(policy, world, thought, place, count) for place in places]
    whole = thought.marked or thought.closed
    last = (
        plan.ended(policy, world, thought, count)
        if whole
        else plan.forced(policy, world, thought, thought.length, count)
    )
    return [*places, thought.length], [*stems, last]


def gains(chances: Sequence[float]) -> list[float]:
    """What each episode has brought, from the chances before the first and after each; they add up to the last less the
    first. An unknown chance (NaN) brings nothing, and the next is held against the last that is known."""
    found, last = [], chances[0]
    for chance in chances[1:]:
        known = not (isnan(chance) or isnan(last))
        found.append(chance - last if known else 0.0)
        last = last if isnan(chance) else chance
    return found


def _with_gains(batch: Batch, thoughts: Sequence[Thought], trails: Sequence[Trail]) -> Batch:
    gain = torch.zeros(batch.decisions)
    for row, (thought, trail) in enumerate(zip(thoughts, trails, strict=True)):
        start = int(batch.offsets[row]) + thought.asked
        for (begin, end), brought in zip(pairwise((0, *trail.places)), gains(trail.chances), strict=True):
            gain[start + begin : start + end] = brought
    return batch.with_columns(gain=gain).with_episode(
        stop_reward=torch.tensor([trail.chances[0] for trail in trails]),
        progress=torch.tensor([trail.progress for trail in trails]),
        stopped=torch.zeros(len(batch), dtype=torch.bool),
    )
