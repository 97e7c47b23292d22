"""The files are Minari's: its package loads what is written here, and what it writes is loaded here."""

from __future__ import annotations

import gymnasium
import h5py
import numpy as np
import pytest
import torch

from helpers import tiny_data, tiny_record
from pilotage import datasets
from pilotage.data import dataset, hdf5
from pilotage.data.piece import UsageError

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore:`description`", "ignore:`eval_env`")
EpisodeBuffer = minari.data_collector.episode_buffer.EpisodeBuffer


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    for name in ("PILOTAGE_DATA", "MINARI_DATASETS_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_minari_loads_what_is_written_here():
    record = tiny_record()
    found = minari.load_dataset(tiny_data())
    assert (found.total_episodes, found.total_steps) == (7, 49)
    assert found.observation_space == gymnasium.spaces.Box(-8, 8, (3,))
    assert found.action_space == gymnasium.spaces.Box(-2, 2, (1,))
    for i, episode in enumerate(found.iterate_episodes()):
        start, end = int(record.offsets[i]), int(record.offsets[i + 1])
        whole = torch.cat([record["observation"][start:end], record["final_observation"][i : i + 1]])
        assert np.array_equal(episode.observations, whole.numpy())
        assert np.array_equal(episode.actions, record["action"][start:end].numpy())
        assert np.array_equal(episode.rewards, record["reward"][start:end].numpy())
        assert episode.terminations.tolist() == [False] * (end - start - 1) + [bool(record["terminated"][i])]
        assert episode.truncations.tolist() == [False] * (end - start - 1) + [bool(record["truncated"][i])]
    assert list(minari.list_local_datasets()) == ["tiny/pendulum-v0"]


def test_minari_makes_the_environment_of_logged_data_again(monkeypatch):
    about = datasets.make("gym:Pendulum-v1", "random", 250, expert_steps=2, show=False)
    env = minari.load_dataset(about.name).recover_environment()
    assert env.spec.id == "Pendulum-v1"
    assert env.observation_space.shape == (3,)


def collected(name, env, episodes):
    """A data set written by Minari. Not by its collector, which needs jax: from episodes in its own form."""
    buffers = []
    for seed in range(episodes):
        seen, over = [env.reset(seed=seed)[0]], False
        rest = {name: [] for name in ("actions", "rewards", "terminations", "truncations")}
        env.action_space.seed(seed)
        while not over:
            action = env.action_space.sample()
            observation, *others = env.step(action)
            seen.append(observation)
            for values, value in zip(rest.values(), (action, *others), strict=False):
                values.append(value)
            over = others[1] or others[2]
        by_name = isinstance(seen[0], dict)
        seen = {key: [one[key] for one in seen] for key in seen[0]} if by_name else seen
        buffers.append(EpisodeBuffer(id=seed, seed=seed, observations=seen, **rest))
    about = {"algorithm_name": "random", "author": "a", "author_email": "a@b.c", "code_permalink": "x"}
    return minari.create_dataset_from_buffers(name, buffers, env, **about)


def test_what_minari_writes_is_loaded_here():
    theirs = collected("theirs/pendulum-v3", gymnasium.make("Pendulum-v1", max_episode_steps=12), 3)
    ours = dataset.load("theirs/pendulum-v3")
    assert ours.about.world == "gym:Pendulum-v1"
    assert ours.about.digest == dataset.digest_of(ours.record)
    assert (ours.about.episodes, ours.about.decisions) == (3, 36)
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(12 * i, 12 * i + 12)
        assert np.array_equal(ours.record["observation"][rows].numpy(), episode.observations[:-1])
        assert np.array_equal(ours.record["final_observation"][i].numpy(), episode.observations[-1])
        assert np.array_equal(ours.record["action"][rows].numpy(), episode.actions)
        assert np.array_equal(ours.record["reward"][rows].numpy(), episode.rewards.astype(np.float32))
    assert ours.record["truncated"].tolist() == [True] * 3


class Reach(gymnasium.Env):
    """Goals as robotics environments give them."""

    observation_space = gymnasium.spaces.Dict(
        observation=gymnasium.spaces.Box(-1, 1, (2,)),
        achieved_goal=gymnasium.spaces.Box(-1, 1, (1,)),
        desired_goal=gymnasium.spaces.Box(-1, 1, (1,)),
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.spec = gymnasium.envs.registration.EnvSpec("Reach-v0", entry_point=f"{__name__}:Reach")

    def _seen(self):
        self.count += 1
        return {name: space.sample() for name, space in self.observation_space.spaces.items()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, self.count == 5, False, {}


def test_goals_stand_in_one_vector_with_the_rest_as_gymnasium_flattens_them():
    theirs = collected("theirs/reach-v0", Reach(), 2)
    record = dataset.load("theirs/reach-v0").record
    assert record["observation"].shape == (8, 4)
    first = next(iter(theirs.iterate_episodes())).observations
    row = {name: values[0] for name, values in first.items()}
    assert np.array_equal(record["observation"][0].numpy(), gymnasium.spaces.flatten(Reach.observation_space, row))
    assert record["terminated"].tolist() == [True, True]


def test_a_folder_stands_in_place_of_a_name(own_folder):
    tiny_data()
    assert dataset.load(str(own_folder / "tiny" / "pendulum-v0")).about.name == "tiny/pendulum-v0"


def test_metadata_that_describe_nothing_are_refused(own_folder):
    tiny_data()
    folder = dataset.folder_of("tiny/pendulum-v0")
    for text, line in (
        ("{", "cannot be read"),
        ("[]", "does not describe"),
        ('{"total_steps": 3}', "does not describe"),
    ):
        (folder / hdf5.METADATA).write_text(text)
        with pytest.raises(UsageError, match=line):
            dataset.describe("tiny/pendulum-v0")


def test_a_file_without_episodes_is_refused(own_folder):
    tiny_data()
    with h5py.File(dataset.folder_of("tiny/pendulum-v0") / hdf5.FILE, "w") as file:
        file["x"] = 1
    with pytest.raises(UsageError, match="holds no episodes"):
        dataset.load("tiny/pendulum-v0")
