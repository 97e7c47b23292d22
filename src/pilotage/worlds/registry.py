"""Worlds by name: `family:name`, or an import path of one's own."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pilotage.data.piece import Piece, UsageError, load, nearest
from pilotage.worlds.base import World


@dataclass(frozen=True)
class Family:
    """Worlds that share an adapter. `available`: whether what it adapts is installed."""

    name: str
    about: str
    examples: tuple[str, ...]
    package: str = ""  # what has to be installed
    extra: str = ""  # and the extra of ours that brings it

    @property
    def available(self) -> bool:
        return not self.package or find_spec(self.package) is not None


FAMILIES = (
    Family(
        "reasoning",
        "reasoning-gym: procedural problems in text with their own verifiers",
        ("reasoning:chain_sum", "reasoning:products", "reasoning:countdown"),
        "reasoning_gym",
        "language",
    ),
    Family(
        "mixed",
        "problems of several sizes or kinds, each a category that samplers can choose",
        ("mixed:sums",),
        "reasoning_gym",
        "language",
    ),
    Family(
        "gym",
        "any registered gymnasium environment with Box or Discrete actions",
        ("gym:CartPole-v1", "gym:Pendulum-v1", "gym:HalfCheetah-v5"),
        "gymnasium",
        "control",
    ),
    Family(
        "minigrid",
        "MiniGrid and BabyAI, observed as one flat vector",
        ("minigrid:Empty-5x5", "minigrid:DoorKey-6x6", "minigrid:BabyAI-GoToLocal-v0"),
        "minigrid",
        "control",
    ),
    Family(
        "metaworld",
        "Meta-World: an arm that reaches, pushes, picks and places, with a scripted policy for each of 50 tasks",
        ("metaworld:reach-v3", "metaworld:push-v3", "metaworld:pick-place-v3"),
        "metaworld",
        "robots",
    ),
    Family(
        "bandit",
        "one choice, one reward: a real click log, labelled tables, simulated linear and logistic rewards",
        ("bandit:digits", "bandit:open-bandit", "bandit:linear"),
        "gymnasium",
        "bandits",
    ),
    Family(
        "finite",
        "finite-horizon problems whose model is known exactly",
        ("finite:frozen-lake", "finite:deep-sea", "finite:river-swim", "finite:linear"),
        "gymnasium",
        "control",
    ),
    Family(
        "pointmaze",
        "a ball to be pushed through a maze to a goal (gymnasium-robotics)",
        ("pointmaze:Medium", "pointmaze:Large", "pointmaze:UMaze"),
        "gymnasium_robotics",
        "robots",
    ),
    Family(
        "images",
        "pictures drawn step by step by a denoiser, judged when they are done",
        ("images:digits",),
        "sklearn",
        "images",
    ),
    Family(
        "modes",
        "problems that may be answered at once, worked through, or given to a tool",
        ("modes:sums",),
    ),
    Family(
        "pairs",
        "a preference file of your own: JSON lines of prompt, chosen and rejected",
        ("pairs:FILE.jsonl",),
    ),
    Family(
        "game",
        "OpenSpiel's Colonel Blotto: answers play against each other, and no answer is best",
        ("game:blotto",),
        "pyspiel",
        "games",
    ),
    Family("tabular", "a tiny random problem whose values are known exactly", ("tabular",), "gymnasium", "control"),
)


def catalogue() -> list[Family]:
    """The families of worlds, whether installed or not; imports none of them."""
    return list(FAMILIES)


def resolve(spec: str) -> Piece:
    """The world a name stands for: `reasoning:chain_sum`, `gym:CartPole-v1`, `minigrid:Empty-5x5`, `tabular`, or an
    import path `my_module:MyWorld`, found in the current directory too. Raises UsageError naming the nearest name, or
    what to install."""
    name, colon, rest = spec.partition(":")
    family = next((family for family in FAMILIES if family.name == name), None)
    if family is None:
        if colon and (rest.isidentifier() or "." in name):
            return _own(spec)
        raise UsageError(_unknown(spec))
    if not family.available:
        raise UsageError(f'{spec} needs {family.package}: pip install "pilotage[{family.extra}]"')
    if name != "tabular" and not rest:
        raise UsageError(f"{name}: which one? for example {', '.join(family.examples)}")
    return _MAKERS[name](rest)


def _unknown(spec: str) -> str:
    near = nearest(spec, [example for family in FAMILIES for example in family.examples])
    if not near.startswith("did"):
        near = f"worlds are named like {', '.join(family.examples[0] for family in FAMILIES)}."
    return f"there is no world {spec!r}; {near} A world of your own is named my_module:MyWorld"


def _reasoning(name: str) -> Piece:
    from pilotage.worlds.reasoning import known_dataset

    return Piece("pilotage.worlds.reasoning:ReasoningWorld", {"dataset": known_dataset(name)})


def _mixed(name: str) -> Piece:
    from pilotage.worlds.mixtures import mixture

    return Piece("pilotage.worlds.mixed:MixedWorld", dict(mixture(name)))


def _gym(name: str) -> Piece:
    from pilotage.worlds.gym import known_id

    known_id(name)
    return Piece("pilotage.worlds.gym:GymWorld", {"env_id": name})


def _minigrid(name: str) -> Piece:
    from pilotage.worlds.gym import known_id
    from pilotage.worlds.minigrid import full_id

    return Piece("pilotage.worlds.minigrid:MiniGridWorld", {"env_id": known_id(full_id(name))})


def _metaworld(name: str) -> Piece:
    from pilotage.worlds.metaworld import known_task

    return Piece("pilotage.worlds.metaworld:MetaWorld", {"name": known_task(name)})


def _bandit(name: str) -> Piece:
    named = {
        "open-bandit": Piece("pilotage.worlds.click_log:LoggedBandit"),
        "linear": Piece("pilotage.worlds.bandits:SimulatedBandit"),
        "logistic": Piece("pilotage.worlds.bandits:SimulatedBandit", {"rewards": "logistic"}),
    }
    tables = ("digits", "breast-cancer", "wine", "iris")
    named |= {table: Piece("pilotage.worlds.bandits:TableBandit", {"table": table}) for table in tables}
    if name not in named:
        raise UsageError(f"there is no bandit {name!r}; {nearest(name, named)}")
    return named[name]


FINITE = {
    "frozen-lake": "FrozenLake", "deep-sea": "DeepSea", "river-swim": "RiverSwim", "linear": "LinearWorld",
}  # fmt: skip


def _finite(name: str) -> Piece:
    if name not in FINITE:
        raise UsageError(f"there is no finite world {name!r}; {nearest(name, FINITE)}")
    return Piece(f"pilotage.worlds.finite:{FINITE[name]}")


def _pointmaze(name: str) -> Piece:
    from pilotage.worlds.pointmaze import known_maze

    return Piece("pilotage.worlds.pointmaze:PointMazeWorld", {"maze": known_maze(name)})


def _images(name: str) -> Piece:
    if name != "digits":
        raise UsageError(f"there is no world of images {name!r}; {nearest(name, ['digits'])}")
    return Piece("pilotage.worlds.images:Digits")


def _tabular(name: str) -> Piece:
    if name:
        raise UsageError(f"tabular takes no name, but settings; not {name!r}")
    return Piece("pilotage.worlds.tabular:TabularWorld")


def _pairs(name: str) -> Piece:
    from pilotage.data import preferences

    path = Path(name)
    return Piece("pilotage.worlds.preferences:PreferenceFile", {"path": name, "digest": preferences.digest(path)})


def _modes(name: str) -> Piece:
    if name != "sums":
        raise UsageError(f"there is no world of modes {name!r}; {nearest(name, ['sums'])}")
    return Piece("pilotage.worlds.modes:Sums")


def _game(name: str) -> Piece:
    if name != "blotto":
        raise UsageError(f"there is no game {name!r}; {nearest(name, ['blotto'])}")
    return Piece("pilotage.worlds.games:Blotto")


_MAKERS: dict[str, Callable[[str], Piece]] = {
    "reasoning": _reasoning, "mixed": _mixed, "gym": _gym, "minigrid": _minigrid, "metaworld": _metaworld,
    "bandit": _bandit, "tabular": _tabular, "finite": _finite, "images": _images, "pointmaze": _pointmaze,
    "pairs": _pairs, "game": _game, "modes": _modes,
}  # fmt: skip


def _own(path: str) -> Piece:
    """A world of the user's. The current directory is searched last, so that a file there cannot take the place of an
    installed package; it stays on the path, for the run imports the world again."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    if find_spec(path.partition(":")[0].partition(".")[0]) is None:
        raise UsageError(_unknown(path))
    found = load(path)
    if not (inspect.isclass(found) and issubclass(found, World)):
        raise UsageError(f"{path!r} is not a world: it does not derive from pilotage.World")
    if inspect.isabstract(found):
        raise UsageError(f"{path!r} lacks {', '.join(sorted(found.__abstractmethods__))}")
    return Piece(path)
