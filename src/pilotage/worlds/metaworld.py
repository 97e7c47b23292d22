"""Meta-World's tasks for one arm: reach, push, pick and place, and 47 more, each with a scripted policy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pilotage.data.piece import UsageError, nearest
from pilotage.worlds.gym import GymWorld

try:
    from metaworld.env_dict import ENV_CLS_MAP
    from metaworld.policies import ENV_POLICY_MAP
except ModuleNotFoundError as error:
    raise UsageError(f'{error}: pip install "pilotage[robots]"') from None

HORIZON = 500  # the package's own; no task may be longer


def known_task(name: str) -> str:
    """`name` if Meta-World has such a task. Raises UsageError with the nearest."""
    if name not in ENV_CLS_MAP:
        raise UsageError(f"Meta-World has no task {name!r}; {nearest(name, ENV_CLS_MAP)}")
    return name


class Seeded(gymnasium.Wrapper):  # type: ignore[misc]  # gymnasium is not typed here
    """The environment of one task, whose goal and objects are drawn afresh from the seed of each reset.

    The package's own `Meta-World/MT1` draws from 50 settings with a generator that no reset touches, so that an episode
    would depend on those before it.
    """

    def __init__(self, name: str, horizon: int, ends_at_success: bool) -> None:
        made = ENV_CLS_MAP[name]()
        made.seeded_rand_vec, made._freeze_rand_vec, made._set_task_called = True, False, True
        made._partially_observable = False  # or the goal would be observed as zeros, also by way of this space's bounds
        made.__dict__.pop("sawyer_observation_space", None)
        made.observation_space = made.sawyer_observation_space
        made.max_path_length = horizon
        super().__init__(made)
        self.made, self.ends_at_success = made, ends_at_success

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.made.seed(seed)
        found: tuple[Any, dict[str, Any]] = self.made.reset()
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.made.step(action)
        terminated = terminated or (self.ends_at_success and bool(info["success"]))
        return observation, reward, terminated, truncated, info


for _name in ENV_CLS_MAP:
    gymnasium.register(f"Metaworld/{_name}", entry_point=f"{__name__}:Seeded", kwargs={"name": _name})


class MetaWorld(GymWorld):
    """The Meta-World task `name`, such as reach-v3, for at most `horizon` steps.

    Observations are float32 [n, 39]: hand and gripper, objects, all that of the step before, the goal. Actions are
    [n, 4] in [-1, 1]: hand movement and gripper effort. Rewards are Meta-World's shaped ones, 0 to 10 a step. An
    episode that succeeds goes on, as in Meta-World's own evaluation, unless `ends_at_success`. binary_gripper: the
    script opens (-1) or closes (+1) the gripper; Meta-World's own leave it at 0 where they have no use for it.

    Raises UsageError for an unknown task or a horizon outside 1 to 500.
    """

    metric: ClassVar[str] = "success"

    def __init__(
        self,
        *,
        name: str = "reach-v3",
        horizon: int = HORIZON,
        ends_at_success: bool = False,
        binary_gripper: bool = False,
        seed: int = 0,
    ) -> None:
        if not 1 <= horizon <= HORIZON:
            raise UsageError(f"world.horizon is 1 to {HORIZON}, not {horizon}")
        settings: Mapping[str, Any] = {"horizon": horizon, "ends_at_success": ends_at_success}
        super().__init__(env_id=f"Metaworld/{known_task(name)}", settings=settings, seed=seed)
        self.script, self.binary_gripper = ENV_POLICY_MAP[name](), binary_gripper

    def scripted(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """[n, 39] → [n, 4]: the package's scripted policy, whose answers are those of one observation each."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for more than the arm can do, and says so at every step
            asked = [self.script.get_action(row) for row in np.asarray(observation, np.float64)]
        found: NDArray[np.float32] = np.clip(np.stack(asked), self.action.low, self.action.high).astype(np.float32)
        if self.binary_gripper:
            found[:, 3] = np.where(found[:, 3] > 0.5, 1, -1)
        return found
