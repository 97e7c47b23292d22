"""`pilotage data`: sets are made with where they come from, files are taken in, and what does not fit is one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pilotage.data import dataset, hdf5
from pilotage.worlds import registry

WORLD = "gym:Pendulum-v1"
EXPERT = ("--expert-steps", "3")  # a window of random decisions: there is something to load, nothing to be proud of


def made(pilotage: Callable, *more: str) -> dataset.About:
    answer = pilotage("data", "make", WORLD, *more, *EXPERT)
    assert answer.status == 0, answer.err
    return dataset.describe(answer.out.split()[1].rstrip(":"))


def flat_file(path: Path, **changes: object) -> Path:
    """A file in D4RL's form: two episodes of three and four rows, the first terminated, the second cut."""
    make = np.random.default_rng(0)
    arrays: dict[str, object] = {
        "observations": make.normal(size=(7, 3)).astype(np.float32),
        "actions": make.uniform(-1, 1, size=(7, 1)).astype(np.float32),
        "rewards": np.arange(7.0, dtype=np.float32),
        "terminals": np.arange(7) == 2,
        "timeouts": np.arange(7) == 6,
    }
    with h5py.File(path, "w") as file:
        for name, array in {**arrays, **changes}.items():
            if array is not None:
                file.create_dataset(name, data=array)
    return path


def brought_in(pilotage: Callable, path: Path, name: str = "pendulum/flat-v0"):
    return pilotage("data", "import", str(path), "--world", WORLD, "--out", name)


def test_a_mixture_is_made_of_whole_episodes_with_where_they_come_from(pilotage: Callable) -> None:
    about = made(pilotage, "--quality", "mixed:0.4", "--steps", "1000")
    assert about.name == "pendulum/mixed-v0"
    assert (about.episodes, about.decisions) == (5, 1000)
    played = about.provenance["played"]
    assert {name: part["decisions"] for name, part in played.items()} == {"random": 600, "expert": 400}
    assert about.provenance["policies"]["expert"]["recipe"]["name"] == "sac"
    assert about.provenance["versions"]["numpy"] == np.__version__
    assert about.random_return is not None
    assert about.random_return < -500
    record = dataset.load(about.name).record
    assert set(record.lengths.tolist()) == {200}
    assert len(set(record["task"].tolist())) == 5
    mean = {name: part["mean_return"] for name, part in played.items()}
    assert mean["random"] == pytest.approx(float(record.returns[:3].mean()), rel=1e-4)
    assert mean["expert"] == pytest.approx(float(record.returns[3:].mean()), rel=1e-4)
    # the same seed gives the same decisions, another seed others; a taken name is not written over
    again = made(pilotage, "--quality", "mixed:0.4", "--steps", "1000")
    assert again.name == "pendulum/mixed-v1"
    assert again.digest == about.digest
    assert made(pilotage, "--quality", "mixed:0.4", "--steps", "1000", "--seed", "1").digest != about.digest
    taken = pilotage("data", "make", WORLD, "--quality", "random", "--steps", "9", "--out", about.name, *EXPERT)
    assert (taken.status, "choose another name" in taken.err) == (2, True)
    listed = json.loads(pilotage("data", "list", "--json").out)
    assert [one["name"] for one in listed] == [f"pendulum/mixed-v{i}" for i in range(3)]
    assert "score 0 is a return of" in pilotage("data", "describe", about.name).out
    assert json.loads(pilotage("data", "describe", about.name, "--json").out)["provenance"]["seed"] == 0


@pytest.mark.parametrize("world", ["gym:CartPole-v1", "minigrid:Empty-5x5"])
def test_classes_are_logged_too(world: str, pilotage: Callable) -> None:
    asked = ("--quality", "mixed:0.5", "--steps", "150", "--expert-steps", "1", "--out", "classes/logged-v0")
    answer = pilotage("data", "make", world, *asked)
    assert answer.status == 0, answer.err
    found = dataset.load("classes/logged-v0")
    assert found.about.provenance["policies"]["expert"]["recipe"]["name"] == "ppo"
    made = registry.resolve(world).build()
    dataset.check_fits(found.record, "it", made)
    assert set(found.record["action"].tolist()) == set(range(made.action.n))
    made.close()


def test_a_medium_policy_is_the_expert_half_way(pilotage: Callable) -> None:
    about = made(pilotage, "--quality", "medium", "--steps", "200")
    steps = {name: one["recipe"]["steps"] for name, one in about.provenance["policies"].items()}
    assert steps == {"expert": 3, "medium": 2}
    assert set(about.provenance["played"]) == {"medium"}


def test_a_script_is_logged_as_it_is_and_with_noise(pilotage: Callable) -> None:
    told = ("--set", "world.horizon=60", "--set", "world.ends_at_success=true", "--steps", "60")
    names = []
    for quality in ("scripted", "scripted:0.3"):
        answer = pilotage("data", "make", "metaworld:reach-v3", "--quality", quality, *told)
        assert answer.status == 0, answer.err
        names.append(answer.out.split()[1].rstrip(":"))
    assert names == ["reach/scripted-v0", "reach/scripted-v1"]
    plain, noisy = map(dataset.load, names)
    assert plain.about.digest != noisy.about.digest
    assert (plain.about.provenance["noise"], noisy.about.provenance["noise"]) == (0.0, 0.3)
    assert plain.about.provenance["played"]["scripted"]["success"] == 1.0
    assert plain.about.provenance["world"]["horizon"] == 60
    assert plain.about.expert_return == noisy.about.expert_return  # the script without noise
    assert plain.about.random_return < plain.about.expert_return
    assert set(plain.record["action"][:, 3].tolist()) == {0.0}
    assert len(set(noisy.record["action"][:, 3].tolist())) > 10


def test_a_run_learns_from_a_data_set_and_says_its_score(pilotage: Callable) -> None:
    about = made(pilotage, "--quality", "random", "--steps", "400")
    small = ("--set", "store.batches_per_step=2", "--set", "evaluation.tasks=2", "--steps", "2")
    trained = pilotage("train", "bc", "--data", about.name, *small, "--out", "run")
    assert trained.status == 0
    assert re.search(r"; score −?\d+\.\d; see run", trained.out)
    assert "score " in pilotage("eval", "run", "--tasks", "2").out
    found = json.loads(pilotage("eval", "run", "--tasks", "2", "--json").out)
    assert found["eval/score"] == pytest.approx(about.score(found["eval/return"]))
    recipe = json.loads(Path("run/recipe.json").read_text())
    assert recipe["store"]["digest"] == about.digest
    assert recipe["world"]["env_id"] == "Pendulum-v1"
    assert f"of 256 decisions from {about.name}" in pilotage("explain", "bc", "--data", about.name).out


def test_a_file_in_d4rls_form_is_cut_into_episodes(pilotage: Callable, tmp_path: Path) -> None:
    assert brought_in(pilotage, flat_file(tmp_path / "a.hdf5")).status == 0
    record = dataset.load("pendulum/flat-v0").record
    # without next observations the row before a cut is followed by nothing known: it is the final observation
    assert record.lengths.tolist() == [3, 3]
    assert record["terminated"].tolist() == [True, False]
    assert record["truncated"].tolist() == [False, True]
    assert record["reward"].tolist() == [0, 1, 2, 3, 4, 5]
    with h5py.File(tmp_path / "a.hdf5") as file:
        rows = np.array(file["observations"])
    assert np.array_equal(record["final_observation"][1].numpy(), rows[6])
    following = np.concatenate([rows[1:], rows[:1]])
    following[4] += 1.0  # row 4 is not followed by row 5: two episodes
    flat_file(tmp_path / "b.hdf5", next_observations=following, timeouts=None)
    assert brought_in(pilotage, tmp_path / "b.hdf5", "pendulum/flat-v1").status == 0
    record = dataset.load("pendulum/flat-v1").record
    assert record.lengths.tolist() == [3, 2, 2]
    assert np.array_equal(record["final_observation"].numpy(), following[[2, 4, 6]])


def unfit(**changes: object) -> Callable[[Path], Path]:
    return lambda folder: flat_file(folder / "bad.hdf5", **changes)


def cut_short(folder: Path) -> Path:
    path = flat_file(folder / "whole.hdf5")
    (folder / "short.hdf5").write_bytes(path.read_bytes()[:-200])
    return folder / "short.hdf5"


MANY = np.zeros((7, 3), np.float32)
BAD = [
    (
        unfit(observations=np.where(np.eye(7, 3) > 0, np.nan, 0).astype(np.float32)),
        "observations that are not finite, in",
    ),
    (unfit(rewards=np.full(7, np.inf)), "rewards that are not finite"),
    (unfit(rewards=np.zeros(6)), "rewards has 6 rows, observations 7"),
    (
        unfit(observations=np.zeros((7, 4), np.float32)),
        "fit the world: it has observations float32 of shape (4,)",
    ),
    (unfit(actions=np.zeros(7, np.int64)), "it has actions int64 of shape ()"),
    (unfit(terminals=None), "has no terminals; it has actions"),
    (cut_short, "is cut short or no HDF5 file"),
    (lambda folder: folder / "none.hdf5", "there is no file"),
]


@pytest.mark.parametrize(("make", "line"), BAD, ids=[line[:30] for _, line in BAD])
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(
    make: Callable[[Path], Path], line: str, pilotage: Callable, tmp_path: Path
) -> None:
    answer = brought_in(pilotage, make(tmp_path))
    assert answer.status == 2
    assert line in answer.err
    assert answer.err.count("\n") == 1
    assert dataset.names() == []
    assert not list((tmp_path / "cache" / "datasets").glob(".*"))


def refused(pilotage: Callable, *arguments: str) -> str:
    answer = pilotage(*arguments)
    assert (answer.status, answer.err.count("\n")) == (2, 1), answer.err
    assert not Path("runs").exists()
    return answer.err


def test_a_set_that_cannot_be_written_to_its_end_is_not_there(
    pilotage: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, record: object, metadata: object) -> None:
        (folder / hdf5.FILE).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(hdf5, "write", full)
    answer = brought_in(pilotage, flat_file(tmp_path / "a.hdf5"))
    assert (answer.status, answer.err.count("\n")) == (1, 1)
    assert "No space left on device" in answer.err
    assert dataset.names() == []
    assert not [path for path in (tmp_path / "cache" / "datasets").rglob("*") if path.is_file()]


def test_what_is_asked_of_a_data_set_that_is_not_there_or_was_altered(pilotage: Callable, tmp_path: Path) -> None:
    assert brought_in(pilotage, flat_file(tmp_path / "a.hdf5")).status == 0
    train = ("train", "bc", "--data")
    assert "did you mean 'pendulum/flat-v0'?" in refused(pilotage, *train, "pendulum/flt-v0")
    assert "did you mean 'pendulum/flat-v0'?" in refused(pilotage, "data", "describe", "pendulum/flat")
    assert "import it first" in refused(pilotage, *train, str(tmp_path / "a.hdf5"))
    assert "give one with --data NAME" in refused(pilotage, "train", "bc", "--world", WORLD)
    assert "observations float32 of shape (3,), the world" in refused(
        pilotage, *train, "pendulum/flat-v0", "--world", "gym:InvertedPendulum-v5"
    )
    assert "made for data of digest" in refused(pilotage, *train, "pendulum/flat-v0", "--set", "store.digest=abc")
    path = dataset.folder_of("pendulum/flat-v0") / hdf5.FILE
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["episode_0/rewards"][0] += 1
    assert "was altered" in refused(pilotage, *train, "pendulum/flat-v0")
    with h5py.File(path, "r+") as file:
        file["episode_0/rewards"][0] = np.nan
    assert "rewards that are not finite, in 1 of 6 places" in refused(pilotage, *train, "pendulum/flat-v0")
    with h5py.File(path, "r+") as file:
        values = file["episode_0/rewards"][:2]
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = values
    assert "for 2 rewards" in refused(pilotage, *train, "pendulum/flat-v0")
    path.write_bytes(whole[: len(whole) // 2])
    assert "is cut short" in refused(pilotage, *train, "pendulum/flat-v0")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("gym:Pendulum-v1", "--quality", "mixed:1.5"), "a mixture is mixed:SHARE"),
        (("gym:Pendulum-v1", "--quality", "mixed"), "a mixture is mixed:SHARE"),
        (("gym:Pendulum-v1", "--quality", "exprt"), "did you mean 'expert'?"),
        (("gym:Pendulum-v1", "--quality", "random", "--out", "pendulum"), "a data set is named like"),
        (("gym:Pendulum-v1", "--quality", "scripted"), "has no script to log"),
        (("gym:Pendulum-v1", "--quality", "scripted:-1"), "a noisy script is scripted:NOISE, 0 or more"),
        (
            ("gym:Pendulum-v1", "--quality", "random", "--set", "steps=3"),
            "settings of the world, world.NAME; not steps",
        ),
        (("gym:Pendulm-v1", "--quality", "random"), "did you mean 'Pendulum-v1'?"),
        (("reasoning:chain_sum", "--quality", "random"), "data are logged on worlds of kind box or discrete"),
        (("gym:Pendulum-v1", "--quality", "random", "--steps", "0"), "--steps"),
        (("gym:Pendulum-v1", "--quality", "random", "--expert", "nowhere"), "nowhere"),
    ],
)
def test_an_order_that_cannot_be_filled_is_one_line_before_anything_is_trained(
    arguments: tuple[str, ...], line: str, pilotage: Callable, tmp_path: Path
) -> None:
    assert line in refused(pilotage, "data", "make", *arguments)
    assert not (tmp_path / "cache").exists()


def test_play_is_logged_where_there_is_somebody_to_play(pilotage: Callable) -> None:
    answer = pilotage("data", "make", "pointmaze:UMaze", "--quality", "play", "--steps", "300")
    assert answer.status == 0, answer.err
    found = dataset.load("umaze/play-v0")
    assert found.about.world == "pointmaze:UMaze"
    assert (found.about.random_return, found.about.expert_return) == (None, None)
    assert set(found.record.lengths.tolist()) == {200}  # no goal ends it
    assert found.about.provenance["world"]["maze"] == "UMaze"
    refused = pilotage("data", "make", WORLD, "--quality", "play", "--steps", "300")
    assert (refused.status, "has nobody who plays in it" in refused.err) == (2, True)


def test_a_policy_that_wants_more_than_a_method_gives_is_one_line(pilotage: Callable, tmp_path: Path) -> None:
    assert brought_in(pilotage, flat_file(tmp_path / "flat.hdf5")).status == 0
    asked = ("--data", "pendulum/flat-v0", "--policy", "squashed", "--steps", "1", "--set", "evaluation.tasks=1")
    answer = pilotage("train", "bc", *asked)
    assert answer.status == 2
    assert "read a column 'noise', which nothing in it writes" in answer.err.splitlines()[-1]


def test_random_data_need_no_expert_and_then_have_no_scores(pilotage: Callable) -> None:
    answer = pilotage("data", "make", WORLD, "--quality", "random", "--steps", "200")
    assert answer.status == 0, answer.err
    assert "scores are not known" in answer.out
    about = dataset.describe("pendulum/random-v0")
    assert about.expert_return is None
    assert about.random_return is not None
    assert about.provenance["policies"] == {}


def test_a_run_takes_the_world_with_the_settings_that_its_data_were_made_with(pilotage: Callable) -> None:
    horizon = ("--set", "world.horizon=60")
    made_so = pilotage("data", "make", "metaworld:reach-v3", "--quality", "scripted", "--steps", "60", *horizon)
    assert made_so.status == 0, made_so.err

    def world(*more: str) -> dict[str, object]:
        found = pilotage("explain", "bc", "--data", "reach/scripted-v0", *more, "--json")
        assert found.status == 0, found.err
        return json.loads(found.out)["world"]

    assert world()["horizon"] == 60
    assert world("--set", "world.horizon=70")["horizon"] == 70
    assert world("--world", "metaworld:reach-v3").get("horizon") != 60


def test_who_wants_the_same_data_waits_and_takes_them(own_folder: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from pilotage import datasets

    asked = ("pendulum/shared-v0", WORLD, "random", 200)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as both:
        for made_by in [both.submit(datasets.ensure, *asked) for _ in range(2)]:
            made_by.result()  # neither raises
    assert dataset.names() == ["pendulum/shared-v0"]


def test_a_rollout_that_plays_is_refused_before_data_are_read(pilotage: Callable) -> None:
    said = refused(
        pilotage, "train", "bc", "--world", WORLD, "--data", "none/such-v0", "--set", "store.digest=x",
        "--set", "rollout=pilotage.rollouts.window:Window",
    )  # fmt: skip
    assert "takes no new episodes; its rollout is pilotage.rollouts.idle:Idle" in said
