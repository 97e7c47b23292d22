"""`train`, `resume`, `eval`: one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotage.cli import options
from pilotage.engines.local import prepare

if TYPE_CHECKING:
    from pilotage.run.loop import Watch
    from pilotage.run.recipe import Recipe

folder_argument = click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))


@click.command()
@click.argument("name")
@options.recipe_options
@options.seed_option
@options.threads_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="A new folder for the run.")
def train(
    name: str,
    world: str | None,
    policy: str | None,
    data: str | None,
    seed: int | None,
    steps: int | None,
    settings: tuple[str, ...],
    config: Path | None,
    threads: int,
    out: Path | None,
) -> None:
    """One run of NAME, or of a stack NAME+NAME.

    \b
    Example:  pilotage train grpo --world reasoning:chain_sum --seed 1 --set learning_rate=1e-3
    """
    asked = options.asked_for(world, policy, data, seed, steps, settings, config)
    folder = out or unused(Path("runs") / f"{name}-{slug(asked.world)}-seed{asked.seed}")
    from pilotage.run.log import refuse_used

    refuse_used(folder)
    from pilotage import api
    from pilotage.run import loop
    from pilotage.run.assemble import assemble

    recipe = api.recipe(name, asked.world, asked.policy, seed=asked.seed, steps=asked.steps, settings=asked.settings)
    if recipe.start is not None or recipe.data is not None:
        assemble(recipe).world.close()  # what does not fit is said before minutes go into a start
    _run(recipe, folder, threads, lambda watch: loop.train(recipe, folder, watch=watch))


@click.command()
@folder_argument
@options.threads_option
def resume(folder: Path, threads: int) -> None:
    """Goes on exactly where a run's last checkpoint stands.

    \b
    Example:  pilotage resume runs/grpo-reasoning-chain_sum-seed1
    """
    from pilotage.run import loop
    from pilotage.run.log import read_recipe
    from pilotage.run.recipe import Recipe

    recipe = Recipe.from_json(read_recipe(folder))
    _run(recipe, folder, threads, lambda watch: loop.resume(folder, watch=watch))


@click.command("eval")
@folder_argument
@options.threads_option
@click.option("--tasks", type=click.IntRange(min=1), metavar="N", help="Held-out tasks.  [default: the recipe's]")
@click.option("--samples", type=click.IntRange(min=1), metavar="K", help="Episodes a task.  [default: the recipe's]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def evaluate(folder: Path, threads: int, tasks: int | None, samples: int | None, as_json: bool) -> None:
    """Judges a run's last checkpoint on held-out tasks, with an interval.

    \b
    Example:  pilotage eval runs/grpo-reasoning-chain_sum-seed1 --tasks 1000
    """
    from pilotage import api
    from pilotage.run import log
    from pilotage.run.results import ASIDE
    from pilotage.run.statistics import Interval
    from pilotage.run.wording import Wording, minus, plain

    log.read_recipe(folder)
    prepare(threads)
    found = api.Run(folder).evaluate(tasks, samples)
    if as_json:
        click.echo(json.dumps(plain({name: listed(value) for name, value in found.items()}), indent=2))
        return
    metric = next(name for name in found if name.startswith("eval/") and name not in ASIDE)
    say = Wording(metric)
    interval = Interval(found[metric], found["eval/low"], found["eval/high"])
    judged = api.Run(folder).recipe.evaluation
    count, each = tasks or judged.tasks, samples or judged.samples
    click.echo(
        f"{say.name} {say.value(interval)}: mean and {interval.level:.0%} interval over {count} tasks, "
        f"{each} episode{'s' if each > 1 else ''} each"
    )
    if "eval/score" in found:
        shown = minus(f"{found['eval/score']:.1f}")
        click.echo(f"score {shown}: 0 is chance, 100 the expert of the data set")
    if found["eval/invalid"] > 0:
        click.echo(f"{found['eval/invalid']:.1%} of the episodes had no valid verdict and are left out")


def _run(recipe: Recipe, folder: Path, threads: int, go: Callable[[Watch], Any]) -> None:
    """Runs with a progress bar, and says how it ended."""
    from pilotage.run import loop
    from pilotage.run.compare import ComparisonStopped, make_start
    from pilotage.run.progress import Progress

    prepare(threads)
    try:
        for first in (recipe.start, recipe.data):
            if first is not None:
                make_start(first)
        with Progress({recipe.name: recipe.steps}) as progress:
            go(progress.watch(recipe.name))
    except loop.Interrupted as stopped:
        click.echo(str(stopped))
        return
    except ComparisonStopped as stopped:
        click.echo(f"{stopped} when the same command is given again")
        return
    click.echo(ending(folder))


def ending(folder: Path) -> str:
    """How a run ended, in one line."""
    from pilotage.run.results import read_run
    from pilotage.run.verdict import rise_sentence, side
    from pilotage.run.wording import minus

    run = read_run(folder)
    scores = [record["eval/score"] for record in run.records if "eval/score" in record]
    score = f"; score {minus(f'{scores[-1]:.1f}')}" if scores else ""
    return f"{rise_sentence(side(run.name, [run]), run.metric)}{score}; see {folder}"


def unused(folder: Path) -> Path:
    """This folder, or with -2, -3 … at its end the first that nothing is in."""
    found, count = folder, 1
    while found.exists() and (not found.is_dir() or any(found.iterdir())):
        count += 1
        found = folder.with_name(f"{folder.name}-{count}")
    return found


def slug(spec: str) -> str:
    """A world's name as part of a folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in spec).strip("-.")


def listed(value: Any) -> Any:
    """Arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value
