"""The program that commands belong to."""

import typer
from typer.core import TyperGroup

_FIRST = ("phase-diagram", "fixed-point", "init", "critical-line", "sweep", "spectrum", "compare", "train")


class _Commands(TyperGroup):
    """Help lists what is asked first, first."""

    def list_commands(self, ctx):
        return [*_FIRST, *sorted(set(self.commands) - set(_FIRST))]


# Plain help: its text is the same in a terminal, a pipe and a log.
app = typer.Typer(cls=_Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

INTERRUPTED = 130  # exit code
