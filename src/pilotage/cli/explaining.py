"""`explain`: what a recipe means, before it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotage.cli import options
from pilotage.cli.catalogue import changes_table, show_table

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("name")
@options.recipe_options
@options.seed_option
@click.option("--json", "as_json", is_flag=True, help="The recipe as JSON.")
def explain(
    name: str,
    world: str | None,
    policy: str | None,
    data: str | None,
    seed: int | None,
    steps: int | None,
    settings: tuple[str, ...],
    config: Path | None,
    as_json: bool,
) -> None:
    """The resolved recipe of NAME, or of a stack NAME+NAME, and what it comes to; runs nothing.

    \b
    Example:  pilotage explain nft --world reasoning:chain_sum --set learning_rate=1e-3
    """
    asked = options.asked_for(world, policy, data, seed, steps, settings, config)
    from pilotage import api
    from pilotage.explain import baseline_name
    from pilotage.explain import explain as explained

    recipe = api.recipe(name, asked.world, asked.policy, seed=asked.seed, steps=asked.steps, settings=asked.settings)
    if as_json:
        click.echo(json.dumps(recipe.to_json(), indent=2))
        return
    against = baseline_name(name)
    before = None
    if against:
        before = api.recipe_where_it_applies(
            against, asked.world, asked.policy, seed=asked.seed, steps=asked.steps, settings=asked.settings
        )
    found = explained(recipe, before)
    for sentence in found.sentences:
        click.echo(sentence)
    click.echo()
    if found.baseline and found.changes:
        title = f"Difference from {found.baseline}"
        show_table(changes_table(found.changes, title, (found.baseline, recipe.name)))
    elif found.baseline:
        click.echo(f"With these settings it is {found.baseline}: the recipes do not differ.")
    show_table(_settings_table(found.settings))


def _settings_table(settings: Sequence[tuple[str, Any, str]]) -> Table:
    from rich.table import Table

    from pilotage.explain import shown

    table = Table(title="The recipe: any path here can be set with --set", title_justify="left")
    for heading in ("path", "value", "set by"):
        table.add_column(heading, overflow="fold")
    for path, value, owner in settings:
        table.add_row(path, shown(value), owner)
    return table
