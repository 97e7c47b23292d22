"""A checkpoint comes back bit for bit, or is refused in one clear line; nothing that happens to one harms another."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotage.run.checkpoint import CheckpointError, latest, load, save
from pilotage.run.tree import TreeError, decode, encode


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        # bytes, so that NaN equals itself and -0.0 is not 0.0
        bits = [t.detach().resolve_conj().contiguous().flatten().view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and [type(k) for k in a] == [type(k) for k in b] and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (a != a and b != b)
    return bool(a == b)


def example():
    base = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    return {
        "whole": base,
        "transposed": base.t(),
        "shares storage": base[1:3, ::2],
        "expanded": torch.tensor([1.5]).expand(3, 2),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "mask": torch.tensor([True, False]),
        "half": torch.tensor([1e-8, float("nan"), -0.0], dtype=torch.bfloat16),
        "waves": torch.tensor([1 + 2j, 3j]).conj(),
        "unsigned": np.array([2**64 - 1], dtype=np.uint64),
        "big endian": np.arange(3, dtype=">f4"),
        "no dimensions": np.array(3, dtype=np.int8),
        "of numpy": np.float32(0.1),
        "pair": (1, 2.5, None),
        "a/b": {"c": torch.ones(1)},
        "a": {"b": {"c": torch.zeros(1)}},
        "numbers": {1: torch.ones(2), "1": torch.zeros(2), -3: "x"},
        "__metadata__": torch.ones(1),
        "": torch.ones(2),
        "$tensor": "not a mark",
        "floats": [float("inf"), float("-inf"), float("nan"), -0.0, 5e-324, 0.1],
        "wide": 2**200,
        "words": "é \ud800 \u2028 \0",
        "nothing": [{}, [], (), None, True],
    }


def test_round_trip_is_bitwise(tmp_path):
    tree = example()
    step, found = load(save(tmp_path, 10, tree))
    assert step == 10
    assert same(found, tree)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([torch.bool, torch.int64, torch.float64, torch.float32, torch.bfloat16, torch.uint8]).flatmap(
        lambda dtype: st.lists(st.integers(0, 3), max_size=3).map(
            lambda shape: (torch.arange(int(np.prod(shape))) % 5 - 2).reshape(shape).to(dtype)
        )
    )
    | st.sampled_from(["<i2", ">f8", "?", "<U3", "<M8[s]", "<c16"]).flatmap(
        lambda dtype: st.integers(0, 4).map(lambda n: np.arange(n).astype(dtype))
    )
)
keys = (
    st.text(max_size=4) | st.integers() | st.sampled_from(["/", "~", "~2", "$dict", "$array", "__metadata__", "1", "0"])
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=20,
)


@given(trees)
@settings(max_examples=200, deadline=None)
def test_any_tree_survives_encoding(tree):
    skeleton, tensors = encode(tree)
    assert same(decode(json.loads(json.dumps(skeleton, allow_nan=False)), tensors), tree)


@given(trees)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_survives_the_disk(tmp_path, tree):
    assert same(load(save(tmp_path, 1, tree)), (1, tree))


def test_tensors_of_a_module_and_its_optimiser(tmp_path):
    module = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(3)).sum().backward()
    optimiser.step()
    tree = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "parameter": module.weight}
    assert isinstance(tree["module"], OrderedDict)
    _, found = load(save(tmp_path, 1, tree))
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(found["module"])
    again = torch.optim.AdamW(other.parameters())
    again.load_state_dict(found["optimiser"])
    assert same(again.state_dict(), optimiser.state_dict())
    assert type(found["parameter"]) is torch.Tensor
    assert same(found["parameter"], module.weight.detach())


def test_loaded_tensors_are_aligned_as_torch_allocates(tmp_path):
    _, found = load(save(tmp_path, 1, {"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(100)}))
    assert found["b"].data_ptr() % 64 == 0


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": {"b": object()}}, "/a/b is a object"),
        ({"a": b"bytes"}, "/a is a bytes"),
        ({"a": {1.5: 1}}, "/a has the key 1.5"),
        ({"a": {True: 1}}, "/a has the key True"),
        ({"a": [np.array([object()])]}, "/a/0 is an array of object"),
        ({"a": torch.zeros(2, dtype=torch.complex128)}, "/a is a tensor of torch.complex128"),
        ({"a": torch.eye(2).to_sparse()}, "/a is a tensor of layout torch.sparse_coo"),
        ({"a": {1, 2}}, "/a is a set"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path, tree, words):
    with pytest.raises(TreeError, match=words):
        encode(tree)
    good = save(tmp_path, 1, {})
    with pytest.raises(CheckpointError, match=words):
        save(tmp_path, 2, tree)
    assert latest(tmp_path) == good


def test_keeps_the_newest(tmp_path):
    for step in range(5):
        save(tmp_path, step, {"step": step}, keep=3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [f"step-{n:06d}" for n in (2, 3, 4)]
    assert load(latest(tmp_path)) == (4, {"step": 4})


def test_steps_beyond_six_digits_are_ordered_as_numbers(tmp_path):
    save(tmp_path, 999_999, {})
    path = save(tmp_path, 1_000_000, {})
    assert latest(tmp_path) == path


def test_no_checkpoint(tmp_path):
    assert latest(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read: No such file"):
        load(tmp_path / "checkpoints" / "step-000001")


def test_saving_an_earlier_step_leaves_the_abandoned_future(tmp_path):
    for step in (1, 2, 9):
        save(tmp_path, step, {"step": step}, keep=3)
    save(tmp_path, 3, {"step": 3}, keep=3)
    assert [p.name[-1] for p in sorted((tmp_path / "checkpoints").iterdir())] == ["1", "2", "3"]


def test_saving_a_step_anew_replaces_it(tmp_path):
    save(tmp_path, 1, {"x": 1})
    assert load(save(tmp_path, 1, {"x": 2})) == (1, {"x": 2})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_the_former_checkpoint_is_found_while_its_step_is_replaced(tmp_path):
    path = save(tmp_path, 1, {"x": 1})
    former = path.with_name("step-000001~")
    path.rename(former)  # as if killed between the two renames
    assert latest(tmp_path) == former
    assert load(former) == (1, {"x": 1})
    save(tmp_path, 1, {"x": 2})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_left_overs_are_ignored_and_swept(tmp_path):
    good = save(tmp_path, 1, {})
    left = good.with_name(".partial-step-000002-77")
    left.mkdir()
    (left / "state.json").write_text("{")
    assert latest(tmp_path) == good
    save(tmp_path, 3, {})
    assert not left.exists()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_an_altered_byte_is_noticed(tmp_path, name):
    good, bad = save(tmp_path, 1, {"a": torch.ones(4)}), save(tmp_path, 2, {"a": torch.ones(4), "b": [1]})
    whole = (bad / name).read_bytes()
    for position in range(0, len(whole), 7):
        (bad / name).write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(CheckpointError) as caught:
            load(bad)
        assert name in str(caught.value)
        assert f"the checkpoint {good} is good" in str(caught.value)
        assert "\n" not in str(caught.value)
    (bad / name).write_bytes(whole)
    assert load(bad)[0] == 2


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_cut_file_is_noticed(tmp_path, name):
    path = save(tmp_path, 1, {"a": torch.ones(4)})
    whole = (path / name).read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (path / name).write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=rf"{name}.* cut short") as caught:
            load(path)
        assert "is good" not in str(caught.value)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read: No such file"):
        load(path)


def test_only_a_good_checkpoint_is_offered(tmp_path):
    paths = [save(tmp_path, step, {"a": 1}, keep=3) for step in (1, 2, 3)]
    for path in paths[1:]:
        (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="step-000001 is good"):
        load(paths[2])


def test_a_newer_schema_is_refused(tmp_path):
    path = save(tmp_path, 1, {})
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(CheckpointError, match="schema 99, and this version reads up to 1: use a newer pilotage"):
        load(path)


@pytest.mark.parametrize("call", range(5))  # three files, their folder, and the folder above
def test_a_disk_that_refuses_at_any_flush(tmp_path, monkeypatch, call):
    good = save(tmp_path, 1, {"a": torch.ones(3)})
    calls, whole = [], os.fsync

    def refuse(handle):
        calls.append(handle)
        if len(calls) > call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save(tmp_path, 2, {"a": torch.zeros(3)})
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert load(good)[0] == 1
    assert load(latest(tmp_path))[0] == (1 if call < 4 else 2)
    assert not list((tmp_path / "checkpoints").glob(".partial-*"))


def test_a_disk_that_refuses_to_write(tmp_path, monkeypatch):
    good = save(tmp_path, 1, {})

    def refuse(self, *arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(CheckpointError, match=rf"No space left on device; the last good checkpoint is {good}$"):
        save(tmp_path, 2, {})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_interrupted_by_the_keyboard(tmp_path, monkeypatch):
    save(tmp_path, 1, {})

    def interrupt(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, {})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a file system can only be mounted as root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", [100_000, 66_000])  # the tensors do not fit; only the JSON does not
def test_a_disk_that_is_really_full(small_disk, size):
    good = save(small_disk, 1, {"a": torch.ones(2_000)})
    tree = {"a": torch.ones(size), "long": "x" * 40_000}
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save(small_disk, 2, tree)
    assert str(good) in str(caught.value)
    assert torch.equal(load(good)[1]["a"], torch.ones(2_000))
    assert [p.name for p in good.parent.iterdir()] == ["step-000001"]
    save(small_disk, 3, {"a": torch.ones(2_000)})  # the room is free again


SAVER = """
import sys, torch
from pilotage.run.checkpoint import save
for step in range(1, 10_000):
    save(sys.argv[1], step, {"step": step, "a": torch.full((300_000,), float(step))})
    print(step, flush=True)
"""


def test_killed_while_saving(tmp_path):
    for delay in (0.0, 0.003, 0.011):
        child = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        lines = [child.stdout.readline() for _ in range(4)]
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        reported = int((lines + child.stdout.read().split())[-1])
        child.stdout.close()
        step, tree = load(latest(tmp_path))
        assert step >= reported >= 4
        assert tree["step"] == step
        assert (tree["a"] == step).all()
