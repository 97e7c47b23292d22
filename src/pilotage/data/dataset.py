"""Data sets by name: records of whole episodes on disk, with what is known of where they come from.

DATA/NAME/data/main_data.hdf5   the episodes, in Minari's format
               metadata.json    Minari's metadata, and under "pilotage" ours
DATA is $PILOTAGE_DATA, else CACHE/datasets; a folder that holds `data` may stand in place of a name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data import hdf5
from pilotage.data.batch import Batch
from pilotage.data.folders import data_folder
from pilotage.data.piece import UsageError, nearest

DIGESTED = ("observation", "action", "reward", "terminated", "truncated", "final_observation")


@dataclass(frozen=True)
class About:
    """What is known of a data set.

    world: as `--world` takes it; empty where unknown. digest: of what the episodes hold; empty where the set was not
    written by this library. spaces: of observation and action, as JSON. random_return, expert_return: mean returns of a
    random and of an expert policy, between which scores are normalised. provenance: how it was made, JSON-able.
    """

    name: str
    world: str = ""
    digest: str = ""
    episodes: int = 0
    decisions: int = 0
    spaces: Mapping[str, Any] = field(default_factory=dict)
    random_return: float | None = None
    expert_return: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def score(self, value: float) -> float | None:
        """100 (R - random) / (expert - random), Fu et al. 2020; None where the set does not know both."""
        if self.random_return is None or self.expert_return is None or self.expert_return == self.random_return:
            return None
        return 100 * (value - self.random_return) / (self.expert_return - self.random_return)


@dataclass(frozen=True)
class Dataset:
    """record: whole episodes; columns `observation`, `action`, `reward`; per episode `terminated`, `truncated`,
    `final_observation`, `valid`, `group`, `task`."""

    record: Batch
    about: About


def names() -> list[str]:
    """The data sets in the data folder."""
    root = data_folder()
    found = root.glob(f"**/data/{hdf5.METADATA}")
    return sorted(path.parent.parent.relative_to(root).as_posix() for path in found if not _hidden(path, root))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def folder_of(name: str) -> Path:
    """The folder `data` of a named data set, or of one given as a folder. Raises UsageError with the nearest name."""
    if not name:
        raise UsageError("no data set is named: give one with --data NAME; `pilotage data list` shows what there is")
    for folder in (Path(name) / "data", Path(name), data_folder() / name / "data"):
        if (folder / hdf5.METADATA).is_file() and (folder / hdf5.FILE).is_file():
            return folder
    if Path(name).is_file():
        raise UsageError(f"{name} is a file: import it first, with pilotage data import {name}")
    raise UsageError(f"there is no data set {name!r} in {data_folder()}; {nearest(name, names())}")


def describe(name: str) -> About:
    """What is known of a data set, without reading its episodes. Raises UsageError."""
    folder = folder_of(name)
    metadata = hdf5.read_metadata(folder)
    own = metadata.get("pilotage", {})
    try:
        spaces = {kind: json.loads(metadata[f"{kind}_space"]) for kind in ("observation", "action")}
        return About(
            name=str(metadata.get("dataset_id", name)),
            world=own.get("world", _world_of(metadata)),
            digest=own.get("digest", ""),
            episodes=int(metadata["total_episodes"]),
            decisions=int(metadata["total_steps"]),
            spaces=spaces,
            random_return=own.get("random_return"),
            expert_return=own.get("expert_return"),
            provenance=own.get("provenance", {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder / hdf5.METADATA} does not describe a data set: {error!r}") from None


def _world_of(metadata: Mapping[str, Any]) -> str:
    spec = json.loads(metadata.get("env_spec") or "{}")
    return f"gym:{spec['id']}" if "id" in spec else ""


def load(name: str) -> Dataset:
    """A data set by name or folder.

    Raises UsageError for one that is missing, cut short, altered since it was written, or not fit to learn from.
    """
    about = describe(name)
    record = hdf5.read(folder_of(name))
    check(record, about.name)
    found = digest_of(record)
    if about.digest and about.digest != found:
        raise UsageError(
            f"the data set {about.name} was altered: its digest is {found}, the one on record {about.digest}"
        )
    return Dataset(record, replace(about, digest=found, episodes=len(record), decisions=record.decisions))


def load_digest(name: str) -> str:
    """The digest of a data set, from its metadata where this library wrote it, else from its episodes."""
    return describe(name).digest or load(name).about.digest


def save(record: Batch, about: About, *, more: Mapping[str, Any] | None = None) -> About:
    """Writes a data set under its name, whole or not at all; returns what is now known of it.

    more: entries of Minari's metadata, such as `env_spec`. Raises UsageError if the name is taken or no name, or if the
    record is not fit to learn from.
    """
    check_name(about.name)
    check(record, about.name)
    found = replace(about, digest=digest_of(record), episodes=len(record), decisions=record.decisions)
    own = {
        "world": found.world,
        "digest": found.digest,
        "random_return": found.random_return,
        "expert_return": found.expert_return,
        "provenance": dict(found.provenance),
    }
    place = data_folder() / about.name
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".making-", dir=data_folder()))
    try:
        inside = aside / "data"
        inside.mkdir()
        sizes = {"total_episodes": found.episodes, "total_steps": found.decisions}
        spaces = {f"{kind}_space": json.dumps(space) for kind, space in found.spaces.items()}
        metadata = {"dataset_id": about.name, "minari_version": hdf5.MINARI, "data_format": "hdf5", **sizes, **spaces}
        hdf5.write(inside, record, {"jpeg_encoding": False, **metadata, **(more or {}), "pilotage": own})
        aside.chmod(0o755)
        try:
            os.rename(aside, place)
        except OSError:
            raise UsageError(f"there is a data set {about.name} already; choose another name") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return found


def check_name(name: str) -> None:
    """Raises UsageError for a name that Minari would not take, or that is taken."""
    import re

    if not re.fullmatch(r"([-\w]+/)*[-\w]+-v\d+", name):
        raise UsageError(f"a data set is named like hopper/mixed-v0: words, a version last; not {name!r}")
    if (data_folder() / name).exists():
        raise UsageError(f"there is a data set {name} already; choose another name")


def check(record: Batch, name: str) -> None:
    """Raises UsageError for a record that cannot be learnt from: empty, or with numbers that are not finite."""
    if len(record) == 0 or int(record.lengths.min()) == 0:
        raise UsageError(f"the data set {name} is empty, or has an empty episode")
    for what in ("observation", "action", "reward", "final_observation"):
        values = record[what]
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).reshape(len(values), -1).any(1).sum())
            raise UsageError(f"the data set {name} has {what}s that are not finite, in {bad} of {len(values)} places")


def check_fits(record: Batch, name: str, world: Any) -> None:
    """Raises UsageError where observations or actions are not those of a world's spaces."""
    for what in ("observation", "action"):
        space, held = getattr(world, what), record[what]
        shape, wanted = tuple(held.shape[1:]), np.issubdtype(getattr(space, "dtype", None), np.floating)
        if tuple(getattr(space, "shape", None) or ()) != shape or wanted != held.is_floating_point():
            kind = f"{str(held.dtype).removeprefix('torch.')} of shape {shape}"
            raise UsageError(f"{name} does not fit the world: it has {what}s {kind}, the world {_said(space)}")


def _said(space: Any) -> str:
    return f"{space.dtype} of shape {tuple(space.shape)}" if hasattr(space, "low") else str(space)


def positive_variance(returns: Tensor) -> float:
    """E[max(G - E G, 0)²] of returns [E], the positive-sided variance: how far the good episodes lie above the mean.
    Hong et al. 2023, section 3."""
    above = (returns.double() - returns.double().mean()).clamp(min=0)
    return float(above.square().mean())


def digest_of(record: Batch) -> str:
    """A hash of what the episodes hold: lengths, columns and how each ended."""
    found = hashlib.sha256()
    for name, values in (("lengths", record.lengths), *((name, record[name]) for name in DIGESTED)):
        array = values.contiguous().numpy()
        found.update(f"{name} {array.dtype} {array.shape}\0".encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()[:16]


def space_of(values: Tensor, space: Any = None) -> dict[str, Any]:
    """A space as Minari writes it: that given (a gymnasium Box or Discrete), else what the values [n, …] span."""
    if type(space).__name__ == "Discrete":
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": int(space.n)}
    if space is not None:
        low, high = space.low.tolist(), space.high.tolist()
        return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), "low": low, "high": high}
    if not values.is_floating_point() and values.dim() == 1:
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": int(values.max()) + 1}
    bounds = {"low": values.amin(0).tolist(), "high": values.amax(0).tolist()}
    return {"type": "Box", "dtype": str(values.dtype).removeprefix("torch."), "shape": list(values.shape[1:]), **bounds}
