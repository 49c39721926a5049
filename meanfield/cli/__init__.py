"""The command line: ``meanfield phase-diagram``, ``compare``, ``train`` and others.

JAX is imported inside the commands, so that help and usage errors come at once.
"""

import _thread
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from meanfield import __version__
from meanfield.cli import about as about
from meanfield.cli import advice as advice
from meanfield.cli import empirical as empirical
from meanfield.cli import explore as explore
from meanfield.cli import spectra as spectra
from meanfield.cli import sweep as sweep
from meanfield.cli import theory as theory
from meanfield.cli.app import INTERRUPTED, app
from meanfield.cli.compiled import keep_what_is_compiled

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    0 for success; 2, with one sentence on stderr, for anything the user got wrong;
    130 if interrupted. Files are written whole or not at all in each case.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        with _no_lost_interrupt(), command.make_context("meanfield", arguments) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort) as interrupt:
        return _stop(f"Interrupted: {str(interrupt) or 'no unfinished file was left'}.", INTERRUPTED)
    except (MemoryError, OverflowError):
        return _stop("Error: there is not enough memory for a grid of this size.", USAGE_ERROR)
    except OSError as error:
        return _stop(f"Error: {_sentence(_of_the_system(error))}", USAGE_ERROR)
    except (ValueError, TypeError) as error:
        return _stop(f"Error: {_sentence(str(error))}", USAGE_ERROR)
    except Exception as error:
        # Typer's own usage errors; their base class has no public name.
        if not hasattr(error, "format_message"):
            raise
        return _stop(f"Error: {_sentence(_of_usage(error.format_message()))}", USAGE_ERROR)
    return 0


def program() -> None:
    """``main``, and the end of the process.

    An interrupt may leave a computation running in another thread, whose end Python's
    own way out would not await.
    """
    keep_what_is_compiled()
    code = main()
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def _no_lost_interrupt() -> Iterator[None]:
    """Send an interrupt again where Python drops it.

    One that falls into a callback (JAX has one at every garbage collection) has nobody
    to be raised to: Python prints it and goes on.
    """
    before = sys.unraisablehook

    def hook(unraisable):
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Later: raised at once it would fall into this very hook.
            threading.Timer(0.1, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _stop(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    """On one line, as what follows a colon: one sentence, whatever the library's messages are."""
    text = re.sub(r"[.?!] (\w)", lambda m: f"; {m[1].lower()}", " ".join(text.split()).rstrip(".?!"))
    return f"{text[:1].lower()}{text[1:]}."


def _of_usage(message: str) -> str:
    """With the mend, where an argument has no name: ``meanfield init tanh``."""
    superfluous = re.match(r"Got unexpected extra argument\S* \((\w\S*?)[\s)]", message)
    if not superfluous:
        return message
    return f"{message.rstrip('.')}: arguments have names, such as --activation {superfluous[1]}"


def _of_the_system(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"cannot write {error.filename}: {error.strerror}" if error.filename else error.strerror


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"meanfield {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _meanfield(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Mean-field theory of signal propagation in random neural networks.

    \b
    Example:
      meanfield phase-diagram --activation tanh --weight-var 0.5:4:71 --bias-var 0:1:41
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
