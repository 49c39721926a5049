"""A dense layer far from every scale of its activation: closed forms (THEORY sections 4 and 7)."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.asymptotes import Asymptote, asymptote_at_infinity, asymptote_at_zero
from meanfield.activations.names import as_activation
from meanfield.dual import Homogeneous1, Homogeneous2, shipped_ends
from meanfield.layers.limits import LimitMap
from meanfield.numerics.angles import solve_angle


def ends_of(activation, dual, dtype) -> tuple[Asymptote, Asymptote]:
    """What an activation looks like to vanishing and to unbounded signals; tables know it themselves."""
    if dual.asymptotes is not None:
        return dual.asymptotes
    if (known := shipped_ends(activation)) is not None:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype) if isinstance(x, float) else x, known)
    return asymptote_at_zero(activation, dtype), asymptote_at_infinity(activation, dtype)


def beside(dual, activation):
    """The activation; beside a table that stands alone, which asks none, one that is always the same."""
    return _ANY if dual.exact() is None else activation


_ANY = as_activation("linear")


def is_quadratic(dual, ends: tuple[Asymptote, Asymptote]):
    """Whether one of the ends has degree 2; a bool where that is known before anything runs."""
    degrees = [end.degree for end in ends]
    if not any(isinstance(degree, jax.Array) for degree in degrees):
        return 2 in degrees
    return ((degrees[0] == 2) | (degrees[1] == 2)) if dual.may_be_quadratic else False


def dense_limit(prior, ends: Asymptote, may_be_quadratic) -> LimitMap:
    """The limit of a layer with these weights behind an activation that looks like ``ends``."""
    quadratic = linear = _linear_limit(prior, ends)
    # Solving for an angle costs more than all the rest, and few activations need it.
    if may_be_quadratic is not False:
        quadratic = jax.lax.cond(may_be_quadratic, lambda: _quadratic_limit(prior, ends), lambda: linear)
    cubic = _cubic_limit(ends)
    pick = lambda a, b, c: jnp.select([ends.degree == 2, ends.degree == 3], [b, c], a)
    return jax.tree.map(pick, linear, quadratic, cubic)


def _linear_limit(prior, ends):
    usable = (ends.degree == 1) & (ends.left**2 + ends.right**2 > 0)
    bent = usable & (ends.left != ends.right)
    safe = Homogeneous1(jnp.where(bent, ends.left, 0.0), jnp.where(bent, ends.right, 1.0))
    one = jnp.ones_like(ends.left)
    kappa, weight_var = prior.anticorrelation, prior.weight_var
    per_weight = jnp.where(bent, safe.variance(one) + (1 - kappa) * safe.mean(one) ** 2, ends.right**2)
    slope = jnp.where(bent, safe.slope_moment(one), ends.right**2)
    # chi_1 = slope / per_weight > 1 exactly if kappa > 0.
    theta = jnp.where(bent & (slope > per_weight), safe.angle_at_chord(per_weight), 0.0)
    chi_c = safe.slope_covariance(one, theta) / per_weight
    ratio = slope / jnp.where(per_weight == 0, 1, per_weight)
    smooth = usable & ends.smooth
    blank = lambda x: jnp.where(smooth, x, jnp.nan)
    return LimitMap(
        growth=jnp.where(usable, weight_var * per_weight, jnp.nan),
        chi_perp=blank(weight_var * slope),
        chi_1=blank(ratio),
        theta=theta,
        chi_c=jnp.where(bent & smooth, chi_c, jnp.nan),
        frozen=usable & ~bent,
        known=smooth,
    )


def _quadratic_limit(prior, ends):
    usable = (ends.degree == 2) & (ends.left**2 + ends.right**2 > 0)
    safe = Homogeneous2(jnp.where(usable, ends.left, 0.0), jnp.where(usable, ends.right, 1.0))
    one = jnp.ones_like(ends.left)
    per_weight = safe.variance(one) + (1 - prior.anticorrelation) * safe.mean(one) ** 2
    slope = safe.slope_moment(one)
    theta = solve_angle(lambda t: safe.chord(one, t) / per_weight, slope / per_weight)
    chi_c = safe.slope_covariance(one, jnp.where(theta > 0, theta, 1.0)) / per_weight
    return LimitMap(
        growth=jnp.full_like(one, jnp.nan),  # 0 or infinite: superlinear
        chi_perp=jnp.full_like(one, jnp.nan),
        chi_1=jnp.where(usable, slope / per_weight, jnp.nan),
        theta=theta,
        chi_c=jnp.where(theta > 0, chi_c, slope / per_weight),
        frozen=jnp.zeros(one.shape, bool),
        known=usable,
    )


def _cubic_limit(ends):
    """phi ~ x^3: C(c) = (9 c + 6 c^3) / 15, whatever the prior."""
    like = jnp.zeros_like(ends.left)
    return LimitMap(
        growth=like + jnp.nan,
        chi_perp=like + jnp.nan,
        chi_1=like + 27 / 15,
        theta=like + np.pi / 2,
        chi_c=like + 9 / 15,
        frozen=like > 0,
        known=like == 0,
    )
