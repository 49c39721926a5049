"""One layer, and many: the q-map, the c-map, and a pair of signals followed through depth."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.layers import Residual, Transformer, as_layer
from meanfield.layers.attention import Tokens
from meanfield.layers.schedules import is_schedule, runs_of
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import handler
from meanfield.support import text, validation

_DEPTH = 50


def q_map(activation, prior=None, q=1.0) -> Float[Array, "..."]:
    """Q(q): variance of the next layer's pre-activations, from this one's variance q >= 0.

    activation, prior: as for ``fixed_point``; everything broadcasts. Units: squared
    pre-activation. Raises TypeError or ValueError. Source: THEORY section 3.
    Warns with ``QuadratureWarning`` where the moments of a function of yours are not resolved
    (not inside a trace, where nobody can look).
    """
    layer = as_layer(activation, prior)
    q = validation.real("q", q, low=0.0)
    layer.look_at(q)
    return pointwise(_variance, layer, q)


def c_map(activation, prior=None, *, c, q, q2=None) -> Float[Array, "..."]:
    """C(c): correlation of two signals one layer on, from their correlation and variances.

    c: -1 <= c <= 1. q: variance of the first signal, and of the second unless q2 > 0
    is given. Exactly 1 at c = 1 for equal variances, unless the layer parts equal signals.
    Raises TypeError or ValueError. Source: THEORY section 3.
    """
    layer = as_layer(activation, prior)
    c = validation.real("c", c, low=-1.0, high=1.0)
    q = validation.real("q", q, low=0.0, low_open=True)
    layer.look_at(q)
    if q2 is None:
        return pointwise(_equal_correlation, layer, c, q)
    q2 = validation.real("q2", q2, low=0.0, low_open=True)
    layer.look_at(q2)
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
    prior, is one too, and they may be of any kinds: a stem, blocks, a head.

    With an ``AsymmetricPrior`` the result is a ``PopulationDynamics``, sampled, whose fields q, c and q2
    mean the same. Raises TypeError or ValueError. Source: THEORY section 3.
    """
    if (other := handler(prior, "propagate")) is not None:
        depth = _DEPTH if depth is None else depth
        return other(activation, prior, q0=q0, c0=c0, depth=depth, q2=q2)
    runs = _runs(activation, prior, depth)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    if q2 is None:
        q, one_minus_c = _through(_equal_states, runs, (q0, 1 - jnp.asarray(c0)))
        return Trajectory(
            q, jnp.concatenate([jnp.broadcast_to(c0, q.shape[1:])[None], 1 - one_minus_c[1:]]), q, one_minus_c
        )
    q2 = validation.real("q2", q2, low=0.0, low_open=True)
    q, q2, c = _through(_states, runs, (q0, q2, c0))
    return Trajectory(q, c, q2, 1 - c)


def gradient_growth(activation, prior=None, *, q0=1.0, depth=None) -> Float[Array, "layers ..."]:
    """Squared norm of a gradient at every layer over that at the last; shape (depth + 1, ...).

    Entry 0 is the start. It is the product of chi_perp over the layers that follow, by which tangents grow
    too. Arguments and errors as for ``propagate``. Source: Schoenholz et al. 2017.
    """
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    _, log_growth = _through(_gradient_states, _runs(activation, prior, depth), (q0, 0.0))
    return jnp.exp(log_growth[-1] - log_growth)


def propagate_tokens(block: Transformer, *, q0=1.0, c0=0.5, depth=_DEPTH) -> Trajectory:
    """Follow the tokens of a sequence through ``depth`` blocks: their variance, and a pair's correlation.

    q0 > 0 and 0 <= c0 <= 1: of the tokens at the start, all pairs alike; they broadcast with the block's
    numbers. Entry 0 is the start. Behind post-norms q = 1. Raises TypeError or ValueError.
    Source: THEORY section 12.
    """
    if not isinstance(block, Transformer):
        raise TypeError(f"block must be a meanfield.Transformer, got {block!r}: for layers use propagate")
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=0.0, high=1.0)
    depth = validation.count("depth", depth, low=0)
    found = pointwise(_token_states, block, q0, c0, static=(depth,), optimization=2)
    q, one_minus_c = (jnp.moveaxis(x, -1, 0) for x in found)
    return Trajectory(q, 1 - one_minus_c, q, one_minus_c)


def _token_states(block, q0, c0, depth):
    def step(state, _):
        state = block.block(state)
        return state, state

    start = Tokens(q0, q0 * (1 - c0))
    _, states = jax.lax.scan(step, start, None, length=depth)
    q, delta = (jnp.concatenate([s[None], x]) for s, x in zip(start, states, strict=True))
    return tuple(jnp.where(block.is_valid(), x, jnp.nan) for x in (q, _within(delta / q, 0.0, 1.0)))


@register_dataclass
@dataclass(frozen=True, eq=False)
class Flow:
    """Statistics along a network of infinitely many layers; shape (steps + 1, ...), entry 0 the start.

    t: share of the network that lies behind, from 0 to 1. q: variance. c: correlation; one_minus_c: 1 - c.
    growth: of the squared norm of a tangent since t = 0.
    """

    t: Float[Array, "steps ..."]
    q: Float[Array, "steps ..."]
    c: Float[Array, "steps ..."]
    one_minus_c: Float[Array, "steps ..."]
    growth: Float[Array, "steps ..."]


def infinite_depth(branch, *, scale=1.0, q0=1.0, c0=0.5, steps=256) -> Flow:
    r"""Signals in a residual network of L layers x + scale / sqrt(L) f(x) as L goes to infinity.

    branch: the layer f, which ends in weights. scale, q0, c0: broadcast with its parameters. steps: of the
    method of Runge and Kutta; the error falls like steps^-4.

    The statistics obey dK/dt = scale^2 F(K), F the map of the branch, and tangents
    d log g/dt = scale^2 chi_perp: both stay finite at any depth. Differentiable.
    Raises TypeError or ValueError. Source: Hayou et al. 2021, arXiv:2010.12859; THEORY section 12.
    """
    layer = Residual(branch, scale=scale).branch
    scale = validation.real("scale", scale)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    steps = validation.count("steps", steps)
    found = pointwise(_flow, layer, scale, q0, c0, static=(steps,), optimization=2)
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), found)


def _flow(layer, scale, q0, c0, steps):
    def rate(state):
        q, delta, _ = state
        flow = layer.variance_map(q), layer.separation_map(q, _within(delta / q, 0.0, 2.0)), layer.tangent(q)
        return tuple(scale**2 / steps * x for x in flow)

    def moved(state, slope, by):
        return tuple(x + by * dx for x, dx in zip(state, slope, strict=True))

    def step(state, _):
        first = rate(state)
        second = rate(moved(state, first, 0.5))
        third = rate(moved(state, second, 0.5))
        fourth = rate(moved(state, third, 1.0))
        slopes = zip(first, second, third, fourth, strict=True)
        state = moved(state, tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in slopes), 1.0)
        return state, state

    start = q0, q0 * (1 - c0), jnp.zeros_like(q0)
    _, states = jax.lax.scan(step, start, None, length=steps)
    q, delta, log_growth = (jnp.concatenate([x[None], later]) for x, later in zip(start, states, strict=True))
    one_minus_c = delta / q
    flow = Flow(jnp.linspace(0, 1, steps + 1), q, 1 - one_minus_c, one_minus_c, jnp.exp(log_growth))
    return jax.tree.map(lambda x: jnp.where(layer.is_valid(), x, jnp.nan), flow)


def _runs(activation, prior, depth) -> list:
    """(layer, depth) one after another; depth None: the layer's leaves have layers along their last axis."""
    if is_schedule(activation, prior):
        return [(run, None) for run in runs_of(activation, prior, depth)]
    depth = validation.count("depth", _DEPTH if depth is None else depth, low=0)
    return [(as_layer(activation, prior), depth)]


def _through(states, runs, start):
    """Every state on the way from the start, one a layer along the first axis."""
    parts: list[list] = []
    for layer, depth in runs:
        found = pointwise(states, layer, *start, static=(depth,), stacked=depth is None, optimization=2)
        found = [jnp.moveaxis(x, -1, 0) for x in found]
        layer.look_at(found[0])
        parts.append([x[bool(parts) :] for x in found])
        start = tuple(x[-1] for x in found)
    return tuple(_joined(pieces) for pieces in zip(*parts, strict=True))


def _joined(pieces):
    shape = jnp.broadcast_shapes(*(x.shape[1:] for x in pieces))
    return jnp.concatenate([jnp.broadcast_to(x, x.shape[:1] + shape) for x in pieces])


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


def _equal_states(layer, q0, one_minus_c0, depth):
    def step(layer, q, one_minus_c):
        q_next = layer.variance_map(q)
        return q_next, _one_minus_c(layer, q, q_next, one_minus_c)

    return _followed(step, layer, (q0, one_minus_c0), depth)


def _states(layer, q0, q2, c0, depth):
    def step(layer, q, q2, c):
        return layer.variance_map(q), layer.variance_map(q2), _correlation(layer, c, q, q2)

    return _followed(step, layer, (q0, q2, c0), depth)


def _gradient_states(layer, q0, log_growth0, depth):
    def step(layer, q, log_growth):
        return layer.variance_map(q), log_growth + jnp.log(layer.tangent(q))

    return _followed(step, layer, (q0, log_growth0), depth)


def _followed(step, layer, start, depth):
    """The start and what every layer makes of it, stacked; depth None: ``layer`` holds one after another."""

    def advance(state, own):
        state = step(layer if own is None else own, *state)
        return state, state

    own = None if depth is not None else layer  # at one point a layer's number is the only axis
    _, states = jax.lax.scan(advance, start, own, length=depth)
    found = (jnp.concatenate([s[None], x]) for s, x in zip(start, states, strict=True))
    valid = jnp.all(layer.is_valid())
    return tuple(jnp.where(valid, x, jnp.nan) for x in found)
