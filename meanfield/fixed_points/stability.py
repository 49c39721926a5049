"""Lyapunov exponents and depth scales of a random network at its fixed point."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.fixed_points.point import fixed_point
from meanfield.fixed_points.result import FixedPoint, as_table
from meanfield.numerics.compiling import compiled
from meanfield.numerics.pytrees import register_dataclass
from meanfield.status import Status


@register_dataclass
@dataclass(frozen=True, eq=False)
class LyapunovExponents:
    """Rates per layer.

    q: log |chi_q|, of the variance. c: log chi_c, of the correlation.
    maximal: of the norm of a perturbation, the larger of the transverse rate
    log(chi_perp)/2 and the radial one (THEORY section 5).
    """

    q: Float[Array, "..."]
    c: Float[Array, "..."]
    maximal: Float[Array, "..."]

    __repr__ = as_table


@register_dataclass
@dataclass(frozen=True, eq=False)
class DepthScales:
    """Layers over which the variance (xi_q) and the correlation (xi_c) converge by a factor e.

    Infinite where that takes a power of the depth (chi = 1, to the tolerance of ``Phase``), NaN where
    perturbations grow: nothing converges there.
    """

    q: Float[Array, "..."]
    c: Float[Array, "..."]

    __repr__ = as_table


def lyapunov_exponents(activation, prior=None, *, q0=1.0, c0=0.0) -> LyapunovExponents:
    """Lyapunov exponents at the fixed point. Arguments and errors as for ``fixed_point``."""
    return exponents_at(fixed_point(activation, prior, q0=q0, c0=c0))


def depth_scales(activation, prior=None, *, q0=1.0, c0=0.0) -> DepthScales:
    """xi = -1 / log|chi| of both maps. Arguments and errors as for ``fixed_point``."""
    return depth_scales_at(fixed_point(activation, prior, q0=q0, c0=c0))


@compiled(0)
def exponents_at(point: FixedPoint) -> LyapunovExponents:
    """Lyapunov exponents at a fixed point that is known."""
    transverse = _log(point.chi_perp) / 2
    radial = _log(jnp.abs(point.chi_q))
    # Without a scale the radial direction grows like the signal itself.
    scale_free = point.status != Status.CONVERGED
    scale_free &= point.status != Status.UNSTABLE
    maximal = jnp.maximum(transverse, jnp.where(scale_free, radial / 2, radial))
    return LyapunovExponents(q=radial, c=_log(point.chi_c), maximal=maximal)


@compiled(0)
def depth_scales_at(point: FixedPoint) -> DepthScales:
    """Depth scales at a fixed point that is known."""
    return DepthScales(q=depth_scale(point.chi_q), c=depth_scale(point.chi_c))


def depth_scale(chi):
    """-1 / log|chi|; infinite at 1, NaN above."""
    rate = _log(jnp.abs(chi))
    critical = jnp.abs(rate) <= jnp.finfo(rate.dtype).eps ** (2 / 3)
    contracts = (rate < 0) & ~critical
    scale = jnp.where(contracts, -1 / jnp.where(contracts, rate, -1.0), jnp.nan)
    return jnp.where(critical, jnp.inf, scale)


def _log(x):
    """log x, with a finite derivative behind a mask where x is 0, infinite or NaN."""
    usable = (x > 0) & jnp.isfinite(x)
    limit = jnp.where(x == 0, -jnp.inf, jnp.where(x > 0, jnp.inf, jnp.nan))
    return jnp.where(usable, jnp.log(jnp.where(usable, x, 1.0)), limit)
