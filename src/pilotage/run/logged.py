"""Making data sets: whole episodes logged from trained policies and from chance, with where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.data import dataset
from pilotage.data.batch import Batch, concatenate
from pilotage.data.piece import Piece, UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.tasks import Split
from pilotage.policies.base import Policy
from pilotage.policies.scripted import FollowsScript
from pilotage.policies.uniform import UniformActor
from pilotage.rollouts.episodes import Episodes
from pilotage.run import starts
from pilotage.run.provenance import provenance
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import Playable, Scripted, World

LANES = 8  # episodes played side by side
JUDGED = 20  # held-out episodes behind each reference return
LONGEST = 1000  # decisions of an episode, where the world sets no limit
KEPT = ("observation", "action", "reward")
UNTRAINED = frozenset({"", "random", "scripted", "script", "play"})
QUALITIES = ("random", "medium", "expert", "mixed:SHARE", "scripted", "scripted:NOISE", "play")

Told = Callable[[str, int, int], None]  # what is under way, how far it is, and of how much


@dataclass(frozen=True)
class Quality:
    """Which policies play: shares of decisions by `expert`, `medium`, `random`, `scripted`, the world's own script,
    which plays with `noise` (see FollowsScript), and `play`, the world's own player without a task."""

    name: str
    shares: Mapping[str, float]
    noise: float = 0.0

    @staticmethod
    def parse(text: str) -> Quality:
        """`random`, `medium`, `expert`, `mixed:0.1` (that share of expert decisions, the rest random), `scripted`,
        `scripted:0.1` (with that much noise), or `play`.

        Raises UsageError for anything else, for a share that is not between 0 and 1, and for noise that is.
        """
        name, colon, number = text.partition(":")
        if name in ("random", "medium", "expert", "scripted", "play") and not colon:
            return Quality(name, {name: 1.0})
        if name not in ("mixed", "scripted"):
            raise UsageError(f"no quality {text!r}; {nearest(text, QUALITIES)}")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name == "scripted":
            if not 0 <= value < math.inf:
                raise UsageError(f"a noisy script is scripted:NOISE, 0 or more; not {text!r}")
            return Quality(name, {name: 1.0}, value)
        if not 0 < value < 1:
            raise UsageError(f"a mixture is mixed:SHARE, the share of expert decisions, between 0 and 1; not {text!r}")
        return Quality(name, {"random": 1 - value, "expert": value})

    @property
    def best(self) -> str:
        """Whose return is the upper end of scores; of play there is none."""
        if "play" in self.shares:
            return ""
        return "script" if "scripted" in self.shares else "expert"

    def needs(self) -> set[str]:
        """Which trained policies there must be a run of, that of scores included."""
        return {self.best, *self.shares} - UNTRAINED

    def plays(self) -> set[str]:
        """Which of them decisions are logged from. Where there are none, there may be no scores either."""
        return self.needs() if set(self.shares) - UNTRAINED else set()


@dataclass(frozen=True)
class Order:
    """A data set to be made: `decisions` or a little more, in whole episodes, of a world named `world`; `piece` is that
    world with its settings."""

    name: str
    world: str
    piece: Piece
    quality: Quality
    decisions: int
    seed: int = 0

    def check(self) -> None:
        """Raises UsageError for what cannot be made; asked before anything is trained."""
        dataset.check_name(self.name)
        if self.decisions < 1:
            raise UsageError(f"a data set has at least 1 decision, not {self.decisions}")


def make(order: Order, runs: Mapping[str, Path], told: Told = lambda name, count, total: None) -> dataset.About:
    """Plays and writes a data set; `runs` has the run folders of the policies that the quality needs.

    Policies act as they did in training, with their own noise. Random and expert returns are means over the same
    held-out tasks. Raises UsageError.
    """
    order.check()
    found = {name: starts.finished(folder) for name, folder in runs.items()}
    world: World = order.piece.build()
    best = order.quality.best
    try:
        policies: dict[str, Policy] = {"random": UniformActor(world.observation, world.action)}
        policies |= {name: one.policy for name, one in found.items()}
        if best == "script":
            policies |= _scripts(world, order)
        if not best:
            world, player = _playing(world, order)
            policies["play"] = player
        returns = {
            name: _judged(name, policies[name], world, order, told)
            for name in ("random", best)
            if best and name in policies
        }
        record, who = _played(order, policies, world, told)
        about = dataset.About(
            order.name,
            order.world,
            spaces={what: dataset.space_of(record[what], getattr(world, what)) for what in ("observation", "action")},
            random_return=returns.get("random"),
            expert_return=returns.get(best),
            provenance={
                "quality": order.quality.name,
                "shares": dict(order.quality.shares),
                "noise": order.quality.noise,
                "world": order.piece.to_json(),
                "seed": order.seed,
                "decisions_asked": order.decisions,
                "played": who,
                "policies": {name: _origin(one.recipe) for name, one in found.items()},
                "judged_episodes": JUDGED,
                **provenance(),
            },
        )
        said = {"algorithm_name": order.quality.name}
        return dataset.save(record, about, more={**minari(order.world, world), **said})
    finally:
        world.close()
        for one in found.values():
            one.world.close()


def _scripts(world: World, order: Order) -> dict[str, Policy]:
    """The script as it is, whose return is the upper end of scores; and as it plays. Raises UsageError if there is
    none."""
    if not isinstance(world, Scripted):
        raise UsageError(f"{order.world} has no script to log (a method scripted(observation)); choose another quality")
    noisy = FollowsScript(world.scripted, world.action, noise=order.quality.noise)
    return {"scripted": noisy, "script": FollowsScript(world.scripted, world.action)}


def _playing(world: World, order: Order) -> tuple[World, Policy]:
    """The world as one plays in it, and who does. Raises UsageError if nobody can."""
    if not isinstance(world, Playable):
        raise UsageError(f"{order.world} has nobody who plays in it (`player`); choose another quality")
    player, settings = world.player, dict(world.playground)
    world.close()
    ground: World = order.piece.having(**settings).build()
    return ground, Piece(player).build(ground)


def _origin(recipe: Recipe) -> dict[str, Any]:
    return {"recipe": recipe.to_json(), "digest": recipe.digest()}


def minari(name: str, world: World) -> dict[str, Any]:
    """Entries by which Minari knows the environment again."""
    spec = getattr(world, "_spec", None)
    return {"description": f"logged in {name}"} | ({"env_spec": spec.to_json()} if spec is not None else {})


def _judged(name: str, policy: Policy, world: World, order: Order, told: Told) -> float:
    """The mean return on held-out tasks."""
    total, count = 0.0, 0
    for batch in _chunks(f"reference/{name}", policy, world, order, "held_out", 0):
        returns = batch.returns[batch.valid][: JUDGED - count].double()
        total, count = total + float(returns.sum()), count + len(returns)
        told(f"{name} return", count, JUDGED)
        if count >= JUDGED:
            break
    return total / count


def _played(
    order: Order, policies: Mapping[str, Policy], world: World, told: Told
) -> tuple[Batch, dict[str, dict[str, float]]]:
    """The record, and what each policy added to it."""
    parts: list[Batch] = []
    who: dict[str, dict[str, float]] = {}
    tasks = told_before = 0
    for name, share in order.quality.shares.items():
        wanted = math.ceil(share * order.decisions)
        kept: list[Batch] = []
        held = 0
        for batch in _chunks(f"log/{name}", policies[name], world, order, "train", tasks):
            ends = held + batch.lengths[batch.valid].cumsum(0)
            whole = batch.select(batch.valid).select(ends - batch.lengths[batch.valid] < wanted)
            kept.append(whole)
            held += whole.decisions
            tasks += len(batch)
            told("decisions", min(told_before + held, order.decisions), order.decisions)
            if held >= wanted:
                break
        told_before += held
        mine = concatenate(kept)
        who[name] = {"episodes": len(mine), "decisions": mine.decisions, "mean_return": float(mine.returns.mean())}
        if "success" in mine:
            who[name]["success"] = float(mine["success"].float().mean())
        parts += kept
    whole = concatenate(parts)
    columns = {name: whole[name] for name in KEPT}
    entries = {name: whole[name] for name in ("terminated", "truncated", "final_observation", "task", "group", "valid")}
    return Batch(whole.offsets, columns, entries), who


def _chunks(stream: str, policy: Policy, world: World, order: Order, split: Split, first: int) -> Iterator[Batch]:
    """Episodes on tasks `first`, `first` + 1, …, LANES at a time, without end."""
    plan, streams, chunk = Episodes(max_steps=LONGEST), Streams(order.seed), 0
    empty = 0
    while True:
        tasks = [world.task(first + chunk * LANES + i, split) for i in range(LANES)]
        batch = plan.play(policy, world, tasks, 1, streams, stream, chunk)
        empty = 0 if bool(batch.valid.any()) else empty + 1
        if empty == 3:
            raise UsageError(f"{order.world} gives no valid episode: {batch.notes['reason'][0]}")
        yield batch
        chunk += 1
