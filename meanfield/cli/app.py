"""The program that commands belong to."""

import typer

# Plain help: its text is the same in a terminal, a pipe and a log.
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

INTERRUPTED = 130  # exit code
