r"""Dynamical isometry: priors under which all singular values of a deep Jacobian stay near 1.

The squared singular values s^2 of L layers have mean chi_perp^L and relative variance
L (mu_2/mu_1^2 - 1 - spectral_exponent). Gaussian weights alone make that L; under orthogonal weights it is
L times that of d^2, which on the critical line of an activation that is smooth at
the origin (or straight about it) vanishes with q.
Source: Pennington, Schoenholz & Ganguli, arXiv:1711.04735 and arXiv:1802.09979; THEORY section 11.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield.dual import tables_of
from meanfield.fixed_points.criticality import critical_line
from meanfield.fixed_points.result import masked
from meanfield.fixed_points.variance import variance_fixed_point
from meanfield.layers import as_dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.memo import Memo
from meanfield.numerics.polynomials import cubic, horner
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.numerics.roots import root_between
from meanfield.priors import NormalPrior, OrthogonalPrior
from meanfield.spectra.slopes import SlopeLaw, like_gaussian, slopes_at, stationary_points
from meanfield.status import Status
from meanfield.support import validation

_FEWEST_FOR_TABLE = 4096
_NODES = 2048  # of log q, between which two moments are interpolated to fourth order
_SEARCHED = (1e-8, 1e4, 241)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Isometry:
    """How far squared singular values s^2 are from 1; all leaves of one shape.

    top_exponent: rate per layer of a transverse perturbation, log(chi_perp)/2.
    log_mean: log E s^2. spread: standard deviation of s^2 over its mean.
    deviation: root mean square of s^2 - 1, what both of them amount to.
    q: variance q*. status: integers of ``Status``.
    """

    top_exponent: Float[Array, "..."]
    log_mean: Float[Array, "..."]
    spread: Float[Array, "..."]
    deviation: Float[Array, "..."]
    q: Float[Array, "..."]
    status: Int[Array, "..."]


@register_dataclass
@dataclass(frozen=True, eq=False)
class IsometricLine:
    """The part of the critical line on which the spread is within a bound; shape (points,) or ().

    weight_var, bias_var, q: the priors there and their variance; spread: of s^2, on the line its mean is 1.
    chi_q: Q'(q). status: as of ``CriticalLine``; INVALID throughout where no q is small enough.
    largest_q: the q at which the spread reaches the bound; infinite if it does not.
    """

    weight_var: Float[Array, " points"]
    bias_var: Float[Array, " points"]
    q: Float[Array, " points"]
    spread: Float[Array, " points"]
    chi_q: Float[Array, " points"]
    status: Int[Array, " points"]
    largest_q: Float[Array, ""]


def isometry(activation, prior=None, depth=1, *, q0=1.0) -> Isometry:
    """Mean and spread of squared singular values over ``depth`` layers at q*, in closed form.

    activation, prior: as for ``jacobian_spectrum``; leaves broadcast with q0 >= 0 and depth > 0, a
    number or an array. Works under jit, vmap and grad; outside of them large grids of an
    activation without closed form are interpolated in log q, to 1e-9 or better.
    Raises TypeError or ValueError. Source: THEORY section 11.
    """
    layer = as_dense(activation, prior)
    depth = validation.real("depth", depth, low=0.0, low_open=True)
    q0 = validation.real("q0", q0, low=0.0)
    leaves = jax.tree.leaves((layer, depth, q0))
    shape = jnp.broadcast_shapes(*(jnp.shape(x) for x in jax.tree.leaves((layer.prior, depth, q0))))
    large = functools.reduce(lambda n, m: n * m, shape, 1) >= _FEWEST_FOR_TABLE
    known = not validation.is_traced(leaves) and not layer.activation.traced and not layer.activation.params
    spectral_exponent, layer = layer.prior.spectral_exponent, like_gaussian(layer)
    if large and known and layer.affine() is None:
        return _tabulated(layer, depth, q0, spectral_exponent)
    return pointwise(
        _isometry, layer, *stationary_points(layer, q0), depth, spectral_exponent, optimization=2
    )


def _isometry(layer, q, at, status, depth, spectral_exponent) -> Isometry:
    valid = layer.is_valid() & (status != Status.INVALID) & (depth > 0)
    layer = layer.guarded(valid)
    law, status = slopes_at(layer, at, status)
    moments = law.log_mean, law.relative_variance
    return _from_moments(layer.prior, depth, moments, q, status, valid, spectral_exponent)


def _from_moments(prior, depth, moments, q, status, valid, spectral_exponent) -> Isometry:
    rate = jnp.log(prior.weight_var) + moments[0]
    variance = depth * (moments[1] - spectral_exponent)
    spread = _root(variance)
    log_mean = depth * rate
    mean = jnp.exp(log_mean)
    result = Isometry(
        top_exponent=rate / 2,
        log_mean=log_mean,
        spread=spread,
        deviation=_root(mean**2 * variance + jnp.expm1(log_mean) ** 2),
        q=q,
        status=status,
    )
    return masked(result, valid)


def _root(x):
    """sqrt, with derivative 0 where x is 0."""
    some = x > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1.0)), jnp.where(x == 0, 0.0, jnp.nan))


# --- large grids ---------------------------------------------------------------


def _tabulated(layer, depth, q0, spectral_exponent) -> Isometry:
    """Computes in double precision whatever JAX's default is, as phase diagrams do."""
    dtype = jnp.result_type(float, *jax.tree.leaves((layer.prior, depth, q0)))
    with jax.enable_x64(True):
        if not layer.dual.is_closed_form:
            layer = replaced(layer, dual=tables_of(layer.dual, layer.activation).dual())
        shared = (_moments_of(layer.exact()),)
        result = pointwise(_interpolated, layer, depth, q0, spectral_exponent, shared=shared, at_once=1 << 13)
    return jax.tree.map(lambda x: x if x.dtype == jnp.int32 else x.astype(dtype), result)


def _moments_of(layer):
    """One table an activation, built when first needed."""
    unit = replaced(layer, prior=NormalPrior(1.0))
    return _TABLES(layer.activation.key, lambda: _moment_table(unit))


_TABLES: Memo = Memo(32)


@jax.jit
def _moment_table(layer):
    """log q, and log E d^2 and Var d^2/(E d^2)^2 there, with their derivatives."""
    x = jnp.linspace(jnp.log(1e-20), jnp.log(1e20), 4 * _NODES + 1)

    def moments(x):
        law = SlopeLaw.of(layer, jnp.exp(x))
        return jnp.stack([law.log_mean, law.relative_variance])

    values, slopes = jax.lax.map(lambda x: jax.jvp(moments, (x,), (jnp.ones_like(x),)), x, batch_size=256)
    return x, values, slopes


def _interpolated(layer, depth, q0, spectral_exponent, table) -> Isometry:
    valid = layer.is_valid() & jnp.isfinite(q0) & (q0 >= 0) & (depth > 0)
    layer = layer.guarded(valid)
    q, status = variance_fixed_point(layer, jnp.where(valid, q0, 1.0))
    value = jnp.where(status == Status.UNBOUNDED, jnp.inf, jnp.where(status == Status.VANISHING, 0.0, q))
    x, values, slopes = table
    width = x[1] - x[0]
    place = (jnp.log(jnp.clip(value, 1e-20, 1e20)) - x[0]) / width
    cell = jnp.clip(place.astype(int), 0, x.size - 2)
    nodes = values[cell], values[cell + 1], width * slopes[cell], width * slopes[cell + 1]
    moments = horner(cubic(*nodes), place - cell)
    return _from_moments(layer.prior, depth, moments, value, status, valid, spectral_exponent)


# --- the line ----------------------------------------------------------------------


def dynamical_isometry(activation, depth, bound=1.0, *, law=OrthogonalPrior, points=50) -> IsometricLine:
    """The critical (weight_var, bias_var) that keep the spread of s^2 over ``depth`` layers within ``bound``.

    On the critical line E s^2 = 1 at any depth, and its points are explicit in q. As q grows
    slopes spread: the line is followed from q = 0 to the first q at which the spread,
    sqrt(L (Var d^2/(E d^2)^2 - s_1)), is ``bound``. ``points`` of it come back, evenly spaced in
    log q over four decades up to there.

    activation: as for ``fixed_point``. depth: L. bound: of the standard deviation of s^2 over its mean.
    law: ``OrthogonalPrior`` or ``NormalPrior``, whose spread is at least sqrt(L) at every q.

    Raises TypeError or ValueError. Source: Pennington et al., arXiv:1711.04735; THEORY section 11.
    """
    if law not in (OrthogonalPrior, NormalPrior):
        raise TypeError(f"law must be meanfield.OrthogonalPrior or NormalPrior, got {law!r}")
    depth = validation.number("depth", depth, low=0.0, low_open=True)
    bound = validation.number("bound", bound, low=0.0, low_open=True)
    points = validation.count("points", points)
    layer = as_dense(activation, NormalPrior(1.0))
    largest = pointwise(_largest_q, layer, depth, bound, law.spectral_exponent, optimization=2)
    end = jnp.where(largest == 0, 1.0, jnp.minimum(largest, _SEARCHED[1]))
    q = end * jnp.geomspace(1e-4, 1.0, points, dtype=largest.dtype)
    line = critical_line(activation, q)
    spread = isometry_spread(layer, q, depth, law.spectral_exponent)
    status = jnp.where(largest == 0, Status.INVALID, line.status)
    blank = lambda x: jnp.where(largest == 0, jnp.nan, x)
    return IsometricLine(
        weight_var=blank(line.weight_var),
        bias_var=blank(line.bias_var),
        q=blank(line.q),
        spread=blank(spread),
        chi_q=blank(line.chi_q),
        status=status,
        largest_q=largest,
    )


def isometry_spread(layer, q, depth, spectral_exponent):
    """Standard deviation of s^2 over its mean, where slopes are taken at variance q."""
    return pointwise(_spread, layer, q, depth, spectral_exponent)


def _spread(layer, q, depth, spectral_exponent):
    return _root(depth * (SlopeLaw.of(layer, q).relative_variance - spectral_exponent))


def _largest_q(layer, depth, bound, spectral_exponent):
    low, high, count = _SEARCHED
    x = jnp.linspace(jnp.log(low), jnp.log(high), count, dtype=depth.dtype)

    def excess(x):
        square = depth * (SlopeLaw.of(layer, jnp.exp(x)).relative_variance - spectral_exponent)
        return jnp.log(square + jnp.finfo(x.dtype).tiny ** 0.5) - 2 * jnp.log(bound)

    over = jax.lax.stop_gradient(jax.vmap(excess)(x)) > 0
    first = jnp.argmax(over)
    inside = jnp.any(over) & (first > 0)
    ends = x[jnp.maximum(first - 1, 0)], x[first]
    root = root_between(lambda x: jnp.where(inside, excess(x), x), *ends)
    return jnp.where(inside, jnp.exp(root), jnp.where(over[0], 0.0, jnp.inf))
