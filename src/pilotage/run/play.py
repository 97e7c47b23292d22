"""Play as a data set: whole episodes of somebody who wanders about without a task, logged with where they come from."""

from __future__ import annotations

import torch

from pilotage.data import dataset
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.waypoints import Wanderer
from pilotage.rollouts.episodes import Episodes
from pilotage.run.provenance import provenance
from pilotage.worlds.registry import resolve

KEPT = ("observation", "action", "reward")


def log_play(name: str, world: str, *, episodes: int = 400, steps: int = 200, slack: int = 2, seed: int = 0) -> None:
    """Writes the data set `name`: so many episodes of so many steps in a maze, ways at most `slack` steps longer than
    the shortest. Nothing is written where the set is there already and was made alike.

    Raises UsageError for a world that is no maze, and for a name that stands for other data.
    """
    asked = {"quality": "play", "episodes": episodes, "steps": steps, "slack": slack, "seed": seed}
    if name in dataset.names():
        known = dataset.describe(name)
        if known.world != world or {key: known.provenance.get(key) for key in asked} != asked:
            raise UsageError(f"the data set {name} was made otherwise: {dict(known.provenance)}; choose another name")
        return
    piece = resolve(world)
    if "ends_at_goal" not in piece.defaults():
        raise UsageError(f"play is logged in mazes, such as pointmaze:Medium; {world} is none")
    made = piece.having(ends_at_goal=False, limit=steps, seed=seed).build()
    try:
        tasks = [made.task(i, "train") for i in range(episodes)]
        played = Episodes(max_steps=steps).play(Wanderer(made, slack=slack), made, tasks, 1, Streams(seed), "play", 0)
        spaces = {what: dataset.space_of(played[what], getattr(made, what)) for what in ("observation", "action")}
    finally:
        made.close()
    record = Batch(
        played.offsets,
        {column: played[column] for column in KEPT},
        {
            **{key: played[key] for key in ("terminated", "truncated", "valid", "task", "final_observation")},
            "group": torch.arange(len(played)),
        },
    )
    about = dataset.About(name, world, spaces=spaces, provenance={**asked, **provenance()})
    dataset.save(record, about, more={"description": f"play in {world}"})
