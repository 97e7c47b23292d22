"""Answers to tasks, and where all of a group are wrong, answers again with a beginning of the solution shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pilotage.data.batch import Batch, concatenate
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.learn.switches import Hysteresis, Step
from pilotage.policies.base import Policy
from pilotage.rollouts.base import NextTask, fits, returns_by_group
from pilotage.rollouts.messages import Messages, speaking
from pilotage.rollouts.variants import HINTS, hinted
from pilotage.worlds.base import World
from pilotage.worlds.text import TextWorld


class Hinted(Messages):
    """`samples` answers to each of `prompts` tasks; groups of which no answer is worth anything are asked again, with
    the first `ratios[0]` of the world's solution in the prompt, those that fail still with `ratios[1]`, and so on.

    The last answers to a task are its group, with the prompt that they were given to; a group that succeeded is never
    asked again. A group without a valid answer says nothing of the task and is left alone, as is one whose hint is too
    long for the policy's context.
    cold_start: no hints before this step. on, off: in place of always, hints are given from a step on in which the
    share of groups without a success reaches `on`, until it falls to `off`. What is asked again is not in the record
    but is counted as generated. Raises UsageError for ratios that do not rise within (0, 1), and for a world without
    solutions.
    """

    def __init__(
        self,
        *,
        ratios: Sequence[float] = HINTS,
        cold_start: int = 20,
        on: float | None = None,
        off: float | None = None,
        temperature: float = 1.0,
        max_turns: int = 8,
    ) -> None:
        super().__init__(temperature=temperature, max_turns=max_turns)
        self.ratios = tuple(float(ratio) for ratio in ratios)
        if list(self.ratios) != sorted(set(self.ratios)) or not all(0 < ratio < 1 for ratio in self.ratios):
            raise UsageError(f"hint ratios lie between 0 and 1 and rise; not {list(self.ratios)}")
        if (on is None) != (off is None):
            raise UsageError("hints that come and go need both shares, on and off")
        self.warm = Step(cold_start)
        self.needed = None if on is None or off is None else Hysteresis(on, off)
        self.told: dict[str, float] = {}

    def check(self, policy: Policy, world: World) -> None:
        if not isinstance(world, TextWorld):
            raise UsageError(f"{type(world).__name__} has no solutions to give hints of")
        world.solution(world.task(0, "train"))  # raises where there is none

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        tasks = [next_task() for _ in range(prompts)]
        rounds = [self.converse(policy, world, tasks, samples, streams, "rollout", step)]
        first = torch.arange(prompts)  # where each task's answers stand among the groups of all rounds
        ratio = torch.zeros(prompts)
        least, _, most = returns_by_group(rounds[0])
        failed, silent = most <= 0, ~(least < most)
        self.told = {"hint/failed": _share(failed), "hint/no_signal": _share(silent)}
        for stage in self.ratios if self._given(step, self.told["hint/failed"]) else ():
            again = {int(i): hinted(world, tasks[i], stage) for i in failed.nonzero().flatten().tolist()}
            again = {i: task for i, task in again.items() if fits(speaking(policy), task)}
            if again:
                asked, at = torch.tensor(list(again)), sum(len(batch) for batch in rounds) // samples
                rounds.append(
                    self.converse(
                        policy, world, list(again.values()), samples, streams, f"rollout/hint {stage:g}", step
                    )
                )
                first[asked], ratio[asked] = torch.arange(at, at + len(asked)), stage
                least, _, most = returns_by_group(rounds[-1])
                failed[asked], silent[asked] = most <= 0, ~(least < most)
            self.told[f"hint/no_signal {stage:g}"] = _share(silent)
            self.told[f"hint/solved {stage:g}"] = _share((ratio == stage) & ~failed)
        self.told |= {"hint/ratio": float(ratio.mean()), "hint/hinted": _share(ratio > 0)}
        if len(rounds) == 1:
            return rounds[0]
        episodes = (first[:, None] * samples + torch.arange(samples)).flatten()
        found = concatenate(rounds).select(episodes)
        return found.with_episode(group=torch.arange(prompts).repeat_interleave(samples))

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        said, decisions = super().says(prompts, samples, most)
        return f"{said}; where all of a group are wrong, again with hints, up to {len(self.ratios)} times", decisions

    def _given(self, step: int, failed: float) -> bool:
        """Whether hints are given in this step, by the share of groups that failed without."""
        needed = self.needed is None or self.needed(failed)
        on = self.warm(step) and needed and bool(self.ratios)
        self.told["hint/on"] = float(on)
        return on

    def metrics(self) -> dict[str, float]:
        """`hint/failed`: groups without a success before hints; `hint/no_signal` with equal returns, before hints and
        after each stage; `hint/solved`: by stage; `hint/ratio`: the mean of what is shown; `hint/hinted`, `hint/on`."""
        return self.told

    def state_dict(self) -> dict[str, Any]:
        return {} if self.needed is None else {"needed": self.needed.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        if self.needed is not None:
            self.needed.load_state_dict(state["needed"])


def _share(groups: Tensor) -> float:
    return float(groups.float().mean())
