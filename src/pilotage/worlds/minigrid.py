"""MiniGrid and BabyAI: the partial view and the direction as one flat vector of ones and zeros."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pilotage.data.piece import UsageError
from pilotage.worlds.gym import GymWorld

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pygame's, about packages that are none of ours
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX  # registers the environments too
except ModuleNotFoundError as error:
    raise UsageError(f'{error}: pip install "pilotage[control]"') from None

KINDS = (len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX))  # 11 objects, 6 colours, 3 states
DIRECTIONS = 4


def full_id(name: str) -> str:
    """The id of a short name: `Empty-5x5` is `MiniGrid-Empty-5x5-v0`; ids stay as they are."""
    tries = (name, f"{name}-v0", f"MiniGrid-{name}", f"MiniGrid-{name}-v0", f"BabyAI-{name}", f"BabyAI-{name}-v0")
    return next((candidate for candidate in tries if candidate in gymnasium.registry), name)


class MiniGridWorld(GymWorld):
    """The MiniGrid or BabyAI environment `env_id`, which may be short (`Empty-5x5`).

    Observations are float32 [n, 7 * 7 * 20 + 4] for the usual view of 7 × 7 cells: each cell's object, colour and state
    and the direction, one-hot; the mission's text is left out. actions: only the first so many of the 7 (left, right,
    forward, pick up, drop, toggle, finish). Rewards are MiniGrid's: 0, and at success 1 - 0.9 steps / limit.

    Raises UsageError as GymWorld does, and for environments without MiniGrid's observations.
    """

    metric: ClassVar[str] = "return"
    reward_range = (0.0, 1.0)

    def __init__(
        self, *, env_id: str = "Empty-5x5", actions: int = 7, settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(env_id=full_id(env_id), settings=settings, seed=seed)
        if not isinstance(self.action, spaces.Discrete) or not 1 <= actions <= self.action.n:
            raise UsageError(f"{env_id} has the actions {self.action}; it cannot be given the first {actions}")
        self.action = spaces.Discrete(actions)

    def observed_space(self, source: spaces.Space[Any]) -> spaces.Box:
        if not isinstance(source, spaces.Dict) or not {"image", "direction"} <= set(source.spaces):
            raise UsageError(f"{self._spec.id} has no MiniGrid observations but {source}; try gym:{self._spec.id}")
        cells = int(np.prod(source["image"].shape[:2]))
        # where each of the image's numbers has its own block of the vector: one addition then finds all the ones
        starts = np.concatenate([[0], np.cumsum(np.tile(KINDS, cells))])
        self._starts, self._direction = starts[:-1], int(starts[-1])
        return spaces.Box(0.0, 1.0, (self._direction + DIRECTIONS,), np.float32)

    def encode(self, raw: Any) -> NDArray[np.float32]:
        found = np.zeros(self._direction + DIRECTIONS, np.float32)
        found[self._starts + raw["image"].reshape(-1)] = 1.0
        found[self._direction + int(raw["direction"])] = 1.0
        return found
