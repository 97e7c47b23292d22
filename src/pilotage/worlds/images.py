"""Drawing pictures by denoising: a step is a decision, and the reward comes when the picture is done.

Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from pilotage.data.chain import Chain
from pilotage.data.piece import UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split, Task
from pilotage.worlds import pictures
from pilotage.worlds.base import Outcome, World

CLASSES, SIZE = 10, 64


def spaces_of(chain: Chain) -> tuple[spaces.Box, spaces.Box]:
    """The observation and the action space of a chain."""
    high = np.array([np.inf] * chain.size + [chain.steps, chain.labels - 1], np.float32)
    low = np.array([-np.inf] * chain.size + [0, 0], np.float32)
    return spaces.Box(low, high, dtype=np.float32), spaces.Box(-np.inf, np.inf, (chain.size,), np.float32)


class Digits(World):
    """Digits of 8 by 8 pixels, drawn in `steps` steps of denoising; `reward` says what a picture is worth.

    A task is a class to draw (task i wants class i mod 10). Each lane has its own first latent, standard normal: the
    first lane of a task in a `reset` gets the task's first, the next its second, whatever their numbers are. An action
    is the next latent; the last one is the picture, in [-1, 1]. It is a success if a judge that has no part in the
    reward takes it for the class that was wanted. See data.chain for the layout of observations and worlds.pictures for
    the rewards: compressibility, incompressibility, log_probability, brightness.
    """

    def __init__(self, *, reward: str = "compressibility", steps: int = 20, seed: int = 0) -> None:
        if reward not in pictures.REWARDS:
            raise UsageError(f"there is no reward {reward!r}; {nearest(reward, pictures.REWARDS)}")
        if steps < 1:
            raise UsageError(f"a picture takes at least one step, not {steps}")
        self.chain, self.seed = Chain(SIZE, steps, CLASSES), seed
        self.reward, self.longest = pictures.REWARDS[reward], steps
        self.observation, self.action = spaces_of(self.chain)
        self._shown = np.zeros((0, self.chain.width), np.float32)  # by lane; no steps left: nothing runs there

    @property
    def kind(self) -> str:
        return "denoise"

    def task(self, index: int, split: Split) -> Task:
        label = index % CLASSES
        return Task(index, split, category=str(label), payload={"label": label})

    def reset(self, tasks: Sequence[Task], lanes: Sequence[int]) -> NDArray[np.float32]:
        size = max(len(self._shown), max(lanes) + 1)
        self._shown = np.concatenate([self._shown, np.zeros((size - len(self._shown), self.chain.width), np.float32)])
        seen: Counter[tuple[Split, int]] = Counter()
        for task, lane in zip(tasks, lanes, strict=True):
            name = (task.split, task.key)
            drawn = Streams(self.seed).generator(f"latent {task.split}", task.key, seen[name])
            seen[name] += 1
            self._shown[lane, :SIZE] = drawn.standard_normal(SIZE, dtype=np.float32)
            self._shown[lane, SIZE:] = self.chain.steps, task.payload["label"]
        return self._shown[list(lanes)]

    def step(self, actions: Any, lanes: Sequence[int]) -> Outcome:
        """actions: the next latents [n, 64]. Raises ValueError for a lane where no picture is being drawn."""
        every = list(lanes)
        for lane in every:
            if lane >= len(self._shown) or self.chain.left(self._shown[lane : lane + 1])[0] < 1:
                raise ValueError(f"lane {lane} has no running episode: reset it first")
        latent = np.array(actions, np.float32)
        bad = ~np.isfinite(latent).all(1)
        latent[bad] = 0
        self._shown[every, :SIZE] = latent
        self._shown[every, SIZE] -= 1
        self._shown[np.array(every)[bad], SIZE] = 0
        shown = self._shown[every]
        terminated = (self.chain.left(shown) == 0) & ~bad
        reward, success = np.zeros(len(every), np.float32), np.zeros(len(every), np.bool_)
        if terminated.any():
            wanted = self.chain.label(shown[terminated]).astype(np.int64)
            reward[terminated] = self.reward(latent[terminated], wanted)
            success[terminated] = pictures.recognised(latent[terminated], wanted)
        reasons = dict.fromkeys(np.flatnonzero(bad).tolist(), "a latent is not finite")
        return Outcome(shown, reward, terminated, np.zeros_like(terminated), reasons, success)

    def examples(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All real pictures to learn from [n, 64], and the observations [n, 66] that ask for them: no latent, no steps
        left, the class."""
        pixels, label = pictures.rows_for(judging=False)
        asked = np.zeros((len(label), self.chain.width), np.float32)
        asked[:, -1] = label
        return asked, pixels

    def state_dict(self) -> dict[str, Any]:
        """What is being drawn, by lane."""
        return {"shown": self._shown.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._shown = np.array(state["shown"], np.float32)
