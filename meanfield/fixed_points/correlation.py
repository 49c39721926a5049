"""One fixed point of both maps, whatever the layer: the correlation and the stability at a variance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.fixed_points.result import (
    FixedPoint,
    errors_of,
    is_well_conditioned,
    masked,
    may_be_a_fold,
    phase_of,
)
from meanfield.fixed_points.variance import variance_fixed_point
from meanfield.status import Status
from meanfield.support import validation


def may_be_opposite(c0) -> bool:
    """Whether signals may start at c0 = -1, for which a program needs a part of its own."""
    return validation.is_traced(c0) or bool(np.any(np.asarray(c0) == -1))


def solve(layer, q0, c0, opposite=True) -> FixedPoint:
    """One point, whatever the layer. Scalars. opposite: ``may_be_opposite``."""
    q, status = variance_reached(layer, q0)
    valid = jnp.isfinite(q0) & (q0 >= 0)
    return masked(correlation_reached(layer, q, status, c0, opposite), valid)


def variance_reached(layer, q0):
    """(q*, status) for any arguments, invalid ones too. Scalars."""
    layer = layer.guarded(layer.is_valid())
    return variance_fixed_point(layer, jnp.where(jnp.isfinite(q0) & (q0 >= 0), q0, 1.0))


def correlation_reached(layer, q, status, c0, opposite=True) -> FixedPoint:
    """The fixed point at a variance that is known; NaN and INVALID where arguments are. Scalars."""
    valid = layer.is_valid() & (jnp.abs(c0) <= 1)
    layer, c0 = layer.guarded(valid), jnp.where(valid, c0, 0.0)
    return masked(at_variance(layer, q, status, c0, opposite), valid)


def at_variance(layer, q, status, c0, opposite=True) -> FixedPoint:
    """c* and the stability of both maps at a variance that status describes, an integer of any type."""
    status = jnp.asarray(status, jnp.int32)
    finite = ~((status == Status.VANISHING) | (status == Status.UNBOUNDED))
    here, there = _at_finite(layer, jnp.where(finite, q, 1.0), status), _at_limit(layer, status)
    point = jax.tree.map(lambda a, b: jnp.where(finite, a, b), here, there)
    return _reached_from(c0, opposite, layer, point, finite)


def at_limit(layer, status, c0, opposite=True) -> FixedPoint:
    """c* and the stability of both maps where status is UNBOUNDED or VANISHING, from the limit map."""
    return _reached_from(c0, opposite, layer, _at_limit(layer, status), jnp.zeros(jnp.shape(status), bool))


def _at_finite(layer, q, status) -> FixedPoint:
    """Where nearly all correlations lead."""
    image, chi_q = jax.jvp(layer.variance_map, (q,), (jnp.ones_like(q),))
    chi_perp = layer.tangent(q)
    # At a fixed point image = q; where every q is one, this still gives C(1) = 1.
    scale = q / jnp.where(image == 0, 1.0, image)
    chi_1 = layer.slope_at_one(q) * scale
    theta = layer.fixed_angle(q, scale, chi_1)
    chaotic = theta > 0
    slope = layer.slope(q, jnp.where(chaotic, theta, 1.0)) * scale
    status = _checked(layer, q, theta, scale, (chi_1, slope), status)
    one_minus_c = 2 * jnp.sin(theta / 2) ** 2
    chi_c = jnp.where(chaotic, slope, chi_1)
    of_map = layer.growth_error(q)
    errors = errors_of(q, one_minus_c, chi_q, chi_c, layer.error(q), of_map)
    doubtful = ~is_well_conditioned(q, errors)
    if layer.affine() is None:
        doubtful |= may_be_a_fold(q, chi_q, of_map)
    status = jnp.where(doubtful & (status == Status.CONVERGED), Status.INACCURATE, status)
    gradient = chi_1 if layer.keeps_one else chi_perp * scale
    return _point(q, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, gradient, errors)


def _at_limit(layer, status) -> FixedPoint:
    """The same at vanishing or unbounded variance; one_minus_c is NaN where it is undetermined."""
    at_zero = status == Status.VANISHING
    limit = layer.limit(at_zero)
    value = jnp.where(at_zero, 0.0, jnp.full_like(limit.growth, jnp.inf))
    # Superlinear maps grow without bound, or vanish, at no finite rate.
    chi_q, chi_perp = (
        jnp.where(jnp.isnan(x) & limit.known, value, x) for x in (limit.growth, limit.chi_perp)
    )
    one_minus_c = jnp.where(~limit.known | limit.frozen, jnp.nan, 2 * jnp.sin(limit.theta / 2) ** 2)
    gradient = limit.chi_1 if layer.keeps_one else limit.chi_perp / limit.growth
    status = jnp.asarray(status, jnp.int32)
    point = _point(value, one_minus_c, chi_q, limit.chi_c, limit.chi_1, chi_perp, status, gradient)
    return _drifting(layer, point)


def _drifting(layer, point) -> FixedPoint:
    """The same where unbounded signals are merely added to."""
    drift = layer.drift()
    if drift is None:
        return point
    increment, known = drift
    drifts = known & (point.status == Status.UNBOUNDED)
    theta, _ = drift_angle(increment)
    there = drifting_point(2 * jnp.sin(theta / 2) ** 2)
    return jax.tree.map(lambda a, b: jnp.where(drifts, a, b), there, point)


def drifting_point(one_minus_c) -> FixedPoint:
    """The point at which drifting signals end: every rate per layer tends to 1."""
    one = jnp.ones_like(one_minus_c)
    status = jnp.asarray(Status.DRIFTING, jnp.int32)
    return _point(jnp.inf * one, one_minus_c, one, one, one, one, status, one)


def drift_angle(increment):
    """(theta*, Q) of what every layer adds: signals of unbounded variance end at that angle."""
    one = jnp.ones((), increment.dtype())
    added = increment.variance_map(one)
    scale = 1 / jnp.where(added > 0, added, 1.0)
    return increment.fixed_angle(one, scale, increment.slope_at_one(one) * scale), added


def _point(q, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, gradient, errors=None) -> FixedPoint:
    """gradient: growth of gradients over that of signals, which decides the phase. errors: 0 of a limit."""
    phase = phase_of(gradient, status)
    errors = (jnp.zeros_like(q), jnp.zeros_like(q)) if errors is None else errors
    return FixedPoint(q, 1 - one_minus_c, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, phase, *errors)


def _reached_from(c0, opposite, layer, point, finite) -> FixedPoint:
    """c0 = 1 stays there; c0 = -1 too for odd maps, and jumps to 1 for even ones; all c0 where C(c) = c.

    Where equal signals part, all c0 lead to one c*.
    """
    at_one, at_minus_one = (c0 == 1) & layer.keeps_one, jnp.zeros_like(c0 == 1)
    if opposite and layer.keeps_one:
        gap = layer.opposite_gap(jnp.where(finite, point.q, 1.0))
        eps = jnp.finfo(gap.dtype).eps
        at_minus_one = finite & (c0 == -1) & (gap >= 2 - 64 * eps)
        at_one |= (c0 == -1) & (gap <= 64 * eps)
    undetermined = ~finite & jnp.isnan(point.one_minus_c)
    one_minus_c = jnp.where(at_one, 0.0, jnp.where(at_minus_one, 2.0, point.one_minus_c))
    one_minus_c = jnp.where(undetermined, jnp.nan, one_minus_c)
    chi_c = jnp.where(at_one | at_minus_one, point.chi_1, point.chi_c)
    identity = layer.is_identity()
    pick = lambda exact, x: jnp.where(identity, exact, x)
    return dataclasses.replace(
        point,
        c=pick(c0, 1 - one_minus_c),
        one_minus_c=pick(1 - c0, one_minus_c),
        chi_c=pick(point.chi_1, chi_c),
    )


def _checked(layer, q, theta, scale, slopes, status):
    """CONVERGED only where the correlation is solved and the quadrature resolves phi."""
    layer, q, theta, scale, slopes = jax.lax.stop_gradient((layer, q, theta, scale, slopes))
    eps = jnp.finfo(q.dtype).eps
    chaotic = theta > 0
    angle = jnp.where(chaotic, theta, 1.0)
    residual = jnp.abs(layer.pair_gain(q, angle) * scale - 1)
    # Rounding enters the chord through phi(u1) - phi(u2), of relative size 1/theta.
    solved = ~chaotic | (residual <= 64 * eps * (1 + 1 / angle))
    # C is convex: its slope at c* is as far below 1 as chi_1 is above, or further; if equal signals part,
    # it is below 1.
    chi_1, chi_c = slopes
    critical = jnp.abs(chi_1 - 1) <= eps ** (2 / 3)
    solved &= ~chaotic | critical | (chi_c < ((1 + chi_1) / 2 if layer.keeps_one else 1))
    accurate = layer.error(q) <= eps**0.65
    usable = (status == Status.CONVERGED) | (status == Status.UNSTABLE)
    status = jnp.where(usable & ~solved, Status.MAX_STEPS, status)
    return jnp.where(usable & ~accurate, Status.INACCURATE, status)
