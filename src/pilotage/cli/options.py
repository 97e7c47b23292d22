"""Options that verbs share, and what they mean."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pilotage.data.piece import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
SPECS = ("world", "policy")


@dataclass(frozen=True)
class Asked:
    """What the user asked of a recipe, by options and by a file; options win."""

    world: str
    policy: str | None
    seed: int
    steps: int | None
    settings: dict[str, Any]


def recipe_options(function: Function) -> Function:
    """--world, --policy, --data, --steps, --set, --config."""
    for option in (
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Settings from a TOML or JSON file, by the same paths; also world, policy, seed, steps.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="PATH=VALUE",
            help="A setting of the recipe, e.g. learning_rate=1e-3, policy.hidden=[64,64]; `explain` lists them.",
        ),
        click.option("--steps", type=int, metavar="N", help="Training steps."),
        click.option(
            "--data", metavar="D", help="Data set of an offline method, by name or folder; see `pilotage data`."
        ),
        click.option("--policy", metavar="P", help="Policy: see `pilotage policies`.  [default: by the world]"),
        click.option(
            "--world",
            metavar="W",
            help="World: see `pilotage worlds`.  [default: the data's, else reasoning:chain_sum]",
        ),
    ):
        function = option(function)
    return function


def seed_option(function: Function) -> Function:
    """--seed."""
    return click.option("--seed", type=int, metavar="S", help="Seed of everything random.  [default: 0]")(function)


def threads_option(function: Function) -> Function:
    """--threads."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Threads of a run's arithmetic; one is fastest for small networks.  [default: 1]",
    )(function)


def asked_for(
    world: str | None,
    policy: str | None,
    data: str | None,
    seed: int | None,
    steps: int | None,
    settings: Sequence[str],
    config: Path | None,
) -> Asked:
    """Options and file together. Raises UsageError for a file that cannot be read, or a setting that is none."""
    given = read_config(config) if config is not None else {}
    plain = (("world", world), ("policy", policy), ("store.data", data), ("seed", seed), ("steps", steps))
    for name, value in plain:
        if value is not None:
            given[name] = value
    given.update(parse_setting(text) for text in settings)
    for name in SPECS:
        if not isinstance(given.get(name, ""), str):
            raise UsageError(f"{name} is named by a text such as {name}=…; its settings are {name}.NAME=…")
    from pilotage.api import usual_world

    if not given.get("world"):
        given["world"], made_with = usual_world(given.get("store.data"))
        given = {**made_with, **given}
    return Asked(
        given.pop("world"),
        given.pop("policy", None),
        _whole("seed", given.pop("seed", 0)),
        _whole("steps", given.pop("steps")) if "steps" in given else None,
        given,
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """`path=value` as (path, text). Raises UsageError."""
    path, equals, value = text.partition("=")
    if not (path.strip() and equals):
        raise UsageError(f"--set takes PATH=VALUE, such as --set learning_rate=1e-3; not {text!r}")
    return path.strip(), value.strip()


def read_config(path: Path) -> dict[str, Any]:
    """A file's settings by dotted path. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise UsageError(f"{path} is not {kind}: {error}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} holds no table of settings")
    return dict(_flat(tree, ""))


def _flat(tree: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"{name} takes a whole number, not {value!r}") from None
    return int(value)
