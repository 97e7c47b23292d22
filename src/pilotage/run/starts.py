"""Starts and data: weights and records that a recipe names as another recipe, made once and shared by its hash.

CACHE/starts/DIGEST   the run that made a start, or whose policy played the data
      data/DIGEST     records, DIGEST being that of the recipe and of what was kept
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilotage.data.batch import Batch
from pilotage.data.folders import cache_folder
from pilotage.data.piece import UsageError
from pilotage.learn.learner import RunStopped
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.episodes import Episodes
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.stored import Stored
from pilotage.run import checkpoint
from pilotage.run.assemble import Parts, assemble
from pilotage.run.log import read_recipe
from pilotage.run.recipe import Recipe

Train = Callable[[Recipe, Path], object]  # goes on with what is in the folder


def start_folder(start: Recipe) -> Path:
    """The run folder of a start: named by the hash of its recipe."""
    return cache_folder() / "starts" / start.digest()


def is_made(start: Recipe) -> bool:
    """Whether a start has been trained to its end."""
    found = checkpoint.latest(start_folder(start))
    return found is not None and checkpoint.load(found)[0] >= start.steps


def ensure(start: Recipe, train: Train) -> Path:
    """The run folder of a start, trained first (or further) if need be. Other processes that want it wait."""
    folder = start_folder(start)
    with alone(folder):
        if not is_made(start):
            train(start, folder)
    return folder


def finished(folder: Path) -> Parts:
    """A run's parts as its last checkpoint has them, without data: it can act, not learn. Raises UsageError."""
    found = checkpoint.latest(folder)
    if found is None:
        raise UsageError(f"{folder} has no checkpoint yet")
    parts = assemble(Recipe.from_json(read_recipe(folder)), fill=False)
    state = checkpoint.load(found)[1]["parts"]
    if "terms" in state["learner"]:  # what optimisers hold is of no use to acting
        state["learner"]["terms"] = {name: {} for name in state["learner"]["terms"]}
    parts.load_state_dict(state)
    return parts


def load_weights(policy: Policy, start: Recipe) -> None:
    """Gives a policy the weights that a finished start was judged with (its own, or those of the target that its
    evaluation names); parameters the start lacks (a critic) stay as they are.

    Raises UsageError if the start's weights do not fit.
    """
    state, judged = _state(start), start.evaluation.policy
    weights = state["learner"]["targets"][judged] if judged else state["policy"]
    try:
        missing, unexpected = policy.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes; torch says which, a line each
        raise UsageError(f"the start's weights do not fit the policy: {str(error).splitlines()[-1].strip()}") from None
    if unexpected or (weights and len(missing) == len(policy.state_dict())):
        raise UsageError(
            f"the start's weights do not fit the policy: it has no {', '.join([*unexpected, *weights][:3])}"
        )


def ensure_data(data: Recipe, plan: Stored, train: Train) -> Batch:
    """The record a stored rollout draws from, made first if need be: the data recipe is trained, its final policy plays
    training tasks, and the best of what it played is kept as `plan` says. Raises RunStopped if no episode is valid."""
    # the digest of a recipe leaves its evaluation out, but here that says how long an episode may be
    settings = {"episodes": plan.episodes, "keep": plan.keep, "max_steps": data.evaluation.max_steps}
    name = hashlib.sha256(json.dumps([data.digest(), settings]).encode()).hexdigest()[:16]
    folder = cache_folder() / "data" / name
    ensure(data, train)
    with alone(folder):
        found = checkpoint.latest(folder)
        if found is None:
            found = checkpoint.save(folder, 0, _recorded(data, plan).tree())
    return Batch(**checkpoint.load(found)[1])


def _recorded(data: Recipe, plan: Stored) -> Batch:
    parts = assemble(data)
    try:
        parts.policy.load_state_dict(_state(data)["policy"])
        played = _play(parts, plan.episodes)
    finally:
        parts.world.close()
    return best(played.select(played.valid), plan.keep)


def _play(parts: Parts, episodes: int) -> Batch:
    """One episode on each of the first training tasks."""
    tasks = [parts.sampler.next() for _ in range(episodes)]
    plan = (
        Messages()
        if isinstance(parts.policy, SpeakingPolicy)
        else Episodes(max_steps=parts.recipe.evaluation.max_steps)
    )
    play = plan.converse if isinstance(plan, Messages) else plan.play
    return play(parts.policy, parts.world, tasks, 1, parts.streams, "record", 0)


def best(batch: Batch, keep: float) -> Batch:
    """The share `keep` of the episodes with the highest returns (at least one), in the order they were played.

    Raises RunStopped for an empty batch.
    """
    if len(batch) == 0:
        raise RunStopped("no valid episode was played: there is nothing to learn from")
    order = batch.returns.argsort(descending=True, stable=True)
    return batch.select(order[: math.ceil(keep * len(batch))].sort().values)


def _state(made: Recipe) -> Any:
    found = checkpoint.latest(start_folder(made))
    if found is None:
        raise FileNotFoundError(f"the start {made.digest()} has not been made")
    return checkpoint.load(found)[1]["parts"]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a lock beside a folder: processes that want the same thing made, side by side, make it once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # the system frees it when the process ends, however it ends
        yield
