"""One layer, and many: the q-map, the c-map, and a pair of signals followed through depth."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.layers import as_layer
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import handler
from meanfield.support import validation


def q_map(activation, prior=None, q=1.0) -> Float[Array, "..."]:
    """Q(q): variance of the next layer's pre-activations, from this one's variance q >= 0.

    activation, prior: as for ``fixed_point``; everything broadcasts. Units: squared
    pre-activation. Raises TypeError or ValueError. Source: THEORY section 3.
    """
    layer = as_layer(activation, prior)
    q = validation.real("q", q, low=0.0)
    return pointwise(_variance, layer, q)


def c_map(activation, prior=None, *, c, q, q2=None) -> Float[Array, "..."]:
    """C(c): correlation of two signals one layer on, from their correlation and variances.

    c: -1 <= c <= 1. q: variance of the first signal, and of the second unless q2 > 0
    is given. Exactly 1 at c = 1 for equal variances. Raises TypeError or ValueError.
    Source: THEORY section 3.
    """
    layer = as_layer(activation, prior)
    c = validation.real("c", c, low=-1.0, high=1.0)
    q = validation.real("q", q, low=0.0, low_open=True)
    if q2 is None:
        return pointwise(_equal_correlation, layer, c, q)
    q2 = validation.real("q2", q2, low=0.0, low_open=True)
    return pointwise(_correlation, layer, c, q, q2)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Trajectory:
    """Statistics by layer; shape (depth + 1, ...), entry 0 the start.

    q: variance of the first signal; q2: of the second. c: their correlation;
    one_minus_c: 1 - c, to full relative accuracy where the variances are equal.
    """

    q: Float[Array, "layers ..."]
    c: Float[Array, "layers ..."]
    q2: Float[Array, "layers ..."]
    one_minus_c: Float[Array, "layers ..."]


def propagate(activation, prior=None, *, q0=1.0, c0=0.5, depth=50, q2=None) -> Trajectory:
    """Follow two signals through ``depth`` layers.

    q0, c0: variance and correlation at the start; q2: the second signal's variance if
    it is another. All broadcast with the prior. With an ``AsymmetricPrior`` the result
    is a ``PopulationDynamics``, sampled, whose fields q, c and q2 mean the same.
    Raises TypeError or ValueError. Source: THEORY section 3.
    """
    if (other := handler(prior, "propagate")) is not None:
        return other(activation, prior, q0=q0, c0=c0, depth=depth, q2=q2)
    layer = as_layer(activation, prior)
    depth = validation.count("depth", depth, low=0)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    if q2 is None:
        result = pointwise(_equal_trajectory, layer, q0, c0, static=(depth,))
    else:
        q2 = validation.real("q2", q2, low=0.0, low_open=True)
        result = pointwise(_trajectory, layer, q0, q2, c0, static=(depth,))
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), result)


def _variance(layer, q):
    positive = q > 0
    value = layer.variance_map(jnp.where(positive, q, 1.0))
    value = jnp.where(positive, value, layer.variance_from_silence())
    return jnp.where(layer.is_valid() & (q >= 0), value, jnp.nan)


def _one_minus_c(layer, q, q_next, one_minus_c):
    """1 - C at equal variances: a multiple of 1 - c near 1, so that c = 1 is kept exactly."""
    return _within(layer.separation_map(q, one_minus_c) / q_next, 0.0, 2.0)


def _within(value, low, high):
    """``value`` clipped, with the derivatives of ``value``: at an end rounding does not decide them."""
    return value + jax.lax.stop_gradient(jnp.clip(value, low, high) - value)


def _equal_correlation(layer, c, q):
    value = 1 - _one_minus_c(layer, q, layer.variance_map(q), 1 - c)
    valid = layer.is_valid() & (jnp.abs(c) <= 1) & (q > 0)
    return jnp.where(valid, value, jnp.nan)


def _correlation(layer, c, q, q2):
    scale = jnp.sqrt(layer.variance_map(q) * layer.variance_map(q2))
    value = _within(layer.covariance_map(q, q2, c) / scale, -1.0, 1.0)
    valid = layer.is_valid() & (jnp.abs(c) <= 1) & (q > 0) & (q2 > 0)
    return jnp.where(valid, value, jnp.nan)


def _equal_trajectory(layer, q0, c0, depth):
    def step(state, _):
        q, one_minus_c = state
        q_next = layer.variance_map(q)
        state = q_next, _one_minus_c(layer, q, q_next, one_minus_c)
        return state, state

    _, (q, one_minus_c) = jax.lax.scan(step, (q0, 1 - c0), length=depth)
    q = jnp.concatenate([q0[None], q])
    c = jnp.concatenate([c0[None], 1 - one_minus_c])
    one_minus_c = jnp.concatenate([1 - c0[None], one_minus_c])
    return _valid_trajectory(layer, Trajectory(q, c, q, one_minus_c))


def _trajectory(layer, q0, q2, c0, depth):
    def step(state, _):
        state = (
            layer.variance_map(state[0]),
            layer.variance_map(state[1]),
            _correlation(layer, state[2], *state[:2]),
        )
        return state, state

    _, states = jax.lax.scan(step, (q0, q2, c0), length=depth)
    q, q2, c = (jnp.concatenate([s[None], x]) for s, x in zip((q0, q2, c0), states, strict=True))
    return _valid_trajectory(layer, Trajectory(q, c, q2, 1 - c))


def _valid_trajectory(layer, trajectory):
    return jax.tree.map(lambda x: jnp.where(layer.is_valid(), x, jnp.nan), trajectory)
