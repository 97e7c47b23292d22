"""Data sets from Python as from the command line: logged from policies trained here, or taken in from files."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotage import api, explain
from pilotage.data import d4rl, dataset
from pilotage.data.dataset import About, describe, load, names
from pilotage.data.folders import data_folder
from pilotage.data.piece import UsageError
from pilotage.run import compare as runner
from pilotage.run import logged, starts
from pilotage.run.provenance import provenance
from pilotage.settings import apply
from pilotage.worlds import registry

EXPERTS = {"box": ("sac", 5000), "discrete": ("ppo", 200)}  # by kind of world: method and steps of the logged policy
MEDIUM = 0.5  # where in an expert's training the medium policy stands


def make(
    world: str,
    quality: str,
    decisions: int,
    *,
    out: str | None = None,
    seed: int = 0,
    expert: str | Path | None = None,
    expert_steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    show: bool = True,
    told: logged.Told = lambda name, count, total: None,
) -> About:
    """Logs a data set of whole episodes and writes it under the name `out` (by default of world and quality).

    quality: random, medium, expert, mixed:0.1 (that share of expert decisions, the rest random), scripted or
    scripted:0.1 (the world's own script, with that much noise), or play (the world's own player, without a task). The
    expert is trained first unless it is there (`sac` or `ppo`, `expert_steps` steps), or is the run in the folder
    `expert`; the medium policy is its training at half of its steps. Random data need none: their scores are known only
    where `expert` or `expert_steps` is given. settings: of the world, as `{"world.horizon": 100}`. Raises UsageError.
    """
    wanted, asked = logged.Quality.parse(quality), dict(settings or {})
    piece = apply(registry.resolve(world), "world", asked)
    if asked:
        raise UsageError(f"data are made with settings of the world, world.NAME; not {', '.join(asked)}")
    order = logged.Order(out or _free_name(world, wanted.name), world, piece, wanted, decisions, seed)
    order.check()
    return logged.make(order, _players(order, expert, expert_steps, show), told)


def ensure(name: str, world: str, quality: str, decisions: int, **more: Any) -> None:
    """Makes a data set, as `make` does, unless there is one of this name; other processes that want it wait."""
    with starts.alone(data_folder() / name):
        if name not in dataset.names():
            make(world, quality, decisions, out=name, show=False, **more)


def _players(order: logged.Order, expert: str | Path | None, steps: int | None, show: bool) -> dict[str, Path]:
    """The run folders of the policies that an order needs, trained first where they are not there."""
    if not order.quality.needs():
        return {}
    if expert is not None:
        best = api.Run(Path(expert)).recipe
        if best.world != order.piece:
            raise UsageError(f"{expert} is a run on {explain.shown(best.world)}, not on {explain.shown(order.piece)}")
    else:
        made = order.piece.build()
        made.close()
        if made.kind not in EXPERTS:
            raise UsageError(f"data are logged on worlds of kind {' or '.join(EXPERTS)}; {order.world} is {made.kind}")
        if steps is None and not order.quality.plays():
            return {}
        method, usual = EXPERTS[made.kind]
        best = api.recipe(method, order.piece, steps=steps or usual)
    found: dict[str, Path] = {}
    for name in sorted(order.quality.needs()):
        if name == "expert" and expert is not None:
            found[name] = Path(expert)
            continue
        one = replace(best, steps=math.ceil(MEDIUM * best.steps)) if name == "medium" else best
        runner.make_start(one, show)
        found[name] = starts.start_folder(one)
    return found


def _free_name(world: str, quality: str) -> str:
    """`halfcheetah/mixed-v0`, or the first version that is not taken."""
    short = re.sub(r"-v\d+$", "", world.rpartition(":")[2]).lower()
    base = f"{re.sub(r'[^-a-z0-9_]+', '-', short).strip('-')}/{quality}"
    taken = dataset.names()
    return next(name for i in itertools.count() if (name := f"{base}-v{i}") not in taken)


def take_in(
    file: str | Path,
    world: str,
    out: str,
    *,
    random_return: float | None = None,
    expert_return: float | None = None,
) -> About:
    """Writes the episodes of an HDF5 file in D4RL's form as a data set. Raises UsageError."""
    made = registry.resolve(world).build()
    made.close()
    record = d4rl.read(Path(file))
    dataset.check_fits(record, str(file), made)
    spaces = {what: dataset.space_of(record[what], getattr(made, what)) for what in ("observation", "action")}
    about = About(
        out,
        world,
        spaces=spaces,
        random_return=random_return,
        expert_return=expert_return,
        provenance={"imported": Path(file).name, **provenance()},
    )
    return dataset.save(record, about, more=logged.minari(world, made))


__all__ = ["About", "describe", "ensure", "load", "make", "names", "take_in"]
