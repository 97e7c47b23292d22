"""`reproduce`: a paper's claim beside what is measured."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from pilotage.cli.catalogue import show_table, width
from pilotage.data.piece import UsageError, load, nearest
from pilotage.engines.local import prepare


@click.command()
@click.argument("name", required=False)
@click.option("--quick", is_flag=True, help="A small version, in a minute or two, that shows that it works.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="J", help="Runs side by side.  [default: 1]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where the result goes, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def reproduce(name: str | None, quick: bool, jobs: int, out: Path | None, as_json: bool) -> None:
    """Runs the experiment NAME, and prints its paper's claim beside what was measured; without NAME, lists them.

    NAME is an experiment of the repository, or one's own as my_module:EXPERIMENT. Stopped, the same command goes on.

    \b
    Example:  pilotage reproduce nft --quick
    """
    from pilotage import recorded

    if name is None:
        _list()
        return
    place = path_of(name)
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} to")
    prepare(1)
    from pilotage.run import experiment as declared
    from pilotage.run.compare import ComparisonStopped
    from pilotage.run.wording import plain

    found = load(place)
    if not isinstance(found, declared.Experiment):
        raise UsageError(f"{place!r} is not an experiment: it is no pilotage.run.experiment.Experiment")
    command = shlex.join(["pilotage", "reproduce", name, *(["--quick"] if quick else [])])
    try:
        _, _, record = declared.run(found, command, quick=quick, jobs=jobs)
    except ComparisonStopped as stopped:
        click.echo(f"{stopped}; the same command goes on")
        return
    if out is not None:
        text = json.dumps(plain(record), indent=1, ensure_ascii=False)
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps(plain(record), indent=2, ensure_ascii=False))
        return
    _say(record, recorded.result(found.name), quick)


def path_of(name: str) -> str:
    """The import path of an experiment. Raises UsageError with the nearest name."""
    from pilotage import recorded

    if ":" in name:
        return name
    if not recorded.modules():
        raise UsageError("experiments are files of the repository, and none are here: run this in a checkout of it")
    stem = "experiments." + name.replace("-", "_").replace(".", "_")
    if stem not in recorded.modules():
        known = recorded.experiments()
        if name not in known:
            files = {module.partition(".")[2].replace("_", "-") for module in known.values()}
            raise UsageError(f"no experiment {name!r}; {nearest(name, files | known.keys())}")
        stem = known[name]
    return f"{stem}:EXPERIMENT"


def _list() -> None:
    from rich.table import Table

    from pilotage import recorded

    table = Table(title="Experiments", title_justify="left")
    for column in ("name", "recorded", "claim"):
        table.add_column(column, no_wrap=column == "name")
    for name in recorded.experiments():
        found = recorded.result(name) or {}
        table.add_row(name, found.get("verdict", "–"), found.get("claim", "–"))
    show_table(table)


def _say(now: dict[str, Any], before: dict[str, Any] | None, quick: bool) -> None:
    """The claim, the criterion, what was measured, and what is recorded of it."""
    verdict = now["verdict"] + (" (a quick version: it decides nothing)" if quick else "")
    rows = [
        ("claim", now["claim"]),
        ("criterion", now["criterion"]),
        ("measured", now["because"]),
        ("verdict", verdict),
    ]
    rows[2:2] = [("", comparison["verdict"]) for comparison in now["comparisons"]]
    if before is not None:
        rows.append(("recorded", f"{before['verdict']}: {before['because']}"))
    for head, text in rows:
        click.echo(click.wrap_text(text, min(width(), 120), f"{head:11s}", " " * 11))
