"""Fixed points at the points of a grid, whatever the prior."""

import jax
import numpy as np

from meanfield.activations.names import as_activation
from meanfield.asymmetric.special_weights import as_special_weight
from meanfield.fixed_points.strategies import (
    Columns,
    Points,
    PointSolver,
    Values,
    point_solver,
    solve_in_chunks,
)
from meanfield.layers.families import Family, dense_family


def solver_of(family: Family, special_weight, q0: float, c0: float, size: int, first: Columns) -> PointSolver:
    """The solver for ``size`` points of a family, with special weight if any; ``first`` is one of them."""
    if special_weight is not None:
        from meanfield.asymmetric.solver import AsymmetricSolver  # a room of its own, which few enter

        return AsymmetricSolver(family.activation, as_special_weight(special_weight), q0, c0)
    return point_solver(Points.of_family(family, q0, c0), size, first)


def solve_points(
    activation, columns: dict[str, np.ndarray], *, q0=1.0, c0=0.0, special_weight=None
) -> Values:
    """The fields of ``FixedPoint`` at n points, NumPy arrays of shape (n,).

    activation: one, or a ``Family``. columns: the parameters' values, by name, valid arrays of shape (n,).
    Computes in float64 whatever JAX's default is. The result is a function of these arguments to the bit:
    what was solved before in this process changes nothing.
    """
    family = activation if isinstance(activation, Family) else dense_family(as_activation(activation))
    values = [np.asarray(columns[name], np.float64) for name in family.names]
    size = len(values[0])
    with jax.enable_x64(True):
        first = [v[:1] for v in values]
        solver = solver_of(family, special_weight, float(q0), float(c0), size, first)
        return solve_in_chunks(solver, size, lambda start, stop: [v[start:stop] for v in values])
