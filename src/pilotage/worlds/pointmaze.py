"""PointMaze of gymnasium-robotics: a ball is pushed through a maze to a goal.

Goals in some cells are never asked for in training: those are what a policy is judged on.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds.base import GoalWorld
from pilotage.worlds.gym import GymWorld

try:
    with contextlib.redirect_stderr(io.StringIO()):  # its news is about hands, which are none of ours
        import gymnasium_robotics
except ModuleNotFoundError as error:
    raise UsageError(f'{error}: pip install "pilotage[robots]"') from None

gymnasium.register_envs(gymnasium_robotics)

HELD_OUT = 3  # every third cell's goals are held out
Cell = tuple[int, int]


def known_maze(name: str) -> str:
    """`name` if there is such a maze. Raises UsageError with the nearest."""
    found = [env.removeprefix("PointMaze_").removesuffix("-v3") for env in gymnasium.registry if "PointMaze_" in env]
    mazes = [maze for maze in found if "Dense" not in maze and "Diverse" not in maze]
    if name not in mazes:
        raise UsageError(f"there is no maze {name!r}; {nearest(name, mazes)}")
    return name


class Repeated(gymnasium.Wrapper):  # type: ignore[misc]  # gymnasium is not typed here
    """Takes every action `times` times, or until the episode ends; rewards add up."""

    def __init__(self, env: Any, times: int) -> None:
        super().__init__(env)
        self.times = times

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        total = 0.0
        for _ in range(self.times):
            raw, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return raw, total, terminated, truncated, info


class PointMazeWorld(GoalWorld, GymWorld):
    """The maze `maze` (UMaze, Open, Medium, Large); an episode ends with a reward of 1 within 0.45 of the goal, or
    after `limit` steps with 0.

    Observations are [n, 6]: position and velocity (x, y, vx, vy), then the goal (x, y), which speaks of the entries
    `achieved`. Actions are forces in [-1, 1]², each held for `repeat` steps of 10 ms. A task is a start and a goal, at
    least `apart` cells apart; goals in every third free cell are held out. goal: one (x, y) for all tasks instead.
    `ends_at_goal` false: play goes on to the limit. Raises UsageError for a goal in a wall or outside the maze."""

    metric: ClassVar[str] = "success"
    reward_range = (0.0, 1.0)
    achieved: ClassVar[tuple[int, ...]] = (0, 1)
    player: ClassVar[str] = "pilotage.policies.waypoints:Wanderer"
    playground: ClassVar[Mapping[str, Any]] = {"ends_at_goal": False}

    def __init__(
        self,
        *,
        maze: str = "Medium",
        limit: int = 200,
        repeat: int = 5,
        apart: int = 4,
        goal: Sequence[float] | None = None,
        ends_at_goal: bool = True,
        seed: int = 0,
    ) -> None:
        if limit < 1 or repeat < 1:
            raise UsageError("limit and repeat are at least 1")
        self.repeat = repeat
        settings = {"continuing_task": not ends_at_goal, "max_episode_steps": limit * repeat}
        super().__init__(env_id=f"PointMaze_{known_maze(maze)}-v3", settings=settings, seed=seed)
        inner = self._spare.unwrapped.maze
        self.walls = np.array(inner.maze_map) == 1
        self._centre, self._scale = (
            (float(inner.x_map_center), float(inner.y_map_center)),
            float(inner.maze_size_scaling),
        )
        self.cells: list[Cell] = [(int(i), int(j)) for i, j in zip(*np.nonzero(~self.walls), strict=True)]
        self.goal = None if goal is None else self._checked(goal, maze)
        self.apart = apart

    def _make(self) -> Any:
        return Repeated(super()._make(), self.repeat)

    def observed_space(self, source: spaces.Space[Any]) -> spaces.Box:
        width = sum(source[name].shape[0] for name in ("observation", "desired_goal"))
        return spaces.Box(-np.inf, np.inf, (width,), np.float32)

    def encode(self, raw: Any) -> NDArray[np.float32]:
        return np.concatenate([raw["observation"], raw["desired_goal"]]).astype(np.float32)

    def place(self, cell: Cell) -> tuple[float, float]:
        """(x, y) of a cell's middle."""
        row, column = cell
        return (column + 0.5) * self._scale - self._centre[0], self._centre[1] - (row + 0.5) * self._scale

    def cell(self, x: float, y: float) -> Cell:
        """The cell that holds a point."""
        return int(np.floor((self._centre[1] - y) / self._scale)), int(np.floor((x + self._centre[0]) / self._scale))

    def _checked(self, goal: Sequence[float], maze: str) -> tuple[float, float]:
        try:
            x, y = (float(value) for value in goal)
        except (TypeError, ValueError):
            raise UsageError(f"a goal is a place (x, y), not {goal!r}") from None
        if not (np.isfinite([x, y]).all() and self.cell(x, y) in self.cells):
            free = min(self.cells, key=lambda cell: np.hypot(*np.subtract(self.place(cell), np.nan_to_num([x, y]))))
            raise UsageError(
                f"the goal ({x:g}, {y:g}) is outside the free cells of {maze}; the nearest free place is "
                f"({self.place(free)[0]:g}, {self.place(free)[1]:g})"
            )
        return x, y

    def task(self, index: int, split: Split) -> Task:
        """Its payload is the environment's seed, the start's and the goal's cell."""
        task = super().task(index, split)
        rng = Streams(self.seed).generator(f"maze {split}", index=index)
        held = [cell for i, cell in enumerate(self.cells) if (i % HELD_OUT == 1) == (split == "held_out")]
        goal = self.cell(*self.goal) if self.goal is not None else held[int(rng.integers(len(held)))]
        steps = distances(self.walls, goal)
        far = [cell for cell in self.cells if steps[cell] >= self.apart] or [
            cell for cell in self.cells if steps[cell] == steps[~self.walls].max()
        ]
        start = far[int(rng.integers(len(far)))]
        return Task(index, split, payload={**task.payload, "goal": list(goal), "start": list(start)})

    def reset_settings(self, task: Task) -> dict[str, Any]:
        cells = {"goal_cell": task.payload["goal"], "reset_cell": task.payload["start"]}
        return {"options": {name: np.array(cell) for name, cell in cells.items()}}

    def _start(self, task: Task, lane: int) -> NDArray[Any]:
        found = super()._start(task, lane)
        if self.goal is not None:
            self._envs[lane].unwrapped.goal = np.array(self.goal)
            found[-2:] = self.goal
        return found

    def routes(self, start: Cell, goal: Cell, slack: int, limit: int = 64) -> list[list[Cell]]:
        """Ways from start to goal that visit no cell twice and are at most `slack` steps longer than the shortest, in a
        fixed order, at most `limit` of them."""
        left = distances(self.walls, goal)
        found: list[list[Cell]] = []

        def extend(way: list[Cell]) -> None:
            if way[-1] == goal:
                found.append(list(way))
                return
            for near in neighbours(way[-1]):
                if len(found) < limit and near not in way and len(way) + left[near] <= left[start] + slack:
                    extend([*way, near])

        extend([start])
        return found


def neighbours(cell: Cell) -> list[Cell]:
    """The four cells beside one."""
    row, column = cell
    return [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]


def distances(walls: NDArray[np.bool_], goal: Cell) -> NDArray[np.float64]:
    """Steps from every free cell to the goal's; infinite where there is no way, and in walls. Mazes have walls around
    them."""
    found = np.full(walls.shape, np.inf)
    found[goal] = 0
    edge = [goal]
    while edge:
        here = edge.pop(0)
        for near in neighbours(here):
            if not walls[near] and found[near] == np.inf:
                found[near] = found[here] + 1
                edge.append(near)
    return found
