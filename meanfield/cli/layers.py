"""Layers that a function in a Python file of the user's makes: ``--layer file.py:function``."""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.cli.options import RANGE, axis_of

if TYPE_CHECKING:
    import numpy as np

LayerFunction = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="FILE:FUNCTION",
        help="A Python file and a function in it that returns a layer, in place of activation and prior; "
        "--parameter gives its arguments.",
        show_default="dense layers",
    ),
]
LayerParameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar=f"NAME={RANGE}",
        help="An argument of the --layer function. Can be given again.",
        show_default="its own default",
    ),
]


def parameter_of(text: str) -> "tuple[str, float | np.ndarray]":
    """The name and the values of ``name=number`` or ``name=start:stop:count``. Raises ValueError."""
    name, equals, values = text.partition("=")
    name = name.strip()
    if not equals or not name.isidentifier():
        raise ValueError(f"--parameter must be name=number or name=start:stop:count, got {text!r}")
    return name, axis_of(f"parameter {name}", values.strip())


def layer_function(text: str) -> Callable:
    """The function that ``file.py:function`` names. Raises ValueError for a file or a function that fails.

    What it raises, or returns in place of a layer, is a ValueError of one sentence too.
    """
    path, colon, name = text.rpartition(":")
    if not colon or not path.endswith(".py") or not name.isidentifier():
        raise ValueError(
            f"--layer must be a Python file and a function in it, file.py:function, got {text!r}"
        )
    function = getattr(_module(Path(path).expanduser()), name, None)
    if function is None:
        raise ValueError(f"--layer: {path} has no function {name}")
    if not callable(function):
        raise ValueError(f"--layer: {name} in {path} is no function, but {function!r}")
    return _checked(function, f"{name} in {path}")


def _module(path: Path):
    if not path.is_file():
        raise ValueError(f"--layer: there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # of a name in .py
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # its own imports are those of a script
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"--layer: {path} raises {_named(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _checked(function: Callable, where: str) -> Callable:
    """The same function, whose failures say where they come from."""
    from meanfield.layers import Layer
    from meanfield.layers.parts import Part

    @functools.wraps(function)
    def make(**parameters):
        try:
            layer = function(**parameters)
        except Exception as error:
            raise ValueError(f"--layer: {where} raises {_named(error)}") from error
        if isinstance(layer, Part) and not isinstance(layer, Layer) and layer.no_layer:
            raise ValueError(f"--layer: {where} returns what is none: {layer.no_layer}")
        if not isinstance(layer, Layer):
            raise ValueError(
                f"--layer: {where} must return a layer, as meanfield.Chain makes one, got {_short(layer)}"
            )
        return layer

    return make


def arguments_of(function: Callable, given: dict[str, Any]) -> dict[str, Any]:
    """Values of a function's arguments, in their order: those given, and numbers among its defaults.

    Raises ValueError for arguments that it does not have, and for those without a value.
    """
    arguments = inspect.signature(function).parameters
    if unknown := [name for name in given if name not in arguments]:
        raise ValueError(
            f"--layer: {function.__name__} has the arguments {', '.join(arguments) or 'none'}, "
            f"but not {', '.join(unknown)}"
        )
    missing = [name for name, a in arguments.items() if name not in given and a.default is a.empty]
    if missing:
        raise ValueError(
            f"--layer: the argument {missing[0]} of {function.__name__} has no value: give it one with "
            f"--parameter {missing[0]}=start:stop:count or {missing[0]}=number"
        )
    return {name: given[name] for name in arguments if name in given}


def with_numbers(function: Callable, numbers: dict[str, float]) -> Callable:
    """A function of the other arguments alone."""
    rest = [a for name, a in inspect.signature(function).parameters.items() if name not in numbers]

    @functools.wraps(function)
    def make(**parameters):
        return function(**numbers, **parameters)

    make.__signature__ = inspect.Signature(rest)  # type: ignore[attr-defined]
    return make


def no_place(options: dict[str, Any]) -> None:
    """Raises ValueError for options of an activation and a prior that were given beside --layer."""
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(
            f"{', '.join(given)} {'has' if len(given) == 1 else 'have'} no place beside --layer: give the "
            "arguments of the function with --parameter"
        )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _short(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
