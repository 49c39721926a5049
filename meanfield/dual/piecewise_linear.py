r"""Gaussian moments of piecewise linear activations (hard tanh, ReLU6), by one integral over an angle.

With kinks k_i at which the slope jumps by s_i, Price's theorem gives the second derivative of the
covariance: dE phi'(u1) phi'(u2) / dc = sqrt(q1 q2) sum_ij s_i s_j p(k_i, k_j), with p the density of
the pair. Over theta = arccos c it is smooth, so that integrating twice (by parts: once, against
cos t - cos theta) takes a few dozen nodes and cancels nothing. Source: Price 1958.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.quadrature import gauss_legendre
from meanfield.pytrees import register_dataclass

_NODES = 96


@register_dataclass
@dataclass(frozen=True, eq=False)
class PiecewiseLinear(Dual):
    """phi with slopes[0] below kinks[0], slopes[i] between kinks[i-1] and kinks[i], and so on.

    origin: phi(0).
    """

    origin: float
    kinks: tuple[float, ...] = field(metadata={"static": True})
    slopes: tuple[float, ...] = field(metadata={"static": True})

    @property
    def _jumps(self) -> np.ndarray:
        return np.diff(self.slopes)

    def _shares(self, q):
        """Probability of every piece."""
        far = jnp.full_like(q, jnp.inf)
        ends = jnp.stack([-far, *(k / jnp.sqrt(2 * q) for k in self.kinks), far])
        a, b = ends[:-1], ends[1:]
        erf, erfc = jax.scipy.special.erf, jax.scipy.special.erfc
        inner = erf(b) - erf(a)
        return jnp.where(a > 0, erfc(a) - erfc(b), jnp.where(b < 0, erfc(-b) - erfc(-a), inner)) / 2

    def _mean_slope(self, q):
        return jnp.sum(jnp.asarray(self.slopes) * self._shares(q))

    def mean_shift(self, q):
        root = jnp.sqrt(q)
        a = jnp.abs(jnp.asarray(self.kinks)) / root
        density = jnp.exp(-(a**2) / 2) / np.sqrt(2 * np.pi)
        beyond = jax.scipy.special.erfc(a / np.sqrt(2)) / 2
        return root * jnp.sum(self._jumps * (density - a * beyond))

    def mean(self, q):
        return self.origin + self.mean_shift(q)

    def variance(self, q):
        # arccos has no derivative at c = 1.
        return self._covariance(q, q, 1.0, 0.0, 1.0)

    def covariance(self, q1, q2, c):
        # c < 0 is c > 0 of (u1, -u2); then theta lies in [0, pi/2].
        sign = jnp.where(c < 0, -1.0, 1.0).astype(c.dtype)
        return self._covariance(q1, q2, c, jnp.arccos(jnp.minimum(jnp.abs(c), 1.0)), sign)

    def _covariance(self, q1, q2, c, theta, sign):
        kinks = jnp.asarray(self.kinks)
        a, b = kinks / jnp.sqrt(q1), sign * kinks / jnp.sqrt(q2)
        t, w = _nodes(theta, np.pi / 2, _scale(a, b))
        lever = 2 * jnp.sin((t + theta) / 2) * jnp.sin((t - theta) / 2)
        bend = jnp.sum(w * self._bending(a, b, t) * lever)
        return jnp.sqrt(q1 * q2) * (c * self._mean_slope(q1) * self._mean_slope(q2) + bend)

    def slope_moment(self, q):
        return jnp.sum(jnp.asarray(self.slopes) ** 2 * self._shares(q))

    def chord(self, q, theta):
        a = jnp.asarray(self.kinks) / jnp.sqrt(q)
        t, w = _nodes(0.0, theta, _scale(a, a))
        # (cos t - cos theta) / (1 - cos theta)
        lever = jnp.sin((theta + t) / 2) * jnp.sin((theta - t) / 2) / jnp.sin(theta / 2) ** 2
        return self.slope_moment(q) - jnp.sum(w * self._bending(a, a, t) * lever)

    def slope_covariance(self, q, theta):
        a = jnp.asarray(self.kinks) / jnp.sqrt(q)
        t, w = _nodes(0.0, theta, _scale(a, a))
        return self.slope_moment(q) - jnp.sum(w * self._bending(a, a, t))

    def _bending(self, a, b, t):
        """sqrt(q1 q2) sin t sum_ij s_i s_j p(k_i, k_j) at correlation cos t: minus d/dt of E phi' phi'."""
        apart, together = (a[:, None] - b) ** 2, (a[:, None] + b) ** 2
        s2, c2 = jnp.sin(t / 2) ** 2, jnp.cos(t / 2) ** 2
        weights = np.outer(self._jumps, self._jumps) / (2 * np.pi)
        exponent = (apart[..., None] * c2 + together[..., None] * s2) / (8 * s2 * c2)
        return jnp.sum(weights[..., None] * jnp.exp(-exponent), axis=(0, 1))


def _scale(a, b):
    """Well below the angle at which kinks begin to see each other, the smallest distance of two."""
    apart = jnp.abs(a[:, None] - b)
    apart = jnp.where(apart > 1e-6, apart, 1.0)
    return 0.3 * jax.lax.stop_gradient(jnp.minimum(jnp.min(apart), 1.0))


def _nodes(low, high, scale):
    """Gauss-Legendre nodes and weights in asinh(t / scale) on (low, high)."""
    x, w = (jnp.asarray(v) for v in gauss_legendre(_NODES))
    start = jnp.arcsinh(low / scale)
    reach = jnp.arcsinh(high / scale) - start
    y = start + reach * x
    return scale * jnp.sinh(y), w * reach * scale * jnp.cosh(y)
