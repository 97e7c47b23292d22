"""Minari's files: a folder `data` with `main_data.hdf5`, a group an episode, and `metadata.json`.

The Minari package is not needed: the layout is written and read directly, so that a data set can be written aside and
renamed into place. `tests/contract/test_minari.py` holds it to the package, both ways.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch, from_episodes
from pilotage.data.piece import UsageError

FILE, METADATA = "main_data.hdf5", "metadata.json"
MINARI = "0.5.4"  # the version whose layout this is


def opened(path: Path) -> Any:
    """An HDF5 file to read. Raises UsageError where there is none, or it is cut short."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[offline]"') from None
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: it is cut short or no HDF5 file ({error})") from None


def write(folder: Path, record: Batch, metadata: Mapping[str, Any]) -> None:
    """Writes episodes and metadata into a folder that exists."""
    import h5py

    final, keys = record["final_observation"].numpy(), record["task"].tolist()
    ended, cut = record["terminated"].tolist(), record["truncated"].tolist()
    bounds = record.offsets.tolist()
    columns = {name: record[name].numpy() for name in ("observation", "action", "reward")}
    with h5py.File(folder / FILE, "w", track_order=True) as file:
        for i, (start, end) in enumerate(itertools.pairwise(bounds)):
            group = file.create_group(f"episode_{i}")
            group.attrs.update({"id": i, "total_steps": end - start, "task": keys[i]})
            flags = {"terminations": ended[i], "truncations": cut[i]}
            arrays = {
                "observations": np.concatenate([columns["observation"][start:end], final[i : i + 1]]),
                "actions": columns["action"][start:end],
                "rewards": columns["reward"][start:end],
                **{name: np.arange(start, end) == (end - 1 if flag else end) for name, flag in flags.items()},
            }
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    (folder / METADATA).write_text(json.dumps(dict(metadata), indent=2) + "\n", encoding="utf-8")


def read_metadata(folder: Path) -> dict[str, Any]:
    """Raises UsageError for a folder without, or with what is no JSON."""
    path = folder / METADATA
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or found.get("data_format", "hdf5") != "hdf5":
        raise UsageError(f"{path} does not describe a data set in HDF5")
    return found


def read(folder: Path) -> Batch:
    """All episodes of a folder. Dictionaries of observations, such as those with goals, become one vector, their
    entries in the order of the space on record: as gymnasium flattens them. Raises UsageError for a file that is cut
    short or whose parts do not fit."""
    path = folder / FILE
    space = json.loads(read_metadata(folder).get("observation_space") or "{}")
    with opened(path) as file:
        names = sorted((name for name in file if name.startswith("episode_")), key=lambda n: int(n.split("_")[1]))
        if not names:
            raise UsageError(f"{path} holds no episodes")
        try:
            parts = [_episode(f"{path}: {name}", file[name], space) for name in names]
        except (KeyError, OSError, RuntimeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
    return joined(parts)


def joined(parts: list[dict[str, Any]]) -> Batch:
    """A record of episodes, each with `observation` [T + 1, …], `action`, `reward` [T], `terminated`, `truncated` and
    `task`."""
    count = len(parts)
    flags = {n: torch.tensor([part[n] for part in parts]) for n in ("terminated", "truncated", "task")}
    return from_episodes(
        {
            "observation": [part["observation"][:-1] for part in parts],
            "action": [part["action"] for part in parts],
            "reward": [part["reward"] for part in parts],
        },
        {
            **flags,
            "valid": torch.ones(count, dtype=torch.bool),
            "group": torch.arange(count),
            "final_observation": torch.stack([part["observation"][-1] for part in parts]),
        },
    )


def _episode(where: str, group: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    observation, action = flattened(group["observations"], space), flattened(group["actions"])
    reward = as_tensor(group["rewards"][()])
    steps = len(reward)
    ended = {name: np.asarray(group[f"{name}s"][()]) for name in ("termination", "truncation")}
    for name, found, wanted in (
        ("observations", observation, steps + 1),
        ("actions", action, steps),
        ("terminations", ended["termination"], steps),
        ("truncations", ended["truncation"], steps),
    ):
        if len(found) != wanted:
            raise UsageError(f"{where} has {len(found)} {name} for {steps} rewards; there must be {wanted}")
    if steps == 0:
        raise UsageError(f"{where} has no decisions")
    terminated = bool(ended["termination"][-1])
    return {
        "observation": observation,
        "action": action,
        "reward": reward,
        "terminated": terminated,
        "truncated": not terminated,
        "task": int(group.attrs.get("task", group.attrs.get("id", 0))),
    }


def flattened(entry: Any, space: Mapping[str, Any] | None = None) -> Tensor:
    """[n, …] an array, or a group's arrays side by side as [n, k]: in the order of the space, else of their names."""
    if hasattr(entry, "keys"):
        inside = dict((space or {}).get("subspaces", {})) or dict.fromkeys(sorted(entry.keys()))
        parts = [flattened(entry[name], within) for name, within in inside.items()]
        return torch.cat([part.reshape(len(part), -1).float() for part in parts], 1)
    return as_tensor(entry[()])


def as_tensor(array: Any) -> Tensor:
    """Fractions in single precision, as policies take them; other kinds as they are."""
    found = np.asarray(array)
    return torch.from_numpy(found.astype(np.float32) if np.issubdtype(found.dtype, np.floating) else found)
