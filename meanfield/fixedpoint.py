"""Fixed points of the variance and correlation maps, and what they say of the network."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield import validation
from meanfield.broadcasting import pointwise
from meanfield.layers import as_layer
from meanfield.priors import AsymmetricPrior
from meanfield.pytrees import register_dataclass
from meanfield.status import Phase, Status
from meanfield.variance import variance_fixed_point, variance_fixed_points


@register_dataclass
@dataclass(frozen=True, eq=False)
class FixedPoint:
    r"""Where two signals end up in an infinitely deep network; all leaves of one shape.

    q: variance q*. Infinite if unbounded, 0 if vanishing, the start if marginal.
    c: correlation c*; one_minus_c: 1 - c*, to full relative accuracy.
    chi_q: Q'(q*), or the growth Q(q)/q of an unbounded or vanishing variance.
    chi_c: C'(c*). chi_1: C'(1). chi_perp: growth per layer of the squared norm of a
        transverse perturbation, sigma_w^2 E phi'^2.
    status: integers of ``Status``. phase: integers of ``Phase``, from chi_1.

    Source: THEORY sections 4 and 5; Poole et al. 2016; Schoenholz et al. 2017.
    """

    q: Float[Array, "..."]
    c: Float[Array, "..."]
    one_minus_c: Float[Array, "..."]
    chi_q: Float[Array, "..."]
    chi_c: Float[Array, "..."]
    chi_1: Float[Array, "..."]
    chi_perp: Float[Array, "..."]
    status: Int[Array, "..."]
    phase: Int[Array, "..."]


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
    if isinstance(prior, AsymmetricPrior):
        from meanfield.density.fixed_point import asymmetric_fixed_point

        return asymmetric_fixed_point(activation, prior, q0=q0, c0=c0)
    layer = as_layer(activation, prior)
    q0 = validation.real("q0", q0, low=0.0)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    if layer.is_tabulated:
        from meanfield.regular_points import fixed_point_by_table

        return fixed_point_by_table(layer, q0, c0)
    return pointwise(solve, layer, q0, c0)


def fixed_points(activation, prior=None, *, most: int = 8) -> FixedPoint:
    """Every finite, positive fixed point of one prior, stable or not, in ascending order of q.

    Results have one more, last axis of length ``most``, padded with NaN and
    ``Status.INVALID``. Stable ones are CONVERGED, others UNSTABLE. At each, c is the
    limit from c0 = 0. Arguments, errors and source as for ``fixed_point``.
    """
    layer = as_layer(activation, prior)
    return pointwise(_all_fixed_points, layer, static=(validation.count("most", most),))


def solve(layer, q0, c0) -> FixedPoint:
    """One point, whatever the layer. Arguments are scalars."""
    valid = layer.is_valid() & jnp.isfinite(q0) & (q0 >= 0) & (jnp.abs(c0) <= 1)
    layer = layer.guarded(valid)
    q0, c0 = jnp.where(valid, q0, 1.0), jnp.where(valid, c0, 0.0)
    q, status = variance_fixed_point(layer, q0)
    result = at_variance(layer, q, status, c0)
    return masked(result, valid)


def _all_fixed_points(layer, most) -> FixedPoint:
    valid = layer.is_valid()
    layer = layer.guarded(valid)
    q, status, found = variance_fixed_points(layer, most)
    result = jax.vmap(lambda q, s: at_variance(layer, q, s, jnp.zeros_like(q)))(q, status)
    return masked(result, valid & found)


def masked(result, valid):
    """A fixed point of any kind, NaN and INVALID where not ``valid``."""
    codes = {"status": Status.INVALID, "phase": Phase.UNDEFINED}
    fields = {name: jnp.where(valid, value, codes.get(name, jnp.nan)) for name, value in vars(result).items()}
    fields |= {name: fields[name].astype(jnp.int32) for name in codes}
    return type(result)(**fields)


def at_variance(layer, q, status, c0) -> FixedPoint:
    """c* and the stability of both maps at a variance that status describes."""
    finite = ~((status == Status.VANISHING) | (status == Status.UNBOUNDED))
    here, there = _at_finite(layer, jnp.where(finite, q, 1.0), status, c0), at_limit(layer, status, c0)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), here, there)


def _at_finite(layer, q, status, c0) -> FixedPoint:
    image, chi_q = jax.jvp(layer.variance_map, (q,), (jnp.ones_like(q),))
    chi_perp = layer.tangent(q)
    # At a fixed point image = q; where every q is one, this still gives C(1) = 1.
    scale = q / jnp.where(image == 0, 1.0, image)
    chi_1 = chi_perp * scale
    theta = layer.fixed_angle(q, scale, chi_1)
    chaotic = theta > 0
    slope = layer.slope(q, jnp.where(chaotic, theta, 1.0)) * scale
    chi_c = jnp.where(chaotic, slope, chi_1)
    one_minus_c = 2 * jnp.sin(theta / 2) ** 2
    one_minus_c, chi_c = _from_the_ends(layer, q, True, c0, one_minus_c, chi_c, chi_1)
    c, one_minus_c, chi_c = _unless_identity(layer, c0, 1 - one_minus_c, one_minus_c, chi_c, chi_1)
    status = _checked(layer, q, theta, scale, (chi_1, slope), status)
    return FixedPoint(q, c, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, phase_of(chi_1))


def at_limit(layer, status, c0) -> FixedPoint:
    """c* and the stability of both maps where status is UNBOUNDED or VANISHING, from the limit map."""
    at_zero = status == Status.VANISHING
    limit = layer.limit(at_zero)
    value = jnp.where(at_zero, 0.0, jnp.full_like(limit.growth, jnp.inf))
    # Superlinear maps grow without bound, or vanish, at no finite rate.
    chi_q, chi_perp = (
        jnp.where(jnp.isnan(x) & limit.known, value, x) for x in (limit.growth, limit.chi_perp)
    )
    one_minus_c = 2 * jnp.sin(limit.theta / 2) ** 2
    one = jnp.ones_like(value)
    one_minus_c, chi_c = _from_the_ends(layer, one, False, c0, one_minus_c, limit.chi_c, limit.chi_1)
    undetermined = ~limit.known | limit.frozen
    one_minus_c = jnp.where(undetermined, jnp.nan, one_minus_c)
    c, one_minus_c, chi_c = _unless_identity(layer, c0, 1 - one_minus_c, one_minus_c, chi_c, limit.chi_1)
    status = jnp.asarray(status, jnp.int32)
    return FixedPoint(
        value, c, one_minus_c, chi_q, chi_c, limit.chi_1, chi_perp, status, phase_of(limit.chi_1)
    )


def _unless_identity(layer, c0, c, one_minus_c, chi_c, chi_1):
    """Where every correlation is a fixed point, it stays what it was."""
    identity = layer.is_identity()
    pick = lambda exact, x: jnp.where(identity, exact, x)  # noqa: E731
    return pick(c0, c), pick(1 - c0, one_minus_c), pick(chi_1, chi_c)


def _from_the_ends(layer, q, finite, c0, one_minus_c, chi_c, chi_1):
    """c0 = 1 stays there; c0 = -1 too for odd maps, and jumps to 1 for even ones."""
    # One start for many points is the rule: then this costs nothing.
    opposite = jax.lax.cond(jnp.any(c0 == -1), lambda: layer.opposite_gap(q), lambda: jnp.ones_like(q))
    eps = jnp.finfo(q.dtype).eps
    odd = finite & (c0 == -1) & (opposite >= 2 - 64 * eps)
    even = (c0 == -1) & (opposite <= 64 * eps)
    at_one = (c0 == 1) | even
    one_minus_c = jnp.where(at_one, 0.0, jnp.where(odd, 2.0, one_minus_c))
    return one_minus_c, jnp.where(at_one | odd, chi_1, chi_c)


def phase_of(chi_1):
    """``Phase`` from the slope of the c-map at c = 1."""
    tolerance = jnp.finfo(chi_1.dtype).eps ** (2 / 3)
    phase = jnp.where(chi_1 > 1, Phase.CHAOTIC, Phase.ORDERED)
    phase = jnp.where(jnp.abs(chi_1 - 1) <= tolerance, Phase.CRITICAL, phase)
    return jnp.where(jnp.isnan(chi_1), Phase.UNDEFINED, phase)


def _checked(layer, q, theta, scale, slopes, status):
    """CONVERGED only where the correlation is solved and the quadrature resolves phi."""
    layer, q, theta, scale, slopes = jax.lax.stop_gradient((layer, q, theta, scale, slopes))
    eps = jnp.finfo(q.dtype).eps
    chaotic = theta > 0
    angle = jnp.where(chaotic, theta, 1.0)
    residual = jnp.abs(layer.pair_gain(q, angle) * scale - 1)
    # Rounding enters the chord through phi(u1) - phi(u2), of relative size 1/theta.
    solved = ~chaotic | (residual <= 64 * eps * (1 + 1 / angle))
    # C is convex: its slope at c* is as far below 1 as chi_1 is above, or further.
    chi_1, chi_c = slopes
    critical = jnp.abs(chi_1 - 1) <= eps ** (2 / 3)
    solved &= ~chaotic | critical | (chi_c < (1 + chi_1) / 2)
    accurate = layer.error(q) <= eps**0.65
    usable = (status == Status.CONVERGED) | (status == Status.UNSTABLE)
    status = jnp.where(usable & ~solved, Status.MAX_STEPS, status)
    return jnp.where(usable & ~accurate, Status.INACCURATE, status)
