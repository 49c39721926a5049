"""Checks of arguments that can be seen before tracing. Traced values pass unseen."""

import math
import numbers
from typing import Any

import jax
import numpy as np


def is_traced(*trees) -> bool:
    """Whether any leaf of the trees is a tracer."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def real(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
):
    """Return ``value`` if it is a finite real number or array within bounds.

    Raises TypeError for what is not real numbers and ValueError for what is not
    finite or out of bounds; both name the argument, the value and what is allowed.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, bool | str | bytes) or not is_numeric(value):
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r}")
    array = np.asarray(value)
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    bad = ~np.isfinite(array) | (array < low) | (array > high)
    if low_open:
        bad |= array == low
    if bad.any():
        first = array[bad].ravel()[0]
        raise ValueError(f"{name} must be {_allowed(low, high, low_open)}, got {first}")
    return value if isinstance(value, numbers.Real | jax.Array) else array


def is_numeric(value) -> bool:
    """Whether a value is an integer, a floating-point number or an array of them."""
    try:
        kind = np.asarray(value).dtype
    except (TypeError, ValueError):
        return False
    return bool(np.issubdtype(kind, np.integer) or jax.numpy.issubdtype(kind, np.floating))


def _allowed(low, high, low_open) -> str:
    if low > -math.inf and high < math.inf:
        return f"finite and between {low:g} and {high:g}"
    if low > -math.inf:
        return f"finite and {'greater than' if low_open else 'at least'} {low:g}"
    if high < math.inf:
        return f"finite and at most {high:g}"
    return "finite"


def number(name: str, value: Any, **bounds):
    """Return ``value`` if it is one number, and as ``real`` wants it; raise as that does."""
    value = real(name, value, **bounds)
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a number, got shape {np.shape(value)}")
    return value


def count(name: str, value: Any, *, low: int = 1) -> int:
    """Return ``value`` as an int if it is a whole number of at least ``low``; raise as ``real`` does."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def same_shape(**arguments) -> tuple[int, ...]:
    """The common broadcast shape. Raises ValueError naming the arguments' shapes."""
    shapes = {name: np.shape(value) for name, value in arguments.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes do not broadcast: {listed}") from None
