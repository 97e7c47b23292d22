"""`compare`: paired runs and the verdict."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotage.cli import options
from pilotage.cli.catalogue import show_table
from pilotage.cli.training import slug
from pilotage.data.piece import UsageError
from pilotage.engines.local import prepare

if TYPE_CHECKING:
    from pilotage.api import Compared


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME NAME …")
@options.recipe_options
@click.option("--seeds", type=int, default=3, metavar="N", help="Paired seeds 0 to N-1 for every arm.  [default: 3]")
@options.threads_option
@click.option("--jobs", type=click.IntRange(min=1), metavar="J", help="Runs side by side.  [default: processors]")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="A folder for the comparison.")
@click.option("--resume", is_flag=True, help="Go on with what is in the folder; finished runs are kept.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def compare(
    names: tuple[str, ...],
    world: str | None,
    policy: str | None,
    data: str | None,
    steps: int | None,
    settings: tuple[str, ...],
    config: Path | None,
    seeds: int,
    threads: int,
    jobs: int | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Methods side by side with the same seeds, and the verdict: each NAME against the last one.

    \b
    Example:  pilotage compare nft grpo --world reasoning:chain_sum --seeds 3 --out runs/main
    """
    asked = options.asked_for(world, policy, data, None, steps, settings, config)
    if asked.seed:
        raise UsageError("a comparison runs seeds 0 to N-1: say how many with --seeds")
    folder = out or Path("runs") / f"{'-'.join(names)}-{slug(asked.world)}"
    from pilotage import api
    from pilotage.run.compare import ComparisonStopped

    prepare(threads)
    try:
        found = api.compare(
            *names,
            world=asked.world,
            policy=asked.policy,
            seeds=seeds,
            steps=asked.steps,
            settings=asked.settings,
            out=folder,
            jobs=jobs,
            threads=threads,
            resume=resume,
        )
    except ComparisonStopped as stopped:
        click.echo(f"{stopped}; go on with: {_again(folder)}")
        return 0
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _say(found)
    for failure in found.failures:
        click.echo(f"pilotage: {failure}", err=True)
    if found.failures:
        click.echo(f"pilotage: go on with: {_again(folder)}", err=True)
    return 1 if found.failures else 0


def _say(found: Compared) -> None:
    """The table of each pair, its verdict, and where the report is."""
    for note in found.notes:
        click.echo(f"note: {note}")
    for result in found.results:
        table = result.table()
        table.title = None  # the verdict follows, where nothing wraps it
        show_table(table)
        click.echo(result.verdict)
    for report in found.reports:
        click.echo(f"report: {report.resolve()}")


def _again(folder: Path) -> str:
    """The command that goes on."""
    given = [argument for argument in sys.argv[1:] if argument != "--resume"]
    place = [] if "--out" in given or any(a.startswith("--out=") for a in given) else ["--out", str(folder)]
    return shlex.join(["pilotage", *given, *place, "--resume"])
