"""Short texts: results as tables, for ``repr``, and what is said of an unknown name."""

import collections
import difflib

import jax
import numpy as np

from meanfield.support import validation

_MOST = 6  # values that are printed one by one


def table(title: str, rows: list[list[str]]) -> str:
    """Lines of text: the title, and under it the rows, in columns; all but the first are set to the right."""
    count = max(map(len, rows))
    cells = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    )
    return "\n".join([title, *(f"  {line.rstrip()}" for line in lines)])


def described(values, names=None) -> list[str]:
    """Cells that tell an array: a few values one by one, of many the range, or how often each name occurs.

    names: the enumeration of which the values are members. What is no array of numbers is shown as it is.
    """
    if not _holds_numbers(values):
        return [str(values)]
    array = np.asarray(values)
    if array.ndim <= 1 and array.size <= _MOST:
        return [_one(value, names) for value in np.atleast_1d(array)]
    if names is not None:
        counts = collections.Counter(array.ravel().tolist())
        return [", ".join(f"{_one(code, names)} {n}" for code, n in sorted(counts.items()))]
    return [span(array)]


def span(values) -> str:
    """Least and greatest of the numbers of an array, and how many are none."""
    if not _holds_numbers(values):
        return str(values)
    array = np.asarray(values)
    missing = int(np.isnan(array).sum())
    if missing == array.size:
        return "NaN"
    low, high = np.nanmin(array), np.nanmax(array)
    found = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    return found + (f", {missing} NaN" if missing else "")


def _holds_numbers(values) -> bool:
    return not isinstance(values, jax.core.Tracer) and validation.is_numeric(values)


def _one(value, names) -> str:
    return f"{value:.7g}" if names is None else str(names(int(value)))


def unknown(kind: str, name, known) -> str:
    """A sentence that says so, with the name that was meant, if one is near, and all that are known."""
    near = difflib.get_close_matches(str(name).strip().lower(), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{kind} {name!r} is unknown{hint}; known are {', '.join(known)}"
