"""Checkpoints: safetensors and JSON, written aside, hashed, and renamed into place. No pickle.

    FOLDER/checkpoints/step-000010/tensors.safetensors   every tensor, by its path in the state tree
                                   state.json            the tree itself, with marks where tensors go
                                   manifest.json         schema, step, versions, size and sha256 of the other two

A folder of that name is whole or absent: a process killed at any moment leaves at most a `.partial-…` folder, which
readers ignore and the next save removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilotage.run.provenance import library_versions
from pilotage.run.tree import TreeError, decode, encode

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
PARTIAL = ".partial-"
# the trailing ~ is the former checkpoint of a step that is being saved anew
NAME = re.compile(r"step-(\d{6,})(~?)")


class CheckpointError(Exception):
    """A checkpoint could not be written, or cannot be trusted; the message is one line."""


def save(folder: Path | str, step: int, tree: Any, keep: int = 2) -> Path:
    """Writes the state tree after `step` steps to FOLDER/checkpoints/step-NNNNNN and returns that path.

    folder is a run's folder; the newest `keep` checkpoints stay. Those of later steps are removed too: a run that
    saves step 6 has left the future in which it once saved step 10. Raises CheckpointError, with the last good
    checkpoint untouched, if the tree holds something that cannot be stored or the disk refuses.
    """
    if step < 0 or keep < 1:
        raise ValueError("step is counted from 0, and keep from 1")
    home = Path(folder) / "checkpoints"
    final = home / f"step-{step:06d}"
    partial = home / f"{PARTIAL}{final.name}-{os.getpid()}"
    try:
        skeleton, tensors = encode(tree)
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        with _removed_on_failure(partial):
            partial.mkdir()
            _write(partial, step, skeleton, tensors)
            _put_in_place(partial, final)
    except (TreeError, OSError) as error:
        good = latest(folder)
        rest = f"; the last good checkpoint is {good}" if good else ""
        raise CheckpointError(f"could not write checkpoint {final}: {_reason(error)}{rest}") from error
    for other, _, path in _all(home):
        if other > step:
            _discard(path)
    for _, _, path in _all(home)[keep:]:
        _discard(path)
    return final


def latest(folder: Path | str) -> Path | None:
    """The newest checkpoint of a run's folder, or None; it is whole, but its hashes are only checked by `load`."""
    found = _all(Path(folder) / "checkpoints")
    return found[0][2] if found else None


def load(path: Path | str) -> tuple[int, Any]:
    """(step, state tree) of one checkpoint, every byte checked against its hash.

    Raises CheckpointError naming the file that is missing, cut short, altered, or of a newer schema, and another
    checkpoint of the run that is still good, if there is one.
    """
    path = Path(path)
    try:
        manifest = _verified(path)
        return int(manifest["step"]), _read(path)
    except CheckpointError as error:
        good = next((p for _, _, p in _all(path.parent) if p != path and _is_good(p)), None)
        rest = f"; the checkpoint {good} is good" if good else ""
        raise CheckpointError(f"{error}{rest}") from error.__cause__


def _write(partial: Path, step: int, skeleton: Any, tensors: dict[str, Any]) -> None:
    # imported here: it takes its own while, and most commands never save
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, partial / TENSORS)
    except SafetensorError as error:
        raise OSError(_os_reason(error)) from error
    (partial / STATE).write_text(json.dumps(skeleton, allow_nan=False), encoding="ascii")
    shutil.copymode(partial / STATE, partial / TENSORS)  # safetensors makes files that only the owner can read
    files = {}
    for name in (TENSORS, STATE):
        _flush(partial / name)
        files[name] = {"bytes": (partial / name).stat().st_size, "sha256": _sha256(partial / name)}
    manifest = {"schema": SCHEMA, "step": step, "files": files, "versions": library_versions()}
    (partial / MANIFEST).write_text(_sealed(manifest), encoding="ascii")
    _flush(partial / MANIFEST)
    _flush(partial)


def _put_in_place(partial: Path, final: Path) -> None:
    """Renames into place; a former checkpoint of the same step is moved to `step-NNNNNN~` and then removed, so that at
    every moment one of the two can be found."""
    former = final.with_name(f"{final.name}~")
    if final.exists():
        if former.exists():
            _discard(former)
        final.rename(former)
    try:
        partial.rename(final)
    except OSError:
        if former.exists():
            former.rename(final)
        raise
    _flush(final.parent)
    if former.exists():
        _discard(former)


def _sealed(manifest: dict[str, Any]) -> str:
    """The manifest's text, with a digest of itself."""
    body = json.dumps(manifest, indent=1, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**manifest, "digest": digest}, indent=1, sort_keys=True) + "\n"


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written. Raises CheckpointError."""
    try:
        text = (path / MANIFEST).read_text(encoding="ascii")
        manifest = json.loads(text)
        schema = manifest["schema"]
    except OSError as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read: {_reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST} was cut short or altered: it is no manifest") from error
    if isinstance(schema, int) and schema > SCHEMA:
        raise CheckpointError(
            f"{path / MANIFEST} has schema {schema}, and this version reads up to {SCHEMA}: use a newer pilotage"
        )
    body = {name: value for name, value in manifest.items() if name != "digest"}
    if text != _sealed(body):  # to the byte: not only what the JSON means
        raise CheckpointError(f"{path / MANIFEST} was cut short or altered: it does not match its own digest")
    for name in (TENSORS, STATE):
        _verify_file(path / name, manifest["files"][name])
    return body


def _verify_file(file: Path, expected: dict[str, Any]) -> None:
    try:
        size = file.stat().st_size
        if size != expected["bytes"]:
            kind = "cut short" if size < expected["bytes"] else "altered"
            raise CheckpointError(f"{file} was {kind}: it has {size} bytes, its manifest says {expected['bytes']}")
        if _sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file} was altered: its hash is not the one in its manifest")
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {_reason(error)}") from error


def _read(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # cloned: mapped tensors start anywhere in the file, and vector kernels may sum in another order where memory is
        # not aligned as torch's own is, which would break bitwise resume
        tensors = {name: tensor.clone() for name, tensor in load_file(path / TENSORS).items()}
        return decode(json.loads((path / STATE).read_text(encoding="ascii")), tensors)
    except (OSError, SafetensorError, TreeError) as error:
        raise CheckpointError(f"{path} cannot be read: {_reason(error)}") from error


def _is_good(path: Path) -> bool:
    try:
        _verified(path)
    except CheckpointError:
        return False
    return True


def _all(home: Path) -> list[tuple[int, bool, Path]]:
    """(step, is it no former one, path) of each checkpoint, newest first."""
    if not home.is_dir():
        return []
    found = []
    for path in home.iterdir():
        match = NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append((int(match[1]), not match[2], path))
    return sorted(found, reverse=True)


def _sweep(home: Path) -> None:
    """Removes what killed processes left behind."""
    for path in home.glob(f"{PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)
    for _, current, path in _all(home):
        if not current and path.with_name(path.name.removesuffix("~")).exists():
            _discard(path)


def _discard(path: Path) -> None:
    """Removes a checkpoint; renamed first, so that a half-removed folder never has a checkpoint's name."""
    doomed = path.with_name(f"{PARTIAL}{path.name}-removed-{os.getpid()}")
    with contextlib.suppress(OSError):  # too many checkpoints are no reason to stop a run; the next save tries again
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def _removed_on_failure(partial: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _flush(path: Path) -> None:
    """Asks the system to bring a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _os_reason(error: BaseException) -> str:
    """What the system said, out of the words that safetensors puts around it."""
    return re.sub(r"^.*I/O error: |\s*\(os error \d+\)$", "", str(error))
