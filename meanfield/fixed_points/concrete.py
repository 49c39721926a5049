"""Fixed points where everything is a number or an array of numbers: by whatever answers first."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.fixed_points.adaptive import AdaptiveSolver
from meanfield.fixed_points.correlation import may_be_opposite
from meanfield.fixed_points.one_by_one import MOST_POINTS
from meanfield.fixed_points.result import FixedPoint
from meanfield.fixed_points.strategies import (
    ALL_FIELDS,
    INTEGERS,
    DirectSolver,
    Points,
    PointSolver,
    TabulatedSolver,
    can_be_surveyed,
    is_at_hand,
    solve_in_chunks,
    tables_for,
)
from meanfield.layers import Layer
from meanfield.numerics.compiling import is_tracing


def solve_concrete(layer: Layer, q0, c0) -> FixedPoint | None:
    """The points of a layer whose leaves are numbers or arrays, in double precision, rounded to their type.

    None where closed forms answer as well, and where something is being traced.
    """
    if is_tracing(layer, q0, c0):
        return None
    leaves, structure = jax.tree.flatten((layer, q0, c0))
    shape = np.broadcast_shapes(*(np.shape(x) for x in leaves))
    size, dtype = int(np.prod(shape)), jnp.result_type(float, *leaves)
    if not size:
        return None
    # All else is a column, also where it is one number: one program serves numbers and arrays.
    parameters = {id(x) for x in jax.tree.leaves(layer.moments())}
    of_activations = [i for i, x in enumerate(leaves) if id(x) in parameters]
    leaves = [np.asarray(x, np.float64) for x in leaves]
    varying = [i for i, x in enumerate(leaves) if x.ndim or i not in of_activations]
    columns = [np.broadcast_to(leaves[i], shape).ravel() for i in varying]

    def at(columns):
        given = dict(zip(varying, columns, strict=True))
        return jax.tree.unflatten(structure, [given.get(i, leaf) for i, leaf in enumerate(leaves)])

    points = Points(at, may_be_opposite(c0))
    with jax.enable_x64(True):
        solver = _solver(layer, points, size)
        if solver is None:
            return None
        found = solve_in_chunks(
            solver, size, lambda start, stop: [c[start:stop] for c in columns], fields=ALL_FIELDS
        )
    for name, error in (("q", "q_error"), ("one_minus_c", "c_error")):  # rounded to the type asked for
        value = np.where(np.isfinite(found[name]), np.abs(found[name]), 0.0)
        found[error] = np.maximum(found[error], value * float(jnp.finfo(dtype).eps))
    types = dict.fromkeys(ALL_FIELDS, dtype) | dict.fromkeys(INTEGERS, jnp.int32)
    # Put on the device, which compiles nothing: ``jnp.asarray`` does.
    fields = {n: np.asarray(found[n].reshape(shape), types[n]) for n in ALL_FIELDS}
    return FixedPoint(**jax.device_put(fields))


def _solver(layer: Layer, points: Points, size: int) -> PointSolver | None:
    """What solves ``size`` points: one by one, by tables, or by a quadrature that is then checked."""
    surveyed = can_be_surveyed(layer)
    if surveyed and size <= MOST_POINTS and layer.keeps_one and not is_at_hand(layer):
        return AdaptiveSolver(points, layer)
    if tables := tables_for(layer, size):
        return TabulatedSolver(points, layer, tables, size)
    return DirectSolver(points, layer) if surveyed else None
