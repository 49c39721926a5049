r"""Gaussian moments of piecewise linear activations (hard tanh, ReLU6), by one integral over an angle.

With kinks k_i at which the slope jumps by s_i, Price's theorem gives the second derivative of the
covariance: dE phi'(u1) phi'(u2) / dc = sqrt(q1 q2) sum_ij s_i s_j p(k_i, k_j), with p the density of
the pair. Over theta = arccos c it is smooth, so that integrating twice (by parts: once, against
cos t - cos theta) takes a few dozen nodes and cancels nothing. Source: Price 1958.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.quadrature import fitted_slope_excess, gauss_legendre, nodes_at
from meanfield.dual.slopes import angle_of, fading_sum, meeting_of_jumps, with_slope
from meanfield.numerics.pytrees import register_dataclass

_NODES = 96
_PIECE_NODES = 24  # for a bell's middle


@register_dataclass
@dataclass(frozen=True, eq=False)
class PiecewiseLinear(Dual):
    """phi with slopes[0] below kinks[0], slopes[i] between kinks[i-1] and kinks[i], and so on.

    origin: phi(0).
    """

    origin: float
    kinks: tuple[float, ...] = field(metadata={"static": True})
    slopes: tuple[float, ...] = field(metadata={"static": True})

    is_tabulable = True
    is_closed_form = False

    @property
    def _jumps(self) -> np.ndarray:
        return np.diff(self.slopes)

    def _scaled_kinks(self, q):
        return jnp.asarray(self.kinks) / jnp.sqrt(q)

    def _shares(self, q):
        """Probability of every piece."""
        far = jnp.full_like(q, 40.0)  # erfc is 0 there, and has derivatives, which at infinity it has not
        ends = jnp.stack([-far, *(k / jnp.sqrt(2 * q) for k in self.kinks), far])
        a, b = ends[:-1], ends[1:]
        erf, erfc = jax.scipy.special.erf, jax.scipy.special.erfc
        inner = erf(b) - erf(a)
        return jnp.where(a > 0, erfc(a) - erfc(b), jnp.where(b < 0, erfc(-b) - erfc(-a), inner)) / 2

    def _mean_slope(self, q):
        return jnp.sum(jnp.asarray(self.slopes) * self._shares(q))

    def mean_shift(self, q):
        return self._near_or_far(q, self._mean_shift_near, lambda moments: moments[0])

    def _mean_shift_near(self, q):
        root = jnp.sqrt(q)
        a = jnp.abs(jnp.asarray(self.kinks)) / root
        density = jnp.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)
        beyond = jax.scipy.special.erfc(a / np.sqrt(2)) / 2
        return root * jnp.sum(self._jumps * (density - a * beyond))

    def mean(self, q):
        return self.origin + self.mean_shift(q)

    def variance(self, q):
        # arccos has no derivative at c = 1.
        near = lambda q: self._covariance(q, q, 1.0, 0.0, 1.0)
        return self._near_or_far(q, near, lambda moments: moments[1] - moments[0] ** 2)

    def _near_or_far(self, q, near, far):
        """``near(q)`` where kinks are out in the tails, ``far`` of the moments piece by piece beyond."""
        edge = max(k * k for k in self.kinks)
        use_far = q > edge
        return jnp.where(use_far, far(self._far_moments(jnp.where(use_far, q, edge + 1.0))), near(q))

    def _far_moments(self, q):
        """E f and E f^2 of f = phi - phi(0), for sqrt(q) above all kinks: hardly anything cancels."""
        root = jnp.sqrt(q)
        knots = np.array(self.kinks)
        pieces = [_straight(*ends, self.kinks, self.slopes) for ends in itertools.pairwise(knots)]
        u, w, f = (np.concatenate(x) if pieces else np.zeros(0) for x in zip(*pieces, strict=True))
        density = jnp.exp(-(u**2) / (2 * q)) / (root * np.sqrt(2 * np.pi))
        first, second = jnp.sum(w * f * density), jnp.sum(w * f * f * density)
        for sign, kink, slope in ((-1, knots[0], self.slopes[0]), (1, knots[-1], self.slopes[-1])):
            z = sign * kink / root
            share = jax.scipy.special.erfc(z / np.sqrt(2)) / 2
            bell = jnp.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            end = _rise(kink, self.kinks, self.slopes) - slope * kink  # the line's value at 0
            first += end * share + sign * slope * root * bell
            second += (
                end**2 * share + 2 * sign * end * slope * root * bell + slope**2 * q * (share + z * bell)
            )
        return first, second

    def covariance(self, q1, q2, c):
        return _covariance((self, q1, q2), 1 - c)

    def separation(self, q, one_minus_c):
        return _separation((self, q), one_minus_c)

    def _covariance(self, q1, q2, c, theta, sign):
        a, b = self._scaled_kinks(q1), sign * self._scaled_kinks(q2)
        t, w = _nodes(theta, np.pi / 2, _scale(a, b))
        lever = 2 * jnp.sin((t + theta) / 2) * jnp.sin((t - theta) / 2)
        bend = jnp.sum(w * self._bending(a, b, t) * lever)
        return jnp.sqrt(q1 * q2) * (c * self._mean_slope(q1) * self._mean_slope(q2) + bend)

    def slope_moment(self, q):
        return jnp.sum(jnp.asarray(self.slopes) ** 2 * self._shares(q))

    def slope_excess(self, q):
        u, w = nodes_at(q, sorted({*self.kinks, 0.0}), 1.0)
        right = u > 0
        slopes = jnp.asarray(self.slopes, u.dtype)
        at_zero = (slopes[np.searchsorted(self.kinks, 0.0, side=side)] for side in ("right", "left"))
        value: Any = jnp.where(right, *at_zero) * u
        for kink, jump in zip(self.kinks, self._jumps, strict=True):
            value += jump * jax.nn.relu((u - kink) * np.sign(kink))
        return fitted_slope_excess(q, u, w, value, slopes[jnp.searchsorted(jnp.asarray(self.kinks), u)])

    def chord(self, q, theta):
        a = self._scaled_kinks(q)
        t, w = _nodes(0.0, theta, _scale(a, a))
        # (cos t - cos theta) / (1 - cos theta)
        lever = jnp.sin((theta + t) / 2) * jnp.sin((theta - t) / 2) / jnp.sin(theta / 2) ** 2
        return self.slope_moment(q) - jnp.sum(w * self._bending(a, a, t) * lever)

    def slope_covariance(self, q, theta):
        a = self._scaled_kinks(q)
        t, w = _nodes(0.0, theta, _scale(a, a))
        return self.slope_moment(q) - jnp.sum(w * self._bending(a, a, t))

    def _bending(self, a, b, t):
        """sqrt(q1 q2) sin t sum_ij s_i s_j p(k_i, k_j) at correlation cos t: minus d/dt of E phi' phi'."""
        apart, together = (a[:, None] - b) ** 2, (a[:, None] + b) ** 2
        s2, c2 = jnp.sin(t / 2) ** 2, jnp.cos(t / 2) ** 2
        weights = np.outer(self._jumps, self._jumps)[..., None] / (2 * np.pi)
        exponent = (apart[..., None] * c2 + together[..., None] * s2) / (8 * s2 * c2)
        return fading_sum(weights, exponent)


def _acute(x):
    """(theta, sign): c < 0 is c > 0 of (u1, -u2); then theta lies in [0, pi/2]."""
    return angle_of(jnp.minimum(x, 2 - x)), jnp.where(x > 1, -1.0, 1.0).astype(x.dtype)


def _covariance_at(z, x):
    dual, q1, q2 = z
    return dual._covariance(q1, q2, 1 - x, *_acute(x))


def _slope_at(z, x):
    """d/dx of the covariance: - sqrt(q1 q2) E phi'(u1) phi'(u2)."""
    dual, q1, q2 = z
    theta, sign = _acute(x)
    a, b = dual._scaled_kinks(q1), sign * dual._scaled_kinks(q2)
    t, w = _nodes(theta, np.pi / 2, _scale(a, b))
    bend = sign * jnp.sum(w * dual._bending(a, b, t))
    return -jnp.sqrt(q1 * q2) * (dual._mean_slope(q1) * dual._mean_slope(q2) + bend)


def _bend_at(z, x):
    dual, q1, q2 = z
    products = np.outer(dual._jumps, dual._jumps)
    return jnp.sqrt(q1 * q2) * meeting_of_jumps(dual._scaled_kinks(q1), dual._scaled_kinks(q2), products, x)


def _separation_at(z, x):
    dual, q = z
    acute = _from_together(x, lambda safe: q * safe * dual.chord(q, angle_of(safe)), 0.0)
    return jnp.where(x > 1, dual.variance(q) - dual._covariance(q, q, 1 - x, *_acute(x)), acute)


def _separation_slope_at(z, x):
    # At the nodes of the separation itself, whose exponentials serve here too.
    dual, q = z
    near = lambda safe: q * dual.slope_covariance(q, angle_of(safe))
    acute = _from_together(x, near, q * dual.slope_moment(q))
    return jnp.where(x > 1, -_slope_at((dual, q, q), x), acute)


def _from_together(x, fn, at_0):
    """fn(x) for 0 < x <= 1, ``at_0`` elsewhere."""
    between = (x > 0) & (x <= 1)
    return jnp.where(between, fn(jnp.where(between, x, 0.5)), at_0)


_covariance = with_slope(_covariance_at, with_slope(_slope_at, _bend_at))
_separation = with_slope(
    _separation_at, with_slope(_separation_slope_at, lambda z, x: -_bend_at((z[0], z[1], z[1]), x))
)


def _rise(u, kinks, slopes):
    """phi(u) - phi(0)."""
    knots = np.sort(np.clip(np.array([0.0, u, *kinks]), min(0.0, u), max(0.0, u)))
    middles = (knots[:-1] + knots[1:]) / 2
    return np.sign(u) * np.sum(np.diff(knots) * np.array(slopes)[np.searchsorted(kinks, middles)])


def _straight(low, high, kinks, slopes):
    """Nodes between two kinks, their weights, and phi - phi(0) there."""
    x, w = gauss_legendre(_PIECE_NODES)
    u = low + (high - low) * x
    return u, (high - low) * w, np.array([_rise(v, kinks, slopes) for v in u])


def _scale(a, b):
    """Well below the angle at which kinks begin to see each other, the smallest distance of two."""
    apart = jnp.abs(a[:, None] - b)
    # A kink's distance to itself is 0 up to rounding, and not a distance.
    apart = jnp.where(apart > 1e-9 * (jnp.abs(a)[:, None] + jnp.abs(b)), apart, 1.0)
    return 0.3 * jax.lax.stop_gradient(jnp.minimum(jnp.min(apart), 1.0))


def _nodes(low, high, scale):
    """Gauss-Legendre nodes and weights in asinh(t / scale) on (low, high)."""
    x, w = (jnp.asarray(v) for v in gauss_legendre(_NODES))
    start = jnp.arcsinh(low / scale)
    reach = jnp.arcsinh(high / scale) - start
    y = start + reach * x
    return scale * jnp.sinh(y), w * reach * scale * jnp.cosh(y)
