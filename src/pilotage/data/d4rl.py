"""HDF5 files in D4RL's form: flat arrays of transitions, to be cut into episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.data import hdf5
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError

NEEDED = ("observations", "actions", "rewards", "terminals")
JUMP = 1e-6  # a next observation this far from the row below belongs to another episode


def read(path: Path) -> Batch:
    """The episodes of a file with arrays `observations`, `actions`, `rewards`, `terminals`, and where it has them
    `timeouts` and `next_observations`, all of one length.

    An episode ends where `terminals` or `timeouts` say so, or where the next observation is not the row below. Without
    `next_observations` what followed a cut is unknown: the last row of an episode that did not terminate then gives its
    final observation and is no decision itself, and an episode of one such row is left out. Raises UsageError.
    """
    with hdf5.opened(path) as file:
        missing = [name for name in NEEDED if name not in file]
        if missing:
            raise UsageError(f"{path} has no {' and no '.join(missing)}; it has {', '.join(file) or 'nothing'}")
        try:
            found = {name: hdf5.flattened(file[name]) for name in NEEDED}
            more = {n: hdf5.flattened(file[n]) for n in ("timeouts", "next_observations") if n in file}
        except (OSError, RuntimeError, KeyError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
    found["rewards"] = found["rewards"].reshape(-1) if found["rewards"].dim() == 2 else found["rewards"]
    rows = len(found["observations"])
    for name, values in (found | more).items():
        if len(values) != rows:
            raise UsageError(f"{path}: {name} has {len(values)} rows, observations {rows}")
    if rows == 0:
        raise UsageError(f"{path} holds no transitions")
    return _cut(path, found, more)


def _cut(path: Path, found: dict[str, Tensor], more: dict[str, Tensor]) -> Batch:
    observation, following = found["observations"], more.get("next_observations")
    terminal = found["terminals"].reshape(-1).bool()
    ends = terminal.clone()
    if "timeouts" in more:
        ends |= more["timeouts"].reshape(-1).bool()
    if following is not None:
        gap = (following[:-1].double() - observation[1:].double()).abs().flatten(1).amax(1)
        ends[:-1] |= gap > JUMP
    ends[-1] = True
    parts: list[dict[str, Any]] = []
    start = 0
    for end in (ends.nonzero().squeeze(-1) + 1).tolist():
        ended = bool(terminal[end - 1])
        if following is not None:
            steps, final = end, following[end - 1 : end]
        else:
            steps, final = (end if ended else end - 1), observation[end - 1 : end]
        if steps > start:
            parts.append(
                {
                    "observation": torch.cat([observation[start:steps], final]),
                    "action": found["actions"][start:steps],
                    "reward": found["rewards"][start:steps].float(),
                    "terminated": ended,
                    "truncated": not ended,
                    "task": len(parts),
                }
            )
        start = end
    if not parts:
        raise UsageError(f"{path} holds no whole transition")
    return hdf5.joined(parts)
