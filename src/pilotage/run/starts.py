"""Starts: warm-started weights that a recipe names as another recipe, made once and shared by its hash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from pilotage.policies.base import Policy
from pilotage.run import checkpoint
from pilotage.run.recipe import Recipe


def cache_folder() -> Path:
    """Where things made once are kept: $PILOTAGE_CACHE, else ~/.cache/pilotage."""
    return Path(os.environ.get("PILOTAGE_CACHE") or Path.home() / ".cache" / "pilotage")


def start_folder(start: Recipe) -> Path:
    """The run folder of a start: named by the hash of its recipe."""
    return cache_folder() / "starts" / start.digest()


def is_made(start: Recipe) -> bool:
    """Whether a start has been trained to its end."""
    found = checkpoint.latest(start_folder(start))
    return found is not None and checkpoint.load(found)[0] >= start.steps


def ensure(start: Recipe, train: Callable[[Recipe, Path], object]) -> Path:
    """The run folder of a start, trained first (or further) if need be; `train` goes on from what is there."""
    folder = start_folder(start)
    if not is_made(start):
        train(start, folder)
    return folder


def load_weights(policy: Policy, start: Recipe) -> None:
    """Gives a policy the weights of a finished start; parameters the start lacks (a critic) stay as they are.

    Raises ValueError if none of the start's weights fit.
    """
    found = checkpoint.latest(start_folder(start))
    if found is None:
        raise FileNotFoundError(f"the start {start.digest()} has not been made")
    weights = checkpoint.load(found)[1]["parts"]["policy"]
    missing, unexpected = policy.load_state_dict(weights, strict=False)
    if unexpected or (weights and len(missing) == len(policy.state_dict())):
        raise ValueError(f"the start's weights do not fit the policy: {json.dumps(list(unexpected)[:3])}")
