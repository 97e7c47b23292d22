"""What a rollout is, and what the plans share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import ActingPolicy, Policy, SpeakingPolicy
from pilotage.worlds.base import World

NextTask = Callable[[], Task]


class Rollout:
    """A plan: policy × world × tasks → groups. Holds state only for unfinished work."""

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        """One step's groups: `prompts` tasks, `samples` episodes each, where the plan works by tasks."""
        raise TypeError(f"{type(self).__name__} is not a plan")

    def check(self, policy: Policy, world: World) -> None:
        """Raises UsageError if the plan cannot work with these; asked once, before anything is made."""

    def check_sizes(self, world: World, prompts: int, samples: int) -> None:
        """Raises UsageError if steps of these sizes do not suit the plan; asked once, before anything is made."""

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        """What a step samples, to follow "Each step", and its decisions at the most (0: not known). most: decisions of
        an episode, or tokens of a message, that the world allows (0: it has no such bound)."""
        return f"samples with {type(self).__name__}", 0

    def metrics(self) -> dict[str, float]:
        """What there is to say of the last step."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What is unfinished."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        """Takes the unfinished work up again, on a fresh world."""


def returns_by_group(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """[G] least, mean and largest return of each group's valid episodes, in the order of group ids; NaN where there is
    none."""
    order = {group: i for i, group in enumerate(sorted(set(batch["group"].tolist())))}
    group = torch.tensor([order[group] for group in batch["group"].tolist()], dtype=torch.int64)[batch.valid]
    returns, unknown = batch.returns.double()[batch.valid], torch.full((len(order),), torch.nan, dtype=torch.float64)
    least, mean, most = (
        unknown.scatter_reduce(0, group, returns, how, include_self=False) for how in ("amin", "mean", "amax")
    )
    return least, mean, most


def fits(policy: SpeakingPolicy, task: Task) -> bool:
    """Whether the policy can be asked this task at all."""
    return policy.can_read(policy.encode(task.shown, prompt=True))


def number(value: int) -> str:
    """A count for a sentence: 12 800."""
    return f"{value:,}".replace(",", " ")


def begin(policy: ActingPolicy, lanes: Sequence[int]) -> None:
    """Tells a policy that remembers that episodes begin on these lanes."""
    if policy.remembers:
        policy.reset(lanes)


def moves(
    policy: ActingPolicy, observation: Any, noise: Tensor, lanes: Sequence[int], greedy: bool = False
) -> tuple[Tensor, Tensor]:
    """Actions and log-probs for these lanes; a policy that remembers is told which they are."""
    if policy.remembers:
        return policy.act(observation, noise, greedy, lanes=lanes)  # type: ignore[call-arg]  # see ActingPolicy.act
    return policy.act(observation, noise, greedy)


@contextmanager
def memory_aside(policy: ActingPolicy) -> Iterator[None]:
    """Plays with a memory of its own and then gives the old one back, so that judging disturbs nothing."""
    before = policy.memory()
    policy.remember({})
    try:
        yield
    finally:
        policy.remember(before)


def to_world(action: Tensor) -> np.ndarray[Any, Any]:
    """Actions as the world takes them: an array [n, …]."""
    found: np.ndarray[Any, Any] = action.numpy()
    return found


def uniform_actions(space: Any, generator: np.random.Generator, steps: int, lanes: int) -> list[tuple[Tensor, Tensor]]:
    """For each step, actions [lanes, …] uniform over a Box or Discrete space, and their log-probs [lanes]."""
    if hasattr(space, "n"):
        drawn = torch.from_numpy(generator.integers(space.n, size=(steps, lanes)))
        return [(row, torch.full((lanes,), -float(np.log(space.n)))) for row in drawn]
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    boxed = low + generator.random((steps, lanes, *low.shape)) * (high - low)
    logp = torch.full((lanes,), -float(np.log(high - low).sum()))
    return [(row, logp) for row in torch.from_numpy(boxed.astype(np.float32))]
