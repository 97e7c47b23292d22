"""The command line: one verb family a file. Nothing heavy is imported before a verb needs it."""

from pilotage.cli.entry import main

__all__ = ["main"]
