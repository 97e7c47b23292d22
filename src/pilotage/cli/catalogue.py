"""`list`, `show`, `worlds`, `policies`: what there is. `list` imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pilotage.methods import method as known

if TYPE_CHECKING:
    from rich.table import Table

# of `list`, and the width of a terminal from which on each is shown
COLUMNS = {"name": 0, "family": 140, "what it is": 0, "changes": 140, "baseline": 110, "status": 0}
WIDE = 160  # where nobody looks at a terminal


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_methods(as_json: bool) -> None:
    """Methods and baselines: family, what each is, what it changes.

    \b
    Example:  pilotage list --json
    """
    from pilotage import recorded

    rows = [{**summary(method), "status": recorded.status(method.slug)} for method in known.methods().values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.table import Table

    for kind, title in (("method", "Methods"), ("baseline", "Baselines")):
        table = Table(title=title, title_justify="left")
        shown = [name for name, least in COLUMNS.items() if width() >= least]
        for name in shown:
            table.add_column(name, no_wrap=name in ("name", "baseline", "status"))
        for row in rows:
            if row["kind"] == kind:
                texts = {**row, "what it is": row["line"], "changes": ", ".join(row["changes"])}
                table.add_row(*(texts[name] or "–" for name in shown))
        show_table(table)


def summary(method: known.Method) -> dict[str, Any]:
    """A method as JSON."""
    return {
        "name": method.slug,
        "kind": method.kind,
        "family": method.family,
        "line": method.line,
        "changes": list(method.parts),
        "baseline": method.baseline,
        "paper": method.paper,
        "claim": method.claim,
    }


@click.command()
@click.argument("name")
def show(name: str) -> None:
    """The card of a method: idea, equation, paper, claim, settings, result.

    \b
    Example:  pilotage show nft
    """
    method = known.find(name)
    from rich.table import Table

    from pilotage import explain, recorded

    click.echo(f"{method.slug} · {method.kind} · {method.family}\n\n{method.card}\n")
    click.echo(f"Paper     {method.paper}")
    if method.claim:
        click.echo(f"Claim     {method.claim}")
    for result in recorded.results(method.slug):
        click.echo(f"Measured  {result}")
    found, kind = explain.bare(method.slug)
    before = explain.bare(method.baseline, kind)[0] if method.baseline else None
    changed = explain.changes(found, before) if before else []
    if changed and method.baseline:
        show_table(changes_table(changed, f"What it changes in {method.baseline}", (method.baseline, method.slug)))
    table = Table(title=f"Settings, with defaults on a world of {kind}", title_justify="left")
    table.add_column("path", overflow="fold")
    table.add_column("default", overflow="fold")
    for path, value in explain.settings_of(found):
        table.add_row(path, explain.shown(value))
    show_table(table)


@click.command()
def worlds() -> None:
    """Worlds there are, and how to bring one's own.

    \b
    Example:  pilotage train ppo --world gym:CartPole-v1
    """
    from rich.table import Table

    from pilotage.worlds import registry

    table = Table(title="Worlds", title_justify="left")
    for name in ("family", "what it is", "for example", "installed"):
        table.add_column(name, overflow="fold")
    for family in registry.catalogue():
        installed = "yes" if family.available else f'no: pip install "pilotage[{family.extra}]"'
        table.add_row(family.name, family.about, "\n".join(family.examples), installed)
    show_table(table)
    click.echo(OWN_WORLD)


@click.command()
def policies() -> None:
    """Policies there are, and how to bring one's own.

    \b
    Example:  pilotage train grpo --policy hf:./my-model --set policy.lora_rank=16
    """
    from rich.table import Table

    from pilotage.policies import registry

    table = Table(title="Policies", title_justify="left")
    for name in ("name", "what it is", "for example"):
        table.add_column(name)
    for kind in registry.KINDS:
        table.add_row(kind.name, kind.line, f"--policy {kind.example}")
    show_table(table)
    click.echo(OWN_POLICY)


OWN_WORLD = """\
Settings of a world:  --set world.NAME=VALUE; `pilotage explain grpo --world W` lists them.

A world of your own is a class, named by its import path; the current directory is searched:

    # my_module.py
    from pilotage import Task, Text, TextWorld

    class Echo(TextWorld):
        observation = Text(max_tokens=5, alphabet="0123456789=")
        action = Text(max_tokens=4, alphabet="0123456789")

        def make(self, rng):
            number = str(rng.integers(1000))
            return Task(prompt=f"{number}=", answer=number)

        def verify(self, task, answer):
            return float(answer == task.answer)

    pilotage train grpo --world my_module:Echo

Environments that gymnasium knows need nothing: --world gym:HalfCheetah-v5, or gym:my_package:MyEnv-v0."""

OWN_POLICY = """\
Settings of a policy:  --set policy.NAME=VALUE; `pilotage explain grpo --policy P` lists them.

A language model of your own is a local folder, or a name on the hub: --policy hf:./my-model, trained whole or through
adapters (--set policy.lora_rank=16). Any other policy is a class that derives from pilotage.policies.base.ActingPolicy
or SpeakingPolicy, named by its import path: --policy my_module:MyPolicy."""


def changes_table(changes: Sequence[tuple[str, Any, Any]], title: str, sides: tuple[str, str]) -> Table:
    """(path, before, after) as a table."""
    from rich.table import Table

    from pilotage.explain import shown

    table = Table(title=title, title_justify="left")
    for name in ("path", *sides):
        table.add_column(name, overflow="fold")
    for path, before, after in changes:
        table.add_row(path, shown(before), shown(after))
    return table


def show_table(table: Table) -> None:
    """Draws a table; as wide as it needs where nobody looks at a terminal."""
    from rich.console import Console

    Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Columns that a table may take: those of the terminal, if there is one."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else WIDE
