r"""Where the variance goes: the fixed points of q -> Q(q) and their basins.

Newton's method alone picks whichever fixed point is near, stable or not. Here the
growth log Q(q)/q is first laid out on a grid of log q (shared by all priors: the
Gaussian moments do not depend on the prior), which shows every fixed point and the
side from which it is reached. An orbit on which Q increases ends at the next fixed
point in its direction; elsewhere the map itself is iterated until it does. Only then
is the fixed point refined, inside its bracket.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual import shipped_lines
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import implicit_root
from meanfield.status import Status

_PLAIN_STEPS = 2000
_SECANT_STEPS = 4  # from where a cubic has the extremum: then its value is exact to rounding
_CLOSE = 1e-3  # in log q: near enough to a fixed point that the map contracts to


def _log_grid(dtype) -> np.ndarray:
    """log q: three nodes an octave between 2^-24 and 2^24, fewer outside."""
    octaves = np.concatenate([np.arange(-100, -24, 2.0), np.arange(-24, 24, 1 / 3), np.arange(24, 101, 2.0)])
    lowest = np.log2(float(jnp.finfo(dtype).tiny)) + 20
    return np.log(2.0) * np.concatenate([[lowest], octaves[octaves > lowest]])


@register_dataclass
@dataclass(frozen=True, eq=False)
class GrowthScan:
    """What the growth at many variances is made of; the first axis of all arrays counts these.

    log_q: the nodes. rows: ``growth_rows`` of the layer there. error: relative, of the moments.
    """

    log_q: jax.Array
    rows: Any
    error: jax.Array

    @classmethod
    def of(cls, layer, dtype) -> "GrowthScan":
        if (known := _known_scan(layer, dtype)) is not None:
            return known
        log_q = jnp.asarray(_log_grid(dtype), dtype)
        q = jnp.exp(log_q)
        layer = jax.lax.stop_gradient(layer)
        return cls(log_q, layer.growth_rows(q), _cautious(jax.vmap(layer.growth_error)(q), jnp))

    def growth(self, layer):
        """log Q(q)/q at the nodes, its slope in log q, and its noise: a smaller one tells nothing."""
        ratio, slope = layer.growth_from(self.rows)
        safe = jnp.where(ratio > 0, ratio, 1.0)
        growth = jnp.where(ratio > 0, jnp.log(safe), -jnp.inf)
        growth = jnp.where(jnp.isnan(ratio), jnp.inf, growth)
        kind = jnp.finfo(growth.dtype)
        underflow = 256 * kind.tiny / (safe * jnp.exp(self.log_q))
        noise = jnp.maximum(self.error, 32 * kind.eps + underflow)
        return growth, jnp.where(ratio > 0, slope / safe, 0.0), noise


_CAUTION = 8  # an estimated error may be too small by chance


def _cautious(error, xp):
    """An estimate of the error that holds: the worst of each node and its neighbours, with a margin."""
    beside = xp.pad(xp.nan_to_num(error, nan=xp.inf), 1, mode="edge")
    return _CAUTION * xp.maximum(xp.maximum(beside[:-2], beside[2:]), beside[1:-1])


def _known_scan(layer, dtype) -> GrowthScan | None:
    """The scan as numbers, where the package comes with the moments: then nothing of it is computed again."""
    lines = [shipped_lines(activation) for activation, dual in layer.moments() if not dual.is_closed_form]
    if not (layer.is_sum_of_moments and lines and all(lines)):
        return None
    layer = layer.with_moments(iter(lines))
    log_q = _log_grid(dtype)
    q = np.exp(log_q)
    error = _cautious(np.max(layer.moment_errors(q), axis=0), np)
    return GrowthScan(*(jnp.asarray(x, dtype) for x in (log_q, layer.growth_rows(q), error)))


def _refined(layer, scan):
    """(log q, growth, noise) with one more node in every cell: the growth's extremum, if it has one there.

    From the cubic through values and slopes. Two fixed points about to merge lie on
    both sides of such an extremum, usually within one cell.
    """
    x, (growth, slope, noise) = scan.log_q, scan.growth(layer)
    width = jnp.diff(x)
    f0, f1, d0, d1 = growth[:-1], growth[1:], slope[:-1] * width, slope[1:] * width
    a, b = 2 * (f0 - f1) + d0 + d1, 3 * (f1 - f0) - 2 * d0 - d1
    # Roots of 3 a s^2 + 2 b s + d0, in the form that survives a = 0.
    root = jnp.sqrt(jnp.maximum(b * b - 3 * a * d0, 0.0))
    first = -d0 / jnp.where(b + root == 0, jnp.inf, b + root)
    second = -d0 / jnp.where(b - root == 0, jnp.inf, b - root)
    inside = lambda s: (s > 0) & (s < 1) & jnp.isfinite(s)
    s = jnp.where(inside(first), first, jnp.where(inside(second), second, 0.5))
    value = f0 + s * (d0 + s * (b + s * a))
    noise_between = jnp.maximum(noise[:-1], noise[1:])
    trusted = _slopes_agree(x, growth, slope, noise)
    # A cubic overshoots where its slopes are steep; a true extremum lies between slopes of two signs.
    turns = (d0 * d1 < 0) & (jnp.abs(d0) > noise[:-1]) & (jnp.abs(d1) > noise[1:])
    trusted = trusted[:-1] & trusted[1:] & turns
    s, value = jnp.where(trusted, s, 0.5), jnp.where(trusted, value, (f0 + f1) / 2)
    between = x[:-1] + s * width
    # Which side of 0 the one nearest to it lies on is more than the cubic can tell.
    nearest = jnp.argmin(jnp.where(trusted, jnp.abs(value), jnp.inf))
    at, exact = _extremum(layer, x[nearest], slope[nearest], between[nearest], x[nearest + 1])
    known = trusted[nearest]
    between = between.at[nearest].set(jnp.where(known, at, between[nearest]))
    value = value.at[nearest].set(jnp.where(known, exact, value[nearest]))
    noise_between = jnp.where(trusted, noise_between, jnp.inf)  # in the middle nothing is known
    value = jnp.where(jnp.isnan(value), f0, value)  # beside an infinite node
    between = between, value, noise_between
    return tuple(_interleave(*pair) for pair in zip((x, growth, noise), between, strict=True))


def _extremum(layer, low, slope_at_low, start, high):
    """(log q, growth) where the growth's slope vanishes between low and high, from a good guess."""

    def growth(x):
        q = jnp.exp(x)
        return jnp.log1p(layer.variance_map(q) / q - 1)

    def step(_, state):
        before, slope_before, x, _, _ = state
        value, slope = jax.jvp(growth, (x,), (jnp.ones_like(x),))
        rise = slope - slope_before
        new = x - slope * (x - before) / jnp.where(rise == 0, jnp.inf, rise)
        return x, slope, jnp.clip(new, low, high), x, value

    state = low, slope_at_low, start, start, jnp.zeros_like(start)
    *_, at, value = jax.lax.fori_loop(0, _SECANT_STEPS, step, state)
    return at, value


def _slopes_agree(x, growth, slope, noise):
    """Whether the slope at a node fits its neighbours: it suffers first where moments are not resolved."""
    secant = jnp.diff(growth) / jnp.diff(x)
    before, after = (jnp.concatenate(pair) for pair in ((secant[:1], secant), (secant, secant[-1:])))
    steepest = jnp.maximum(jnp.abs(before), jnp.abs(after))
    width = jnp.diff(x, prepend=x[0] - 1)
    return jnp.abs(slope - (before + after) / 2) <= steepest + 4 * noise / width


def _interleave(nodes, between):
    pairs = jnp.stack([nodes[:-1], between], axis=1).ravel()
    return jnp.concatenate([pairs, nodes[-1:]])


def _signs(growth, noise, far):
    """Sign of the growth at the nodes, 0 where it is lost in noise, 1 where it overflowed.

    far: the growth Q/q of unbounded variances, NaN where there is none. It decides beyond the last
    node that tells anything; where it is 1, what that node said.
    """
    sign = jnp.where(jnp.isnan(growth), 1.0, jnp.sign(growth))
    sign = jnp.where(jnp.isfinite(growth) & (jnp.abs(growth) <= noise), 0.0, sign)
    eps = jnp.finfo(growth.dtype).eps
    end = jnp.where(jnp.abs(far - 1) > 32 * eps, jnp.sign(far - 1), 0.0)
    last = jnp.where((sign[-1] == 0) & jnp.isfinite(far), end, sign[-1])
    return sign.at[-1].set(last).astype(jnp.int8)


def variance_fixed_point(layer, q0):
    """(q*, status) reached from q0. Scalars; q* is finite and safe to use at every status.

    Derivatives of q* with respect to the layer follow from the implicit function
    theorem; where there is no finite fixed point they are zero.
    """
    affine = layer.affine()
    if affine is not None:
        growth, offset = affine
        return affine_fixed_point(growth, offset, q0)
    frozen_layer, start = jax.lax.stop_gradient((layer, q0))
    low, high, status, swinging = _bracket(frozen_layer, GrowthScan.of(frozen_layer, start.dtype), start)
    found = status == Status.CONVERGED
    q = _refine(layer, low, high, found, True)  # what signals are drawn to
    status = jnp.where(found, _judge(layer, q), status)
    status = jnp.where(swinging & (status == Status.CONVERGED), Status.MAX_STEPS, status)
    # Silence without bias stays silent, whatever louder signals do.
    silent = (q0 == 0) & (layer.variance_from_silence() == 0)
    status = jnp.where(silent, Status.VANISHING, status)
    return jnp.where(status == Status.MARGINAL, q0, q), status


def affine_fixed_point(growth, bias, q0):
    """(q*, status) from q0 of Q(q) = growth q + bias, as for the ReLU family (THEORY section 7). Scalars."""
    one = jnp.ones_like(q0)
    bias = bias + 0 * one
    eps = 4 * jnp.finfo(one.dtype).eps
    bounded = (growth < 1 - eps) & jnp.isfinite(bias)
    level = jnp.abs(growth - 1) <= eps
    status = jnp.where(
        bounded,
        jnp.where(bias > 0, Status.CONVERGED, Status.VANISHING),
        jnp.where(level & (bias == 0), Status.MARGINAL, Status.UNBOUNDED),
    )
    status = jnp.where((q0 == 0) & (bias == 0), Status.VANISHING, status)
    converged = status == Status.CONVERGED
    q = bias / jnp.where(converged, 1 - growth, 1.0)
    return jnp.where(converged, q, jnp.where(status == Status.MARGINAL, q0, 1.0)), status


def _bracket(layer, scan, q0):
    """(low, high, status, swinging): log q on both sides of the fixed point that q0 is
    attracted by; swinging if the orbit from q0 goes round it instead."""
    x, growth, noise = _refined(layer, scan)
    sign = _signs(growth, noise, layer.limit(False).growth)
    size = x.size
    index = jnp.arange(size, dtype=jnp.int32)
    rounding = 4 * jnp.finfo(x.dtype).eps * jnp.abs(x)
    drops = jnp.concatenate([jnp.zeros(1, bool), jnp.diff(growth + x) < -(noise + rounding)[1:]])
    log_map = lambda y: jnp.log(layer.variance_map(jnp.exp(y)))

    def next_at(mask, i):
        """The first node from i upwards where mask holds, or ``size``."""
        return jnp.min(jnp.where(mask & (index >= i), index, size))

    def last_at(mask, i):
        """The first node from i downwards where mask holds, or -1."""
        return jnp.max(jnp.where(mask & (index <= i), index, -1))

    def target(y, image):
        """Bracket of the next fixed point in the direction of the first step, and
        whether Q increases all the way there."""
        above = jnp.sum(x < y)
        below, above = jnp.maximum(above - 1, 0), jnp.minimum(above, size - 1)
        # Where the step is lost in rounding the nodes around tell its direction.
        ahead, behind = next_at(sign != 0, above), last_at(sign != 0, below)
        ahead_sign, behind_sign = sign[jnp.minimum(ahead, size - 1)], sign[jnp.maximum(behind, 0)]
        ahead_sign = jnp.where(ahead == size, behind_sign, ahead_sign)
        behind_sign = jnp.where(behind < 0, ahead_sign, behind_sign)
        upward = jnp.where(ahead_sign == behind_sign, ahead_sign > 0, image > y)
        up, down = next_at(sign < 0, above), last_at(sign > 0, below)
        none = jnp.where(upward, up == size, down < 0)
        end = jnp.where(upward, jnp.minimum(up, size - 1), jnp.maximum(down, 0))
        before = jnp.where(upward, last_at(sign != 0, end - 1), next_at(sign != 0, end + 1))
        before = jnp.clip(before, 0, size - 1)
        lost = jnp.abs(image - y) <= noise[above]  # then the fixed point may lie behind
        low = jnp.where(upward, jnp.where(lost, x[before], jnp.maximum(x[before], y)), x[end])
        high = jnp.where(upward, x[end], jnp.where(lost, x[before], jnp.minimum(x[before], y)))
        first, last = jnp.where(upward, below, end), jnp.where(upward, end, above)
        monotone = ~jnp.any(drops & (index > first) & (index <= last))
        return low, high, upward, none, monotone

    def step(state):
        # Everything is compiled once: the first round only finds where the orbit heads from its start.
        new, count = state[1], state[-1]
        new = jnp.where(count < 2, jnp.clip(new, x[0], x[-1]), new)
        image = log_map(new)
        return new, image, target(new, image), count + 1

    def roaming(state):
        y, image, (*_, monotone), count = state
        settled = monotone | (jnp.abs(image - y) <= _CLOSE) | ~jnp.isfinite(image)
        return (count == 0) | (from_zero & (count == 1)) | (~settled & (count <= _PLAIN_STEPS))

    # From zero the orbit starts with what the first layer makes of it.
    from_zero = q0 <= 0
    first = jnp.where(from_zero, x[0], jnp.log(jnp.where(from_zero, 1.0, q0)))
    unknown = first, first, jnp.zeros_like(from_zero), jnp.zeros_like(from_zero), jnp.zeros_like(from_zero)
    y, image, (low, high, upward, none, monotone), _ = jax.lax.while_loop(
        roaming, step, (first, first, unknown, 0)
    )

    # An orbit that closes in while Q falls there encloses its fixed point; one that
    # never does swings about the next fixed point in its direction.
    close = ~monotone & (jnp.abs(image - y) <= _CLOSE)
    reach = jnp.maximum(2 * jnp.abs(image - y), 1e-6)
    low, high = jnp.where(close, y - reach, low), jnp.where(close, y + reach, high)
    lost = none & ~close
    status = jnp.where(lost, jnp.where(upward, Status.UNBOUNDED, Status.VANISHING), Status.CONVERGED)
    swinging = ~lost & ~monotone & ~close
    flat = jnp.all(sign == 0)
    return low, high, jnp.where(flat, Status.MARGINAL, status), swinging


def _refine(layer, low, high, found, falling):
    """The fixed point between exp(low) and exp(high), by Newton's method in log q.

    A step that leaves the bracket is replaced by bisection. falling: whether the growth does, from the one to
    the other.
    """
    eps = jnp.finfo(low.dtype).eps
    low, high = jnp.where(found, low, -1.0), jnp.where(found, high, 1.0)
    start = (low + high) / 2

    def gap(x):
        q = jnp.exp(x)
        # Relative to q: the logarithm of the ratio would lose digits at small growth.
        return jnp.where(found, layer.variance_map(q) / q - 1, -x)

    def step(state):
        x, a, b, _, count = state
        value, slope = jax.jvp(gap, (x,), (jnp.ones_like(x),))
        right = (value > 0) == falling
        a, b = jnp.where(right, x, a), jnp.where(right, b, x)
        # Newton's method on log(1 + gap), which is straight where Q is a power of q.
        new = x - jnp.log1p(jnp.maximum(value, -0.999)) * (1 + value) / jnp.where(slope == 0, jnp.inf, slope)
        new = jnp.where((new >= a) & (new <= b), new, (a + b) / 2)
        # At the rounding error of the gap further steps only jitter, and its sign means nothing.
        new = jnp.where(jnp.abs(value) <= 4 * eps, x, new)
        change = jnp.abs(new - x)
        return new, a, b, change, count + 1

    def unfinished(state):
        x, _, _, change, count = state
        return (change > 2 * eps * jnp.maximum(1, jnp.abs(x))) & (count < 60)

    def solve(_, start):
        state = (start, low, high, jnp.full_like(start, jnp.inf), 0)
        return jax.lax.while_loop(unfinished, step, state)[0]

    x = implicit_root(gap, start, solve)
    return jnp.exp(x)


def _judge(layer, q):
    """Status of a fixed point, from its residual and its slope."""
    q = jax.lax.stop_gradient(q)
    layer = jax.lax.stop_gradient(layer)
    image, slope = jax.jvp(layer.variance_map, (q,), (jnp.ones_like(q),))
    eps = jnp.finfo(q.dtype).eps
    solved = jnp.abs(image - q) <= 256 * eps * q * jnp.maximum(1.0, jnp.abs(slope))
    status = jnp.where(jnp.abs(slope) > 1 + 1e3 * eps, Status.UNSTABLE, Status.CONVERGED)
    return jnp.where(solved, status, Status.MAX_STEPS)


def variance_fixed_points(layer, most):
    """(q, status), shape (most,): every positive fixed point in ascending order, then NaN."""
    frozen_layer = jax.lax.stop_gradient(layer)
    scan = GrowthScan.of(frozen_layer, layer.dtype())
    x, growth, noise = _refined(frozen_layer, scan)
    sign = _signs(growth, noise, frozen_layer.limit(False).growth)
    index = jnp.arange(sign.size, dtype=jnp.int32)
    last = jax.lax.cummax(jnp.where(sign != 0, index, -1))[:-1]  # the node before that tells anything
    crossing = (sign[1:] != 0) & (last >= 0) & (sign[1:] != sign[last])
    (cells,) = jnp.nonzero(crossing, size=most, fill_value=-1)
    found = cells >= 0
    ends = x[last[cells]], x[cells + 1], found, (sign[last[cells]] > 0) | ~found
    q = jax.vmap(lambda *ends: _refine(layer, *ends))(*ends)
    status = jax.vmap(lambda q: _judge(layer, q))(q)
    return q, status, found
