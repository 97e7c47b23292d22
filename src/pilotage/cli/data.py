"""`data`: data sets for offline methods: made, imported, listed, described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotage.cli.catalogue import show_table
from pilotage.cli.options import parse_setting
from pilotage.engines.local import prepare

if TYPE_CHECKING:
    from pilotage.data.dataset import About
    from pilotage.run.progress import Progress

QUALITIES = "random, medium, expert, mixed:0.1 (the expert's share), scripted, scripted:0.1 (its noise), play"


@click.group()
def data() -> None:
    """Data sets for offline methods: made, imported, listed, described.

    \b
    Example:  pilotage data make gym:Pendulum-v1 --quality mixed:0.1 --steps 20000
    """


@data.command()
@click.argument("world")
@click.option(
    "--quality",
    required=True,
    metavar="Q",
    help="random, medium, expert, mixed:0.1 (the expert's share), scripted, scripted:0.1 (its noise), play.",
)
@click.option("--steps", type=click.IntRange(min=1), default=100_000, metavar="N", help="Decisions.  [default: 100000]")
@click.option("--out", metavar="NAME", help="Name, such as hopper/mixed-v0.  [default: by world and quality]")
@click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE", help="A setting of the world: world.NAME=VALUE."
)
@click.option("--seed", type=int, default=0, metavar="S", help="Seed of what is logged.  [default: 0]")
@click.option(
    "--expert",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A run's folder.  [default: trained, but for random data]",
)
@click.option(
    "--expert-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Training steps of the default expert; of random data, one for their scores.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, metavar="N", help="Threads.  [default: 1]")
def make(
    world: str,
    quality: str,
    steps: int,
    out: str | None,
    settings: tuple[str, ...],
    seed: int,
    expert: Path | None,
    expert_steps: int | None,
    threads: int,
) -> None:
    """Logs whole episodes on WORLD from trained policies and from chance.

    \b
    Example:  pilotage data make gym:HalfCheetah-v5 --quality mixed:0.1 --out halfcheetah/mixed-v0
    """
    from pilotage import datasets

    prepare(threads)
    with Stages() as stages:
        found = datasets.make(
            world, quality, steps, out=out, seed=seed, expert=expert, expert_steps=expert_steps,
            settings=dict(map(parse_setting, settings)),
            told=stages.told,
        )  # fmt: skip
    click.echo(f"made {found.name}: {said(found)}")
    if found.random_return is not None and found.expert_return is None:
        click.echo("its scores are not known: they need an expert, --expert RUN, or --expert-steps N to train one")


class Stages:
    """A bar for what is under way, with its own pace; another for what comes next."""

    def __init__(self) -> None:
        self.shown: Progress | None = None
        self.name = ""

    def __enter__(self) -> Stages:
        return self

    def told(self, name: str, count: int, total: int) -> None:
        """How far a stage is."""
        from pilotage.run.progress import Progress

        if self.shown is None or name != self.name:
            self.__exit__()
            self.name, self.shown = name, Progress({name: total}).__enter__()
            self.shown.update(name, 0, {})
        self.shown.update(name, count, {})

    def __exit__(self, *exception: object) -> None:
        if self.shown is not None:
            self.shown.__exit__(*exception)


@data.command("import")
@click.argument("file", metavar="FILE.hdf5", type=click.Path(path_type=Path))
@click.option("--world", required=True, metavar="W", help="World that the data are from: see `pilotage worlds`.")
@click.option("--out", required=True, metavar="NAME", help="Name, such as hopper/logged-v0.")
@click.option("--random-return", type=float, metavar="R", help="Mean return of a random policy, for scores.")
@click.option("--expert-return", type=float, metavar="R", help="Mean return of an expert, for scores.")
def import_file(file: Path, world: str, out: str, random_return: float | None, expert_return: float | None) -> None:
    """Takes in an HDF5 file in D4RL's form: observations, actions, rewards, terminals, timeouts.

    \b
    Example:  pilotage data import hopper_medium-v2.hdf5 --world gym:Hopper-v5 --out hopper/d4rl-v2
    """
    from pilotage import datasets

    found = datasets.take_in(file, world, out, random_return=random_return, expert_return=expert_return)
    click.echo(f"made {found.name}: {said(found)}")


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_data(as_json: bool) -> None:
    """The data sets that there are.

    \b
    Example:  pilotage data list --json
    """
    from rich.table import Table

    from pilotage.data import dataset
    from pilotage.data.folders import data_folder

    found = [dataset.describe(name) for name in dataset.names()]
    if as_json:
        click.echo(json.dumps([summary(one) for one in found], indent=2))
        return
    if not found:
        click.echo(f"no data sets in {data_folder()}; make one: pilotage data make gym:Pendulum-v1 --quality random")
        return
    table = Table(title=f"Data sets in {data_folder()}", title_justify="left")
    for heading in ("name", "world", "episodes", "decisions", "digest"):
        table.add_column(heading)
    for one in found:
        table.add_row(one.name, one.world or "–", f"{one.episodes}", f"{one.decisions}", one.digest or "–")
    show_table(table)


@data.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with its whole provenance.")
def describe(name: str, as_json: bool) -> None:
    """What a data set holds and where it comes from; reads and checks all of it.

    \b
    Example:  pilotage data describe halfcheetah/mixed-v0
    """
    from pilotage.data import dataset

    whole = dataset.load(name)
    returns, lengths = whole.record.returns.double(), whole.record.lengths
    numbers = {
        "return_mean": float(returns.mean()),
        "return_least": float(returns.min()),
        "return_most": float(returns.max()),
        "positive_variance": dataset.positive_variance(returns),
        "length_least": int(lengths.min()),
        "length_most": int(lengths.max()),
        "terminated": float(whole.record["terminated"].float().mean()),
    }
    if as_json:
        about = {**summary(whole.about), "spaces": dict(whole.about.spaces), **numbers}
        click.echo(json.dumps({**about, "provenance": dict(whole.about.provenance)}, indent=2))
        return
    click.echo(f"{whole.about.name}: {said(whole.about)}")
    click.echo(
        f"returns {numbers['return_least']:.4g} to {numbers['return_most']:.4g}, mean {numbers['return_mean']:.4g}, "
        f"positive-sided variance {numbers['positive_variance']:.4g}; episodes of {numbers['length_least']} to "
        f"{numbers['length_most']} decisions, {numbers['terminated']:.0%} terminated"
    )
    for line in origin(whole.about):
        click.echo(line)


def said(about: About) -> str:
    """A data set in a sentence."""
    score = ""
    if about.random_return is not None and about.expert_return is not None:
        score = f"; score 0 is a return of {about.random_return:.4g}, 100 one of {about.expert_return:.4g}"
    world = about.world or "an unnamed world"
    return f"{about.decisions} decisions in {about.episodes} episodes of {world}, digest {about.digest}{score}"


def origin(about: About) -> list[str]:
    """What its provenance says, in lines."""
    lines = []
    for name, part in about.provenance.get("played", {}).items():
        mean = f"mean return {part['mean_return']:.4g}"
        lines.append(f"{name}: {part['decisions']} decisions in {part['episodes']} episodes, {mean}")
    for name, policy in about.provenance.get("policies", {}).items():
        made = policy["recipe"]
        lines.append(f"{name} policy: {made['name']}, {made['steps']} steps, seed {made['seed']}, {policy['digest']}")
    if "imported" in about.provenance:
        lines.append(f"imported from {about.provenance['imported']}")
    return lines


def summary(about: About) -> dict[str, Any]:
    """As JSON, without provenance."""
    names = ("name", "world", "digest", "episodes", "decisions", "random_return", "expert_return")
    return {name: getattr(about, name) for name in names}
