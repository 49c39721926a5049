"""One layer, and many: the q-map, the c-map, and a pair of signals followed through depth."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.layers import as_layer
from meanfield.layers.schedules import is_schedule, stacked_layers
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import handler
from meanfield.support import text, validation

_DEPTH = 50


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

    def __repr__(self):
        if not hasattr(self.q, "shape"):  # inside a transformation leaves can be anything
            return f"{type(self).__name__}({self.q!r}, ...)"
        count, *shape = self.q.shape
        depth = count - 1
        layers = [*(n for n in _SHOWN if n < depth), depth]
        title = f"{type(self).__name__}, {depth} layers" + (f", shape {tuple(shape)}" if shape else "")
        fields = {name: getattr(self, name) for name in ("q", "c", "one_minus_c")}
        rows = [[str(n), *(text.span(x[n]) for x in fields.values())] for n in layers]
        return text.table(title, [["layer", "q", "c", "1 - c"], *rows])


_SHOWN = (0, 1, 2, 5, 10, 20, 50, 100)  # layers that are printed


def propagate(activation, prior=None, *, q0=1.0, c0=0.5, depth=None, q2=None) -> Trajectory:
    """Follow two signals through ``depth`` layers (default 50).

    q0, c0: variance and correlation at the start; q2: the second signal's variance if
    it is another. All broadcast with the prior. A list or tuple of priors is a schedule: the
    first is the first layer's, and so on, and their number is the depth; for an array of weight variances,
    ``[NormalPrior(w) for w in weight_vars]``. The priors are of one class. A list of layers, without a
    prior, is one too.

    With an ``AsymmetricPrior`` the result is a ``PopulationDynamics``, sampled, whose fields q, c and q2
    mean the same. Raises TypeError or ValueError. Source: THEORY section 3.
    """
    if (other := handler(prior, "propagate")) is not None:
        depth = _DEPTH if depth is None else depth
        return other(activation, prior, q0=q0, c0=c0, depth=depth, q2=q2)
    scheduled = is_schedule(activation, prior)
    if scheduled:
        layer, depth = stacked_layers(activation, prior, depth), None
    else:
        layer = as_layer(activation, prior)
        depth = validation.count("depth", _DEPTH if depth is None else depth, low=0)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    apply = functools.partial(pointwise, static=(depth,), stacked=scheduled, optimization=2)
    if q2 is None:
        result = apply(_equal_trajectory, layer, q0, c0)
    else:
        q2 = validation.real("q2", q2, low=0.0, low_open=True)
        result = apply(_trajectory, layer, q0, q2, c0)
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
    def step(layer, q, one_minus_c):
        q_next = layer.variance_map(q)
        return q_next, _one_minus_c(layer, q, q_next, one_minus_c)

    q, one_minus_c = _states(step, layer, (q0, 1 - c0), depth)
    c = jnp.concatenate([c0[None], 1 - one_minus_c[1:]])
    return _valid_trajectory(layer, Trajectory(q, c, q, one_minus_c))


def _trajectory(layer, q0, q2, c0, depth):
    def step(layer, q, q2, c):
        return layer.variance_map(q), layer.variance_map(q2), _correlation(layer, c, q, q2)

    q, q2, c = _states(step, layer, (q0, q2, c0), depth)
    return _valid_trajectory(layer, Trajectory(q, c, q2, 1 - c))


def _states(step, layer, start, depth):
    """The start and what every layer makes of it, stacked; depth None: ``layer`` holds one after another."""

    def advance(state, own):
        state = step(layer if own is None else own, *state)
        return state, state

    own = None if depth is not None else layer  # at one point a layer's number is the only axis
    _, states = jax.lax.scan(advance, start, own, length=depth)
    return tuple(jnp.concatenate([s[None], x]) for s, x in zip(start, states, strict=True))


def _valid_trajectory(layer, trajectory):
    return jax.tree.map(lambda x: jnp.where(jnp.all(layer.is_valid()), x, jnp.nan), trajectory)
