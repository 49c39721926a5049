"""Where on the critical line the bias variance has a given value."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.polynomials import cubic, horner
from meanfield.numerics.roots import implicit_root

_MOST = 4  # crossings that are told apart
_CLOSE = 1e-3  # in log q: what is nearer to a root of Newton's law than this is at one


class Node(NamedTuple):
    """The prior that makes a variance critical.

    contraction: 1 - Q'(q). bias_slope: d bias_var / d log q along the line.
    """

    weight_var: jax.Array
    bias_var: jax.Array
    contraction: jax.Array
    bias_slope: jax.Array

    @property
    def attracts(self):
        """Whether the variance is a stable fixed point."""
        return (self.contraction > 0) & (self.contraction < 2)


def node_at(layer, q) -> Node:
    """What makes q critical: weight variance 1/chi_perp, and the bias variance that keeps q.

    From q chi_perp - Q(q), in which nothing cancels at small q. layer: of weight variance 1,
    without bias.
    """
    both = lambda q: (layer.slope_excess(q), layer.tangent(q))
    (excess, chi_perp), (d_excess, d_chi_perp) = jax.jvp(both, (q,), (jnp.ones_like(q),))
    bias_var, contraction = excess / chi_perp, (d_excess - q * d_chi_perp) / chi_perp
    bias_slope = q * (d_excess - bias_var * d_chi_perp) / chi_perp
    return Node(1 / chi_perp, bias_var, contraction, bias_slope)


def rounding(q):
    """Below this, bias_var / q and the contraction have no sign: phi is as good as straight."""
    eps = jnp.finfo(q.dtype).eps
    return 64 * eps * (eps + jnp.minimum(jnp.sqrt(q), 1.0))


class Found(NamedTuple):
    """A point of the critical line. at_zero: its end at q = 0, for which log_q stands.

    marginal: every q is one, without bias. attracts: whether the variance is stable there.
    """

    log_q: jax.Array
    exists: jax.Array
    attracts: jax.Array
    at_zero: jax.Array
    marginal: jax.Array


def searched(layer, bias_var) -> Found:
    """The point with the least weight variance at this bias variance, stable ones first.

    log_q has the derivatives of a root with respect to all that it depends on.
    """
    frozen, target = jax.lax.stop_gradient((layer, bias_var))
    x = jnp.asarray(_log_grid(target.dtype), target.dtype)
    grid = jax.vmap(lambda x: node_at(frozen, jnp.exp(x)))(x)
    noise = _noise(layer, x, grid)

    brackets = _brackets(x, grid, noise, target)
    roots, weight_var, attracts, crossed = jax.vmap(lambda *b: _root(frozen, target, *b))(*brackets)
    ends, end_attracts, marginal = _end(x, grid, noise, target)
    exists = jnp.append(crossed, ends)
    attracts = jnp.append(attracts, end_attracts) & exists
    wanted = jnp.where(jnp.any(attracts), attracts, exists)
    best = jnp.argmin(jnp.where(wanted, jnp.append(weight_var, grid.weight_var[0]), jnp.inf))

    some, is_end = jnp.any(exists), best == _MOST
    start = jnp.append(roots, jnp.where(marginal, 0.0, x[0]))[best]
    log_q = _differentiable(layer, bias_var, start, some & ~is_end)
    return Found(log_q, some, attracts[best], is_end & ~marginal, is_end & marginal)


def _log_grid(dtype) -> np.ndarray:
    """log q: first what stands for 0, then as far as moments are above rounding.

    Closest between 1e-12 and 1e8, where activations bend.
    """
    double = jnp.finfo(dtype).bits >= 64
    zero, low, high = (1e-40, 1e-26, 1e20) if double else (1e-30, 1e-10, 1e12)
    decades = np.concatenate([np.arange(-26, -12, 0.5), np.arange(-12, 8, 1 / 8), np.arange(8, 20.1, 0.5)])
    near = (decades >= np.log10(low) - 1e-9) & (decades <= np.log10(high) + 1e-9)
    return np.log(10.0) * np.concatenate([[np.log10(zero)], decades[near]])


def _noise(layer, x, grid):
    """What bias_var / q and the contraction may be by rounding alone, at the nodes.

    Where phi(0) is not 0, phi(u) - phi(0) keeps no digits at small u.
    """
    q = jnp.exp(x)
    eps = jnp.finfo(x.dtype).eps
    origin = jnp.abs(jax.lax.stop_gradient(layer.activation(jnp.zeros_like(x))))
    lost = 8 * eps * origin * jnp.sqrt(grid.weight_var / q)
    return rounding(q) + lost * (lost + jnp.minimum(jnp.sqrt(q), 1.0))


def _brackets(x, grid, noise, target):
    """(low, high, rising, found) of where the line crosses ``target``, in log q; shape (_MOST,) each."""
    excess = grid.bias_var - target
    # Without bias, rounding is no crossing: such a node has the sign of the one before.
    lost = (target == 0) & (jnp.abs(grid.bias_var) <= noise * jnp.exp(x))
    sign = jnp.where(lost | jnp.isnan(excess), 0.0, jnp.sign(excess))
    told = jax.lax.cummax(jnp.where(sign != 0, jnp.arange(x.size), 0))
    before, after = told[:-1], told[1:]
    crosses = sign[before] * sign[after] < 0
    middle, bent = _extrema(x, excess, grid.bias_slope)
    # Two crossings in one cell lie on both sides of an extremum.
    twice = (sign[:-1] * sign[1:] > 0) & (sign[1:] * bent < 0)
    starts, ends = (jnp.concatenate(v) for v in ((x[before], x[:-1], middle), (x[after], middle, x[1:])))
    rising = jnp.concatenate([sign[before] < 0, sign[:-1] < 0, sign[1:] > 0])
    (index,) = jnp.nonzero(jnp.concatenate([crosses, twice, twice]), size=_MOST, fill_value=-1)
    return starts[index], ends[index], rising[index], index >= 0


def _extrema(x, value, slope):
    """(where, value) of the extremum in every cell of the cubic through values and slopes; NaN if none."""
    width = jnp.diff(x)
    d0, d1 = slope[:-1] * width, slope[1:] * width
    coefficients = cubic(value[:-1], value[1:], d0, d1)
    b, a = coefficients[2:]
    # It has one alone where the slopes differ in sign: a root of 3 a s^2 + 2 b s + d0, as survives a = 0.
    root = jnp.sqrt(jnp.maximum(b * b - 3 * a * d0, 0.0))
    s = -d0 / (b + jnp.where(d0 > 0, -root, root))
    inside = (d0 * d1 < 0) & (s > 0) & (s < 1)
    s = jnp.where(inside, s, 0.5)
    return x[:-1] + s * width, jnp.where(inside, horner(coefficients, s), jnp.nan)


def _root(layer, target, low, high, rising, wanted):
    """(log q, weight_var, whether it attracts, whether it is one) of a crossing of ``target``.

    By Newton's method in log q; a step that leaves the bracket is replaced by bisection.
    """
    low, high = jnp.where(wanted, low, -1.0), jnp.where(wanted, high, 1.0)
    eps = jnp.finfo(low.dtype).eps

    def step(state):
        x, low, high, *_, count = state
        node = node_at(layer, jnp.exp(x))
        excess = node.bias_var - target
        below = (excess < 0) == rising
        low, high = jnp.where(below, x, low), jnp.where(below, high, x)
        newton = excess / jnp.where(node.bias_slope == 0, jnp.inf, node.bias_slope)
        new = jnp.where((x - newton >= low) & (x - newton <= high), x - newton, (low + high) / 2)
        # Where Q is straight to rounding nothing attracts, whatever sign is left.
        attracts = node.attracts & (node.contraction > rounding(jnp.exp(x)))
        return new, low, high, jnp.abs(new - x), jnp.abs(newton), node.weight_var, attracts, count + 1

    def unfinished(state):
        x, _, _, change, *_, count = state
        return wanted & (change > 2 * eps * jnp.maximum(1, jnp.abs(x))) & (count < 60)

    blank = jnp.full_like(low, jnp.inf)
    state = ((low + high) / 2, low, high, blank, blank, blank, jnp.zeros_like(wanted), 0)
    x, _, _, _, newton, weight_var, attracts, _ = jax.lax.while_loop(unfinished, step, state)
    # A bracket whose end is an extremum of a cubic may hold no crossing.
    is_one = wanted & (newton <= _CLOSE) & (weight_var > 0)
    return x, weight_var, attracts, is_one


def _end(x, grid, noise, target):
    """(whether the line has an end at q = 0 with this bias variance, whether it attracts, whether all is it).

    It has one without bias, where bias_var / q tends to 0 from above. The first node that
    tells anything says so, and whether small variances are drawn to it.
    """
    share = grid.bias_var / jnp.exp(x)
    told = (jnp.abs(share) > noise) & (jnp.abs(grid.contraction) > noise)
    marginal = ~jnp.any(told)
    first = jnp.argmax(told)
    small = jnp.finfo(x.dtype).eps ** 0.5
    from_above = ~told[0] & (share[first] > 0) & (share[first] <= small)
    ends = (target == 0) & (grid.weight_var[0] > 0) & (marginal | from_above)
    return ends, marginal | grid.attracts[first], marginal


def _differentiable(layer, bias_var, log_q, is_root):
    """log_q, with the derivatives of a root."""

    def gap(x):
        return jnp.where(is_root, node_at(layer, jnp.exp(x)).bias_var - bias_var, x - log_q)

    return implicit_root(gap, log_q)
