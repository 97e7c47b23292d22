"""What every world promises: tasks by number, disjoint splits, failures named, episodes that resume exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.piece import Piece, UsageError
from pilotage.data.tasks import Task, Text
from pilotage.worlds.base import World
from pilotage.worlds.finite import RiverSwim
from pilotage.worlds.gym import EnvironmentFailure, GymWorld
from pilotage.worlds.images import Digits
from pilotage.worlds.minigrid import MiniGridWorld
from pilotage.worlds.modes import Sums
from pilotage.worlds.reasoning import ReasoningWorld
from pilotage.worlds.tabular import TabularWorld
from pilotage.worlds.text import Demonstrates, TextWorld

MAKERS: dict[str, Callable[[int], World]] = {
    "sums": lambda seed: ReasoningWorld(level=2, seed=seed, time_limit=None),
    "cartpole": lambda seed: GymWorld(env_id="CartPole-v1", seed=seed),
    "minigrid": lambda seed: MiniGridWorld(env_id="Empty-5x5", seed=seed),
    "modes": lambda seed: Sums(seed=seed, time_limit=None),
    "tabular": lambda seed: TabularWorld(seed=seed),
    "images": lambda seed: Digits(seed=seed),
}


def substance(task: Task) -> str:
    """What makes a task the problem it is."""
    return task.prompt or json.dumps(dict(task.payload)) or str((task.key, task.split))


@pytest.mark.parametrize("name", sorted(MAKERS))
class TestTasks:
    def test_numbers_name_tasks(self, name: str) -> None:
        first, second = MAKERS[name](1), MAKERS[name](1)
        for split in ("train", "held_out"):
            backwards = [second.task(index, split) for index in reversed(range(20))]  # type: ignore[arg-type]
            assert [first.task(index, split) for index in range(20)] == backwards[::-1]  # type: ignore[arg-type]

    def test_tasks_are_json_and_say_what_they_are(self, name: str) -> None:
        task = MAKERS[name](0).task(7, "held_out")
        assert (task.key, task.split) == (7, "held_out")
        assert json.loads(json.dumps(dict(task.payload))) == task.payload

    def test_splits_share_nothing_whatever_the_seed(self, name: str) -> None:
        if name in ("tabular", "images"):
            pytest.skip("a task is its split and number")
        seen = {
            split: {substance(MAKERS[name](seed).task(i, split)) for seed in (0, 1, 2) for i in range(400)}  # type: ignore[arg-type]
            for split in ("train", "held_out")
        }
        assert not seen["train"] & seen["held_out"]
        assert len(seen["train"]) > 100

    def test_a_lane_that_was_not_reset_is_a_mistake(self, name: str) -> None:
        world = MAKERS[name](0)
        with pytest.raises(ValueError, match="lane 3 has no running episode"):
            world.step(["1"] if isinstance(world.action, Text) else np.zeros(1, np.int64), [3])


class Few(TextWorld):
    observation = action = Text(4, "0123456789")

    def __init__(self, *, problems: int = 3, **rest: Any) -> None:
        super().__init__(**rest)
        self.problems = problems

    def make(self, rng: np.random.Generator) -> Task:
        return Task(prompt=str(rng.integers(self.problems)))

    def verify(self, task: Task, answer: str) -> float:
        return float(answer == task.prompt)


def test_too_few_problems_for_two_splits_is_said() -> None:
    world = Few(problems=1)
    with pytest.raises(UsageError, match="too few distinct problems"):
        [world.task(0, split) for split in ("train", "held_out")]  # type: ignore[arg-type]


@given(st.integers(0, 2**40), st.integers(0, 10_000), st.floats(0.05, 0.95))
@settings(max_examples=100, deadline=None)
def test_held_out_share_moves_the_border_only(seed: int, index: int, share: float) -> None:
    small, large = (Few(problems=10**6, seed=seed, held_out_share=s) for s in (share / 2, share))
    held = small.task(index, "held_out")
    assert held.prompt != small.task(index, "train").prompt
    # what a small share holds out, a larger one does too: it can never be a training task there
    assert all(large.task(i, "train").prompt != held.prompt for i in range(20))


@pytest.mark.parametrize("options", [{"held_out_share": 0.0}, {"held_out_share": 1}, {"time_limit": 0}])
def test_settings_of_texts_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Few(**options)


def test_a_payload_has_to_be_json() -> None:
    class Bad(Few):
        def make(self, rng: np.random.Generator) -> Task:
            return Task(prompt=str(rng.integers(10**6)), payload={"x": object()})

    with pytest.raises(UsageError, match="has to be JSON"):
        Bad().task(0, "train")


def test_worlds_that_demonstrate_say_so() -> None:
    assert isinstance(ReasoningWorld(time_limit=None), Demonstrates)
    assert not isinstance(Few(), Demonstrates)


def test_settings_of_a_text_world_are_those_of_its_init() -> None:
    assert Piece("pilotage.worlds.text:TextWorld").having(seed=3).settings == {"seed": 3}
    with pytest.raises(UsageError, match="did you mean 'time_limit'"):
        Piece("pilotage.worlds.text:TextWorld").having(time_limt=3)


# --- environments that fail


class Fragile(gymnasium.Env[Any, Any]):
    """Counts steps; does what the class says at some of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(3, start=5)
    resets_that_raise: ClassVar[set[int]] = set()
    resets = made = 0

    def __init__(self, *, bad_step: int = 0, how: str = "") -> None:
        type(self).made += 1
        self.bad_step, self.how = bad_step, how

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        type(self).resets += 1
        if self.resets in self.resets_that_raise:
            raise OSError("lost the simulator")
        self.steps = 0
        return np.zeros(2), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward = np.array([self.steps, float(action)]), 1.0
        if self.steps == self.bad_step:
            if self.how == "raise":
                raise OSError("lost the simulator")
            if self.how == "observe nan":
                observation[1] = np.nan
            if self.how == "pay nan":
                reward = float("nan")
        return observation, reward, False, False, {}


class Dice(Fragile):
    """Whose steps depend on chance that no seed governs."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.random.default_rng().random(2), 0.0, False, False, {}


class Pictures(Fragile):
    observation_space = spaces.Dict({"place": spaces.Discrete(3), "hand": spaces.Box(0, 1, (2,), np.float64)})

    def reset(self, **rest: Any) -> tuple[Any, dict[str, Any]]:
        return {"place": 1, "hand": np.array([0.25, 0.5])}, {}


class Endless(Fragile):
    observation_space = spaces.Sequence(spaces.Discrete(2))


class Strange(Fragile):
    action_space = spaces.MultiBinary(3)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    Fragile.resets_that_raise, Fragile.resets, Fragile.made = set(), 0, 0
    kinds = (Fragile, Dice, Pictures, Endless, Strange)
    for kind in kinds:
        gymnasium.register(f"Test{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"Test{kind.__name__}-v0"]


def start(world: World, lanes: int) -> Any:
    return world.reset([world.task(lane, "train") for lane in range(lanes)], range(lanes))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "raised in step: OSError: lost the simulator"),
        ("observe nan", "observation that is not finite"),
        ("pay nan", "the reward nan"),
    ],
)
def test_a_step_that_fails_is_invalid_and_the_others_go_on(how: str, reason: str) -> None:
    world = GymWorld(env_id="TestFragile-v0", settings={"bad_step": 2, "how": how})
    start(world, 2)
    world.step([0, 0], [0, 1])
    world.reset([world.task(9, "train")], [0])
    outcome = world.step([1, 2], [0, 1])
    assert list(outcome.invalid) == [1]
    assert reason in outcome.invalid[1]
    assert np.isfinite(outcome.observation).all()
    assert outcome.reward.tolist() == [1.0, 0.0]
    assert outcome.observation.tolist() == [[1.0, 6.0], [0.0, 0.0]]  # action 1 is the environment's 5 + 1
    with pytest.raises(ValueError, match="lane 1 has no running episode"):
        world.step([0], [1])
    made = Fragile.made
    world.reset([world.task(1, "train")], [1])
    assert Fragile.made == made + 1
    assert world.step([0], [1]).invalid == {}


def test_a_reset_that_raises_once_is_tried_on_a_fresh_environment() -> None:
    Fragile.resets_that_raise = {1}
    world = GymWorld(env_id="TestFragile-v0")
    assert start(world, 1).tolist() == [[0.0, 0.0]]
    assert Fragile.made == 2


def test_a_reset_that_keeps_raising_names_environment_and_seed() -> None:
    Fragile.resets_that_raise = set(range(100))
    world = GymWorld(env_id="TestFragile-v0")
    seed = world.task(0, "train").payload["seed"]
    with pytest.raises(EnvironmentFailure, match=rf"TestFragile-v0 with seed {seed} .*lost the simulator"):
        start(world, 1)


def test_flattened_observations() -> None:
    world = GymWorld(env_id="TestPictures-v0")
    assert world.observation.shape == (5,)
    assert start(world, 1).tolist() == [[0.25, 0.5, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPol-v1", {}, "did you mean 'CartPole-v1'"),
        ("nosuch_package:Thing-v0", {}, "cannot import 'nosuch_package'"),
        ("CartPole-v1", {"no_such_setting": 1}, "does not take these settings"),
        ("TestEndless-v0", {}, "no fixed shape"),
        ("TestStrange-v0", {}, "Discrete or Box"),
    ],
)
def test_mistakes(env_id: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GymWorld(env_id=env_id, settings=options)


def test_actions_are_clipped_in_a_copy() -> None:
    wild, tame = (GymWorld(env_id="Pendulum-v1", clip_actions=clip) for clip in (True, False))
    start(wild, 1)
    start(tame, 1)
    action = np.array([[100.0]], np.float32)
    seen = wild.step(action, [0])
    assert action.item() == 100.0
    assert np.array_equal(seen.observation, tame.step(np.array([[2.0]], np.float32), [0]).observation)


# --- exact resume


def spun(world: World, lanes: int, steps: int, seed: int) -> np.ndarray[Any, Any]:
    """Random actions; lanes whose episode ends start their next task. Returns the last observations [lanes, …]."""
    rng = np.random.default_rng(seed)
    observation = np.zeros(0)
    for step in range(steps):
        if isinstance(world.action, spaces.Discrete):
            action: Any = rng.integers(world.action.n, size=lanes)
        else:
            action = rng.normal(size=(lanes, *world.action.shape)).astype(np.float32)
        outcome = world.step(action, range(lanes))
        action *= 0  # a caller may reuse its array
        observation = outcome.observation.copy()
        for lane in np.flatnonzero(outcome.terminated | outcome.truncated).tolist():
            observation[lane] = world.reset([world.task(1000 * step + lane, "train")], [lane])[0]
    return observation


RESUMED: dict[str, Callable[[], World]] = {
    "CartPole": lambda: GymWorld(env_id="CartPole-v1"),
    "Pendulum": lambda: GymWorld(env_id="Pendulum-v1"),
    "HalfCheetah": lambda: GymWorld(env_id="HalfCheetah-v5"),
    "FrozenLake": lambda: GymWorld(env_id="FrozenLake-v1"),
    "DoorKey": lambda: MiniGridWorld(env_id="DoorKey-6x6"),
    "tabular": lambda: TabularWorld(horizon=7),
    "river": lambda: RiverSwim(horizon=7),
}


@pytest.mark.parametrize("name", sorted(RESUMED))
def test_a_resumed_world_goes_on_bitwise(name: str) -> None:
    whole, resumed = RESUMED[name](), RESUMED[name]()
    start(whole, 3)
    before = spun(whole, 3, 60, 0)
    state = whole.state_dict()
    resumed.load_state_dict(state)
    assert sorted(state["lanes"]) == ["0", "1", "2"]
    for lane, episode in state["lanes"].items():
        if "observation" in episode:
            assert np.array_equal(before[int(lane)], episode["observation"])
    assert np.array_equal(spun(whole, 3, 30, 1), spun(resumed, 3, 30, 1))


def test_a_world_that_does_not_replay_says_so() -> None:
    world = GymWorld(env_id="TestDice-v0")
    start(world, 1)
    world.step([0], [0])
    with pytest.raises(EnvironmentFailure, match="did not replay"):
        GymWorld(env_id="TestDice-v0").load_state_dict(world.state_dict())


def test_episodes_that_ended_are_not_kept() -> None:
    world = GymWorld(env_id="CartPole-v1")
    start(world, 1)
    while not world.step([1], [0]).terminated[0]:
        pass
    assert world.state_dict() == {"lanes": {}}
    world.load_state_dict({})


# --- MiniGrid


def test_minigrid_vectors_hold_the_view_and_the_direction() -> None:
    world = MiniGridWorld(env_id="DoorKey-6x6")
    raw, _ = gymnasium.make("MiniGrid-DoorKey-6x6-v0").reset(seed=world.task(0, "train").payload["seed"])
    vector = start(world, 1)[0]
    assert vector.dtype == np.float32
    assert world.observation.shape == (7 * 7 * 20 + 4,) == vector.shape
    assert vector.sum() == 7 * 7 * 3 + 1
    cells = vector[:-4].reshape(7, 7, 20)
    decoded = np.stack([part.argmax(-1) for part in np.split(cells, [11, 17], axis=-1)], axis=-1)
    assert np.array_equal(decoded, raw["image"])
    assert vector[-4:].argmax() == raw["direction"]


def test_minigrid_reward_and_actions() -> None:
    world = MiniGridWorld(env_id="Empty-5x5", actions=3)
    assert world.action.n == 3
    start(world, 1)
    for action in (2, 2, 1, 2):
        assert world.step([action], [0]).reward[0] == 0.0
    outcome = world.step([2], [0])
    assert outcome.terminated[0]
    assert outcome.reward[0] == pytest.approx(1 - 0.9 * 5 / 100)
    with pytest.raises(UsageError, match="first 8"):
        MiniGridWorld(actions=8)
    with pytest.raises(UsageError, match="no MiniGrid observations"):
        MiniGridWorld(env_id="CartPole-v1")


# --- pictures


def test_a_latent_that_is_not_finite_is_invalid_and_ends_its_picture() -> None:
    world = Digits(steps=3)
    world.reset([world.task(i, "train") for i in range(2)], [0, 1])
    actions = np.zeros((2, 64))
    actions[1, 5] = np.nan
    outcome = world.step(actions, [0, 1])
    assert outcome.invalid == {1: "a latent is not finite"}
    assert np.isfinite(outcome.observation).all()
    with pytest.raises(ValueError, match="lane 1 has no running episode"):
        world.step(actions, [0, 1])


def test_a_picture_takes_its_steps_and_is_paid_at_the_end() -> None:
    world = Digits(steps=3, reward="brightness")
    seen = world.reset([world.task(14, "train")], [2])
    assert seen[0, 64:].tolist() == [3, 4]
    picture = np.full((1, 64), -0.5)
    outcomes = [world.step(picture, [2]) for _ in range(3)]
    assert [outcome.observation[0, 64] for outcome in outcomes] == [2, 1, 0]
    assert [bool(outcome.terminated[0]) for outcome in outcomes] == [False, False, True]
    assert [float(outcome.reward[0]) for outcome in outcomes] == pytest.approx([0, 0, 64 / 255])
    assert outcomes[-1].observation[0, :64].tolist() == picture[0].tolist()


def test_pictures_resume_where_they_stood() -> None:
    world, again = Digits(steps=3), Digits(steps=3)
    world.reset([world.task(i, "train") for i in range(2)], [0, 1])
    world.step(np.ones((1, 64)), [1])
    again.load_state_dict(world.state_dict())
    for lanes in ([0, 1], [0, 1]):
        one, other = (w.step(np.full((2, 64), 0.3), lanes) for w in (world, again))
        assert np.array_equal(one.observation, other.observation)
        assert np.array_equal(one.reward, other.reward)


@pytest.mark.parametrize(
    ("options", "said"), [({"reward": "brightnes"}, "did you mean 'brightness'"), ({"steps": 0}, "one step")]
)
def test_settings_of_pictures_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Digits(**options)
