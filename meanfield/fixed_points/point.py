"""Fixed points of the variance and correlation maps."""

import jax
import jax.numpy as jnp

from meanfield.fixed_points.concrete import solve_concrete
from meanfield.fixed_points.correlation import at_variance, may_be_opposite, solve
from meanfield.fixed_points.regular import fixed_point_by_table
from meanfield.fixed_points.result import FixedPoint, masked
from meanfield.fixed_points.variance import variance_fixed_points
from meanfield.layers import as_layer
from meanfield.numerics.broadcasting import pointwise
from meanfield.priors import handler
from meanfield.support import validation


def fixed_point(activation, prior=None, *, q0=1.0, c0=0.0) -> FixedPoint:
    r"""The fixed point (q*, c*) that two signals of variance q0 and correlation c0 approach.

    activation: an ``Activation``, a name ("tanh"), any elementwise JAX function, or
        a layer (then without ``prior``).
    prior: a ``NormalPrior``; its leaves broadcast with q0 >= 0 and -1 <= c0 <= 1.
        With an ``AsymmetricPrior`` the result is an ``AsymmetricFixedPoint``.

    Every point carries a ``Status``; a value is a fixed point of the stated kind
    only where that is CONVERGED. Works under jit, vmap, grad, jacfwd and jacrev, in
    float32 and float64; derivatives follow from the implicit function theorem and
    are zero, not NaN, at points whose values are masked.

    Raises TypeError or ValueError for arguments wrong before tracing.
    """
    if (other := handler(prior, "fixed_point")) is not None:
        return other(activation, prior, q0=q0, c0=c0)
    layer = as_layer(activation, prior)
    q0 = validation.real("q0", q0, low=0.0)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    if layer.is_tabulated:
        return fixed_point_by_table(layer, q0, c0)
    if (point := solve_concrete(layer, q0, c0)) is not None:
        return point
    return pointwise(solve, layer, q0, c0, static=(may_be_opposite(c0),))


def fixed_points(activation, prior=None, *, most: int = 8) -> FixedPoint:
    """Every finite, positive fixed point of one prior, stable or not, in ascending order of q.

    Results have one more, last axis of length ``most``, padded with NaN and
    ``Status.INVALID``. Stable ones are CONVERGED, others UNSTABLE. At each, c is the
    limit from c0 = 0. Arguments, errors and source as for ``fixed_point``.
    """
    layer = as_layer(activation, prior)
    return pointwise(_all_fixed_points, layer, static=(validation.count("most", most),))


def _all_fixed_points(layer, most) -> FixedPoint:
    valid = layer.is_valid()
    layer = layer.guarded(valid)
    q, status, found = variance_fixed_points(layer, most)
    result = jax.vmap(lambda q, s: at_variance(layer, q, s, jnp.zeros_like(q), opposite=False))(q, status)
    return masked(result, valid & found)
