"""What a world is: it makes problems real. Batched over *lanes*, independent copies that run side by side.

Imports no torch: verifier processes load this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pilotage.data.tasks import Split, Task


@dataclass(frozen=True)
class Outcome:
    """What one `step` gave, one entry per stepped lane.

    observation: [n, …] array, or a list of texts. It is the true next observation, also at the end of an episode.
    reward, terminated, truncated: [n]. `truncated` is the world's own time limit only.
    invalid: lane position in this call → reason; such an episode is over and must not be learnt from.
    success: [n] whether what the task asked for holds at this step, where the world says so; an episode succeeds if it
        held at any of its steps.
    """

    observation: Any
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    invalid: dict[int, str] = field(default_factory=dict)
    success: NDArray[np.bool_] | None = None


class World(ABC):
    """A source of tasks and what happens when one acts on them.

    `observation` and `action` are a `Text` or a gymnasium space. `metric` names what an evaluation reports: "accuracy"
    where the reward is a verdict in [0, 1], "success" where outcomes tell it and it is what counts, "return" elsewhere.
    `reward_range` bounds an episode's return. `longest`: how many decisions an episode has at the most, where the world
    has a limit.
    """

    observation: Any
    action: Any
    metric: ClassVar[str] = "return"
    reward_range: tuple[float, float] = (-np.inf, np.inf)
    longest: int | None = None

    @property
    def kind(self) -> str:
        """What methods apply, by the actions: "text", "discrete" or "box"; families of their own override this."""
        return {"Text": "text", "Box": "box"}.get(type(self.action).__name__, "discrete")

    def quality(self, returns: Any) -> Any:
        """Returns (a number, an array or a tensor) as shares of their range, from 0 to 1; where it has no bounds, as
        they are."""
        low, high = self.reward_range
        return (returns - low) / (high - low) if np.isfinite([low, high]).all() else returns

    @abstractmethod
    def task(self, index: int, split: Split) -> Task:
        """Task number `index` of a split, the same at every call; no task of one split is a task of the other."""

    @abstractmethod
    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> Any:
        """Starts tasks on lanes (made as needed); returns their observations, [n, …] or a list of texts."""

    @abstractmethod
    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """One action on each named lane."""

    def state_dict(self) -> dict[str, Any]:
        """What goes on between steps (unfinished episodes on lanes); nothing where every step starts anew."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (most worlds hold nothing)
        """Takes unfinished episodes up again. Raises RuntimeError where they cannot be."""

    def close(self) -> None:  # noqa: B027  (most worlds hold nothing)
        """Frees processes and windows."""


class GoalWorld(World):
    """A world of goals: observations end with one, which speaks of the entries `achieved` of what stands before it."""

    achieved: ClassVar[tuple[int, ...]] = ()
    kind = "goals"


@runtime_checkable
class Playable(Protocol):
    """A world in which one can play without a task: `player` is the import path of a policy, made with the world, and
    `playground` the settings of a world in which play goes on."""

    player: str
    playground: Mapping[str, Any]


@runtime_checkable
class Scripted(Protocol):
    """A world that comes with a hand-written policy, which demonstrations are made with."""

    def scripted(self, observation: NDArray[Any]) -> NDArray[Any]:
        """[n, …] observations → [n, …] actions."""


@runtime_checkable
class Categorised(Protocol):
    """A world whose tasks fall into categories: `categories`, easiest first where it knows; `beyond`, those that
    evaluations may ask for and training never does."""

    categories: tuple[str, ...]
    beyond: tuple[str, ...]

    def task_of(self, category: str, index: int, split: Split) -> Task:
        """Task number `index` of a category in a split, the same at every call; its `category` says which."""
