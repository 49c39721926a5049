"""Layers seen by signals whose variance is far from every scale of theirs (THEORY section 4)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class LimitMap:
    """Growth of the variance and correlation map where a layer is homogeneous.

    growth: lim Q(q)/q. chi_perp: transverse growth. chi_1: C'(1), chi_perp/growth if C(1) = 1.
    theta: angle of the correlation's fixed point, 0 if that is c = 1.
    chi_c: C'(c*). frozen: the map is the identity, so that c* is undetermined.
    known: False if there is no homogeneous limit (all of the above are NaN then).
    """

    growth: jax.Array
    chi_perp: jax.Array
    chi_1: jax.Array
    theta: jax.Array
    chi_c: jax.Array
    frozen: jax.Array
    known: jax.Array

    @classmethod
    def unknown(cls, like) -> "LimitMap":
        """Of a layer that has no limit."""
        blank, no = jnp.full_like(like, jnp.nan), jnp.zeros(jnp.shape(like), bool)
        return cls(blank, blank, blank, jnp.zeros_like(like), blank, no, no)

    @classmethod
    def of_homogeneous(cls, layer: Any, known, smooth) -> "LimitMap":
        """Of a layer with Q(q) = growth q and a gain that does not depend on q."""
        one = jnp.ones((), layer.dtype())
        growth, tangent = layer.variance_map(one), layer.tangent(one)
        usable = known & (growth > 0)
        per_growth = 1 / jnp.where(usable, growth, 1.0)
        eps = jnp.finfo(one.dtype).eps
        straight = jnp.abs(layer.pair_gain(one, np.pi / 2 * one) - tangent) <= 8 * eps * jnp.abs(tangent)
        straight &= layer.keeps_one
        chi_1 = layer.slope_at_one(one) * per_growth
        searched = usable & smooth & ~straight
        theta = layer.fixed_angle(one, jnp.where(searched, per_growth, 1.0), jnp.where(searched, chi_1, 0.0))
        theta = jnp.where(searched, theta, 0.0)
        slope = layer.slope(one, jnp.where(theta > 0, theta, 1.0)) * per_growth
        blank = lambda where, x: jnp.where(where, x, jnp.nan)
        return cls(
            growth=blank(known, growth),
            chi_perp=blank(known & smooth, tangent),
            chi_1=blank(usable & smooth, chi_1),
            theta=theta,
            chi_c=blank(searched, jnp.where(theta > 0, slope, chi_1)),
            frozen=usable & straight,
            known=usable & smooth,
        )
