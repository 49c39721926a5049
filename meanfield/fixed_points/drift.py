"""Signals whose variance grows linearly with depth: powers of the depth in place of rates per layer."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.fixed_points.correlation import drift_angle, variance_reached
from meanfield.layers import as_layer
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.status import Status


@register_dataclass
@dataclass(frozen=True, eq=False)
class Drift:
    r"""What signals do far down a network that only adds to them; all leaves of one shape.

    rate: growth of the variance per layer, q_l ~ rate * l. c: correlation c* that pairs approach, where what
    is added is correlated as the signals are; one_minus_c: 1 - c*.
    c_power: p in \|c_l - c*\| ~ l^-p. gradient_power: p in the growth l^p of a squared gradient from
    layer l to an early one; infinite for saturating branches, where it goes like exp of the root of l.

    Source: THEORY section 12; Yang & Schoenholz 2017.
    """

    rate: Float[Array, "..."]
    c: Float[Array, "..."]
    one_minus_c: Float[Array, "..."]
    c_power: Float[Array, "..."]
    gradient_power: Float[Array, "..."]


def drift(layer) -> Drift:
    """The powers by which signals change with depth, at points whose status is DRIFTING; elsewhere NaN.

    layer: a ``Residual`` with skip 1 or -1 whose branch bounds its signals, by a norm anywhere in it or a
    bounded activation, or a ``Chain`` of such; of others all fields are NaN.

    The powers are those at great depth. With a bias beside a saturating activation a term l^(-1/2)
    competes with c_power. Differentiable with respect to the layer's parameters. Raises TypeError or
    ValueError as ``fixed_point`` does. Source: THEORY section 12.
    """
    return pointwise(_drift, as_layer(layer))


def _drift(layer) -> Drift:
    valid = layer.is_valid()
    layer = layer.guarded(valid)
    found = layer.drift()
    one = jnp.ones((), layer.dtype())
    if found is None:
        return Drift(*[jnp.full_like(one, jnp.nan)] * 5)
    increment, known = found
    _, status = variance_reached(layer, one)
    drifts = valid & known & (status == Status.UNBOUNDED)
    theta, added = drift_angle(increment)
    parted = theta > 0
    slope = jnp.where(
        parted, increment.slope(one, jnp.where(parted, theta, 1.0)), increment.slope_at_one(one)
    )
    one_minus_c = 2 * jnp.sin(theta / 2) ** 2
    result = Drift(added, 1 - one_minus_c, one_minus_c, 1 - slope / added, increment.tangent(one) / added)
    return jax.tree.map(lambda x: jnp.where(drifts, x, jnp.nan), result)
