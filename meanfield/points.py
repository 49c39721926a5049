"""Fixed points at a list of priors: what every chunk of a sweep asks of the solver."""

import functools

import jax
import numpy as np

from meanfield import phase_diagrams as diagrams
from meanfield.phase_diagrams import FIELDS, PARAMETERS

INTEGERS = ("status", "phase")


def solve_points(activation, columns, *, q0: float, c0: float, special_weight=None) -> dict[str, np.ndarray]:
    """The fields of ``FixedPoint`` at n priors, NumPy arrays of shape (n,).

    columns: weight_var, bias_var and anticorrelation, float64 arrays of shape (n,), valid.
    q0, c0: the start, numbers. special_weight: None, or the law of one weight in every row.

    Float64 whatever JAX's default is (int8 for status and phase). The result is a function
    of these arguments to the bit: what was solved before in this process changes nothing.
    """
    given = [columns[name] for name in PARAMETERS]
    size = len(given[0])
    result = {name: np.empty(size, np.int8 if name in INTEGERS else np.float64) for name in FIELDS}

    def points(start: int, stop: int) -> list[np.ndarray]:
        return [values[start:stop] for values in given]

    solve = diagrams._solve_directly
    if special_weight is not None:
        solve = functools.partial(diagrams._solve_asymmetric, special_weight)
    elif diagrams._worth_a_table(activation, size):
        solve = diagrams._solve_tabulated
    with jax.enable_x64(True):
        solve(activation, points, size, q0, c0, result, lambda done: None)
    return result
