"""An environment of one's own for gymnasium: importing this file registers it."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Corridor(gymnasium.Env):
    """Walk right from 0 to 1 in steps of a tenth; each step costs a tenth."""

    def __init__(self, length: int = 10):
        self.length = length
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(self.length // 2))
        return self._seen(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action == 1 else -1))
        return self._seen(), -0.1, self.place >= self.length, False, {}

    def _seen(self):
        return np.array([self.place / self.length], np.float32).clip(0, 1)


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=100)
