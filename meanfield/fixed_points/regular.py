r"""Fixed points of many priors from tables: the regular ones, without a loop that waits for the slowest.

A point is *regular* if Q increases on the way from q0, the growth changes sign clearly there, and the
tables place q* and theta* so well that three steps of Newton's method end in rounding. Nearly all
points of a diagram are; ``sure`` says which, and the others are left to ``variance`` and ``layers``,
which know every case. Everything here is a fixed number of operations a point.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.tables.cells import slope_of_place
from meanfield.fixed_points.correlation import at_limit, at_variance, drifting_point, may_be_opposite, solve
from meanfield.fixed_points.result import (
    FixedPoint,
    errors_of,
    is_well_conditioned,
    masked,
    may_be_a_fold,
    phase_of,
)
from meanfield.fixed_points.variance import GrowthScan, affine_fixed_point
from meanfield.fixed_points.walk import NOWHERE, first_stop
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.roots import implicit_root
from meanfield.status import Status
from meanfield.support import validation

_STEPS = 3
_AT_ONCE = 1 << 14


def fixed_point_by_table(layer, q0, c0) -> FixedPoint:
    """The fixed points of a tabulated layer; those not regular by the sources of its tables."""
    opposite = may_be_opposite(c0)
    point, sure = pointwise(_by_table, layer, q0, c0, static=(opposite,), at_once=_AT_ONCE)
    if validation.is_traced(sure):
        return _marked(point, sure)
    if bool(jnp.all(sure)):
        return point
    exact = pointwise(solve, *_where_not(sure, layer.exact(), q0, c0), static=(opposite,))
    index = np.flatnonzero(~np.ravel(sure))
    place = lambda a, b: a.ravel().at[index].set(b).reshape(a.shape)
    return jax.tree.map(place, point, exact)


def _where_not(sure, *trees):
    """The points that are not sure of trees whose leaves broadcast; what is one number for all stays so."""
    index = np.flatnonzero(~np.ravel(sure))
    one = lambda x: x if np.ndim(x) == 0 else np.broadcast_to(x, sure.shape).ravel()[index]
    *parts, q0, c0 = jax.tree.map(one, trees)
    return *parts, np.broadcast_to(q0, index.shape), c0


def _marked(point, sure) -> FixedPoint:
    """NaN and INACCURATE where not sure: inside a trace no other solver can be chosen point by point."""
    blank = masked(point, sure)
    open_point = ~sure & (point.status != Status.INVALID)
    return dataclasses.replace(blank, status=jnp.where(open_point, Status.INACCURATE, blank.status))


def _by_table(layer, q0, c0, opposite) -> tuple[FixedPoint, jax.Array]:
    startable = jnp.isfinite(q0) & (q0 >= 0)
    valid = layer.is_valid() & startable & (jnp.abs(c0) <= 1)
    layer = layer.guarded(valid)
    q0, c0 = jnp.where(startable, q0, 1.0), jnp.where(valid, c0, 0.0)  # one q0 for all stays one
    q, status, sure = regular_variance(layer, q0)
    finite = status == Status.CONVERGED
    if layer.has_section:
        here, solved = regular_point(layer, q, c0)
    else:
        here = at_variance(layer, q, Status.CONVERGED, c0, opposite)
        solved = here.status == Status.CONVERGED
    point = jax.tree.map(lambda a, b: jnp.where(finite, a, b), here, at_limit(layer, status, c0, opposite))
    return masked(point, valid), sure & (solved | ~finite) | ~valid


def regular_variance(layer, q0):
    """(q*, status, sure) reached from q0, for a tabulated layer. Scalars."""
    affine = layer.affine()
    if affine is not None:
        growth, offset = affine
        q, status = affine_fixed_point(growth, offset, q0)
        return q, status, (status != Status.MARGINAL) & layer.is_valid()
    frozen = jax.lax.stop_gradient(layer)
    start = jax.lax.stop_gradient(q0)
    scan = GrowthScan.of(frozen, start.dtype)
    eps = jnp.finfo(start.dtype).eps
    excess = _excess(frozen, start)
    direction = jnp.where(excess > 0, 1, -1).astype(jnp.int32)
    stop, first, increasing = first_stop(scan, frozen, jnp.log(start), direction)
    none = stop == NOWHERE
    crossing = ~none & (stop % 2 == 1)
    node = first + (direction * stop + 1) // 2
    left = jnp.where(crossing, jnp.where(direction > 0, node - 1, node), 1)
    guess, clear = _between(scan, frozen, left)
    q, solved = _polished(frozen, guess)
    q = jnp.where(crossing & solved, q, 1.0)
    q = implicit_root(
        lambda q: jnp.where(crossing & solved, layer.variance_map(q) / q - 1, 1 - q),
        q,
    )
    end = jnp.where(direction > 0, Status.UNBOUNDED, Status.VANISHING)
    status = jnp.where(none, end, Status.CONVERGED)
    sure = increasing & (start > 0) & (jnp.abs(excess) > 32 * eps)
    sure &= none | (crossing & clear & solved & (left > 0))
    return q, status, sure & layer.is_valid()


def _excess(layer, q):
    """Q(q)/q - 1."""
    return layer.variance_map(q) / q - 1


def _between(scan, layer, left):
    """Where the growth vanishes between two nodes, by cubic interpolation; if it clearly does."""
    at = lambda array, i: array.at[i].get(mode="promise_in_bounds")
    low, high = (jax.tree.map(lambda a, i=i: at(a, i), scan.rows) for i in (left, left + 1))
    (g0, d0), (g1, d1) = layer.growth_from(low), layer.growth_from(high)
    g0, g1 = g0 - 1, g1 - 1
    x0, x1 = at(scan.log_q, left), at(scan.log_q, left + 1)
    width, drop = x1 - x0, g0 - g1
    clear = (g0 > 0) & (g1 < 0)
    drop = jnp.where(clear, drop, 1.0)
    t = jnp.clip(g0 / drop, 0.0, 1.0)
    t = _root_of_cubic(t, g0, g1, d0 * width, d1 * width)
    x = x0 + width * t
    noise = jnp.maximum(at(scan.error, left), at(scan.error, left + 1)) + 1e-14
    return jnp.exp(x), clear & (g0 > noise) & (g1 < -noise)


def _root_of_cubic(t, f0, f1, d0, d1):
    """Where the cubic with these values and slopes at 0 and 1 vanishes, by Halley's method from t."""
    a, b = 2 * (f0 - f1) + d0 + d1, 3 * (f1 - f0) - 2 * d0 - d1
    for _ in range(_STEPS):
        value, slope = f0 + t * (d0 + t * (b + t * a)), d0 + t * (2 * b + 3 * t * a)
        below = slope * slope - value * (b + 3 * t * a)
        t = jnp.clip(t - value * slope / jnp.where(below == 0, jnp.inf, below), 0.0, 1.0)
    return t


def _polished(layer, guess):
    """q* by Newton's method on the polynomials of one cell; whether it ends in rounding, within it."""
    near = layer.near(guess)

    def growth(x):
        q = jnp.exp(x)
        return near.variance_map(q) / q - 1

    x = start = jnp.log(guess)
    for _ in range(_STEPS):
        value, slope = jax.jvp(growth, (x,), (jnp.ones_like(x),))
        x = x - value / jnp.where(slope == 0, 1.0, slope)
    value, slope = jax.jvp(growth, (x,), (jnp.ones_like(x),))
    eps = jnp.finfo(x.dtype).eps
    solved = jnp.abs(value) <= 64 * eps * jnp.maximum(1.0, jnp.abs(slope + 1))
    solved &= jnp.abs(x - start) < 0.1 / slope_of_place
    return jnp.exp(x), solved & (slope < 0)


def regular_point(layer, q, c0):
    """(fixed point, sure) at a finite, stable variance, for a tabulated layer. Scalars."""
    image, chi_q = _image_and_slope(layer, q)
    scale = q / jnp.where(image == 0, 1.0, image)
    chi_perp = layer.tangent(q)
    chi_1 = chi_perp * scale
    one_minus_c, chi_c, placed = _regular_correlation(layer, q, scale, chi_1)
    eps = jnp.finfo(q.dtype).eps
    status = jnp.full(q.shape, Status.CONVERGED, jnp.int32)
    error = layer.error(q)
    errors = errors_of(q, one_minus_c, chi_q, chi_c, error)
    point = FixedPoint(
        q,
        1 - one_minus_c,
        one_minus_c,
        chi_q,
        chi_c,
        chi_1,
        chi_perp,
        status,
        phase_of(chi_1, status).astype(jnp.int32),
        *errors,
    )
    sure = (jnp.abs(chi_q) <= 1) & (jnp.abs(c0) < 1) & (error <= eps**0.65)
    sure &= is_well_conditioned(q, errors) & ~may_be_a_fold(q, chi_q, error)
    return point, sure & placed


def may_drift(layer):
    """``drift`` of a tabulated layer whose increments are looked up in tables too; else None."""
    drift = layer.drift() if layer.has_section else None
    return drift if drift and drift[0].has_section and drift[0].is_tabulated else None


def regular_drift(layer, status, c0):
    """(fixed point, sure) of signals that drift, for a tabulated layer that ``may_drift``. Scalars."""
    increment, known = may_drift(layer)
    one = jnp.ones((), increment.dtype())
    added = increment.variance_map(one)
    scale = 1 / jnp.where(added > 0, added, 1.0)
    one_minus_c, _, placed = _regular_correlation(increment, one, scale, increment.tangent(one) * scale)
    sure = known & (status == Status.UNBOUNDED) & (jnp.abs(c0) < 1) & (added > 0) & layer.is_valid()
    return drifting_point(one_minus_c), sure & placed & ~layer.is_identity()


def _image_and_slope(layer, q):
    """Q and its derivative."""
    affine = layer.affine()
    if affine is None:
        return jax.jvp(layer.variance_map, (q,), (jnp.ones_like(q),))
    growth, offset = affine
    return growth * q + offset, growth + 0 * q


def _regular_correlation(layer, q, scale, chi_1):
    """(1 - c*, chi_c, sure) at a variance, where Q(q) is q/scale."""
    eps = jnp.finfo(q.dtype).eps
    chaotic = chi_1 > 1 + 16 * eps
    target = jnp.where(chaotic, 1 / scale, 1.0)
    section = layer.section(q, jax.lax.stop_gradient(target))
    theta, solved = _angle(*jax.lax.stop_gradient((section, target)))
    # No coefficient of the c-map is negative (THEORY section 4): c* >= 0.
    theta = jnp.where(chaotic & solved, jnp.minimum(theta, np.pi / 2), 1.0)
    theta = implicit_root(
        lambda theta: jnp.where(chaotic & solved, section.gain_and_slope(theta)[0] / target - 1, 1.0 - theta),
        theta,
    )
    value, slope = section.gain_and_slope(theta)
    half = jnp.where(chaotic, theta / 2, 0.0)
    sine = jnp.sin(half)
    one_minus_c = 2 * sine**2
    chi_c = (value + sine / jnp.sqrt(1 - sine**2) * slope) / target
    chi_c = jnp.where(chaotic, chi_c, chi_1)
    # C is convex: its slope at c* is as far below 1 as chi_1 is above, or further.
    convex = (chi_c < (1 + chi_1) / 2) | (jnp.abs(chi_1 - 1) <= eps ** (2 / 3))
    return one_minus_c, chi_c, ~chaotic | (solved & convex)


def _angle(section, target):
    """(theta, whether it is solved) where the gain takes a value, on the polynomials of one cell."""
    place, lowest = section.start, section.lowest()
    for _ in range(_STEPS):
        value, slope = section.gain_of_place(place)
        new = place - (value - target) / jnp.where(slope == 0, 1.0, slope)
        # Beyond theta = 0 by rounding or a poor guess: half-way there.
        place = jnp.where(new < lowest, (place + lowest) / 2, new)
    value, slope = section.gain_of_place(place)
    eps = jnp.finfo(target.dtype).eps
    theta = section.angle_of_place(place)
    solved = jnp.abs(value / target - 1) <= 64 * eps * (1 + 1 / jnp.maximum(theta, eps))
    return theta, solved & (jnp.abs(place) < 1.3) & (slope < 0)
