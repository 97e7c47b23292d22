"""The entry point `pilotage`: its verbs, and every error as one line with its exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click
from click.exceptions import NoSuchOption

from pilotage.cli.catalogue import list_methods, policies, show, worlds
from pilotage.cli.comparing import compare
from pilotage.cli.data import data
from pilotage.cli.explaining import explain
from pilotage.cli.reproducing import reproduce
from pilotage.cli.training import evaluate, resume, train
from pilotage.data.piece import UsageError, nearest
from pilotage.run.failures import described


class Verbs(click.Group):
    """A group that names the nearest verb."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UsageError(f"no verb {args[0]!r}; {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order they are added, not of the alphabet


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("pilotage"), message="pilotage %(version)s")
def group() -> None:
    """Policy optimisation: published methods and their baselines over one loop.

    \b
    pilotage list                                  what there is
    pilotage train grpo --world reasoning:chain_sum
    pilotage compare nft grpo --seeds 3            paired runs and a verdict
    pilotage reproduce nft --quick                 a paper's claim beside what is measured
    """


VERBS = (list_methods, show, explain, train, resume, evaluate, compare, reproduce, data, worlds, policies)
for verb in VERBS:
    group.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits: 0 for success, 1 for a run that could not go on, 2 for a mistake."""
    logging.basicConfig(format="pilotage: %(message)s", level=logging.WARNING)
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that a file here cannot take the place of an installed package
    try:
        status = group.main(list(arguments) if arguments is not None else None, "pilotage", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        status = _fail("stopped", 130)
    except click.ClickException as error:
        status = 0 if isinstance(error, click.exceptions.NoArgsIsHelpError) else _fail(_of_click(error), 2)
        if not status:
            error.show(sys.stdout)
    except Exception as error:
        if os.environ.get("PILOTAGE_DEBUG"):
            raise
        status = _fail(*described(error))
    sys.exit(status if isinstance(status, int) else 0)


def _fail(line: str, status: int) -> int:
    click.echo(f"pilotage: {line}", err=True)
    return status


def _of_click(error: click.ClickException) -> str:
    if isinstance(error, NoSuchOption) and error.ctx is not None:
        known = [name for parameter in error.ctx.command.get_params(error.ctx) for name in parameter.opts]
        options = [name for name in known if name.startswith("--")]
        return f"no option {error.option_name}; {nearest(error.option_name, options)}"
    line = error.format_message().splitlines()[0].rstrip(".")
    line = line[:1].lower() + line[1:]
    help_path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "pilotage"
    return f"{line}; see {help_path} --help"
