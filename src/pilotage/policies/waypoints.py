"""Play in a maze: somebody who heads for one place after another, and takes now one way, now another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pilotage.policies.base import ActingPolicy, Minibatch

NEAR = 0.35  # of a cell: close enough to go on to the next


class Wanderer(ActingPolicy):
    """Heads for a random free cell; on arrival for another. Of all ways at most `slack` steps longer than the shortest
    it takes one at random, so that from one place to another there are several ways in what it plays. It steers from
    middle to middle of cells with a proportional-derivative rule, `gain` on the gap and `damping` on the velocity, and
    noise of deviation `noise` on its forces.

    maze: a world with `cells`, `cell`, `place` and `routes`, such as PointMazeWorld. Observations begin with position
    and velocity. Nothing is learnt.
    """

    remembers: ClassVar[bool] = True

    def __init__(
        self, maze: Any, *, slack: int = 2, gain: float = 2.0, damping: float = 0.4, noise: float = 0.1
    ) -> None:
        super().__init__()
        self.maze, self.slack, self.gain, self.damping, self.deviation = maze, slack, gain, damping, noise
        self.number = {cell: i for i, cell in enumerate(maze.cells)}
        self._ways: dict[tuple[int, int], list[list[int]]] = {}
        self._memory: dict[str, Tensor] = {}

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        """[steps, rows, 4]: two normal numbers for the forces, two uniform ones to choose where to and which way."""
        normal = generator.standard_normal((steps, rows, 2), dtype=np.float32)
        return torch.from_numpy(np.concatenate([normal, generator.random((steps, rows, 2), dtype=np.float32)], -1))

    def reset(self, lanes: Sequence[int]) -> None:
        held = len(self._memory["way"]) if self._memory else 0
        missing = max(lanes) + 1 - held
        if missing > 0:  # a way is a row of cells' numbers, -1 after its end; `at` is which is headed for
            fresh = {
                "way": torch.full((missing, len(self.number) + 1), -1),
                "at": torch.zeros(missing, dtype=torch.int64),
            }
            self._memory = {n: torch.cat([self._memory[n], v]) if held else v for n, v in fresh.items()}
        self._memory["way"][list(lanes)] = -1
        self._memory["at"][list(lanes)] = 0

    def memory(self) -> dict[str, Tensor]:
        return {name: values.clone() for name, values in self._memory.items()}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        self._memory = {name: values.clone() for name, values in memory.items()}

    def act(
        self, observation: Any, noise: Tensor, greedy: bool = False, lanes: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        seen = np.asarray(observation, np.float64)
        aims = np.stack([self._aim(lane, seen[i], noise[i, 2:].tolist()) for i, lane in enumerate(lanes)])
        force = self.gain * (aims - seen[:, :2]) - self.damping * seen[:, 2:4]
        pushed = torch.from_numpy(force).float().clamp(-1, 1)
        if not greedy:
            pushed = (pushed + self.deviation * noise[:, :2]).clamp(-1, 1)
        return pushed, torch.zeros(len(pushed))

    def _aim(self, lane: int, seen: np.ndarray[Any, Any], uniform: list[float]) -> tuple[float, float]:
        """The place that a lane heads for, after choosing a new way where the old one has ended."""
        way, at = self._memory["way"][lane], int(self._memory["at"][lane])
        aim: tuple[float, float] = self.maze.place(self.maze.cells[int(way[at])])
        if int(way[at]) >= 0 and np.hypot(seen[0] - aim[0], seen[1] - aim[1]) > NEAR:
            return aim
        if int(way[at]) < 0 or int(way[at + 1]) < 0:
            here = min(self.number, key=lambda cell: np.hypot(*np.subtract(self.maze.place(cell), seen[:2])))
            chosen = self._chosen(self.number[here], uniform)
            way.fill_(-1)
            way[: len(chosen)] = torch.tensor(chosen)
            at = -1 if len(chosen) == 1 else 0
        self._memory["at"][lane] = at + 1
        place: tuple[float, float] = self.maze.place(self.maze.cells[int(way[at + 1])])
        return place

    def _chosen(self, start: int, uniform: list[float]) -> list[int]:
        """A way from a cell to another one, both by number."""
        goal = int(uniform[0] * (len(self.number) - 1))
        goal += goal >= start
        if (start, goal) not in self._ways:
            cells = self.maze.cells
            found = self.maze.routes(cells[start], cells[goal], self.slack)
            self._ways[start, goal] = [[self.number[cell] for cell in way] for way in found]
        ways = self._ways[start, goal]
        return ways[min(int(uniform[1] * len(ways)), len(ways) - 1)]

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        """Nothing to learn. Raises TypeError."""
        raise TypeError("a wanderer has nothing that could be learnt")
