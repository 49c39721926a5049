"""A progress bar that shows itself only in a terminal, and only for what takes long."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 2.0


@contextmanager
def progress_bar(total: int, title: str, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of items done since its last call.

    unit: what the items are; the bar then shows their rate too.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    began, done_before, bar = time.monotonic(), 0, None

    def advance(done: int) -> None:
        nonlocal bar, done_before
        if bar is None:
            done_before += done
            if time.monotonic() - began < PATIENCE_SECONDS:
                return
            bar, done = _bar(unit), done_before
            bar.start()
            bar.add_task(title, total=total)
        bar.advance(bar.task_ids[0], done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _bar(unit: str):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text("" if task.speed is None else f"{_short(task.speed)}{unit}/s")

    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")]
    if unit:
        columns.append(Rate())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _short(number: float) -> str:
    """A number to three digits, with the thousands as a letter."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "
