r"""Closed-form moments of the homogeneous activations of degree 1 and 2.

phi(x) = a |x|^p for x < 0 and b |x|^p for x > 0 up to sign: the ReLU family
(p = 1, phi = a min(x, 0) + b max(x, 0)) and its squares (p = 2). Besides being
activations of their own they are what any activation looks like at very large or
very small variance. Sources: Cho & Saul 2009 (arc-cosine kernels); THEORY section 7.
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.slopes import angle_of, per_sine, with_slope
from meanfield.numerics.polynomials import horner
from meanfield.numerics.pytrees import register_dataclass


def _sin_minus_t_cos(t, xp=jnp):
    """sin t - t cos t to full relative accuracy on [0, pi]."""
    series = t**3 * horner([(-1) ** k * (2 * k + 2) / math.factorial(2 * k + 3) for k in range(9)], t * t)
    return xp.where(t < 0.7, series, xp.sin(t) - t * xp.cos(t))


def _bend(theta):
    """(sin t - t cos t) / (1 - cos t), which rises from 0 to 1 on [0, pi/2]."""
    return _sin_minus_t_cos(theta) / (2 * jnp.sin(theta / 2) ** 2)


# scale times sin t - t cos t, whose derivative over x = 1 - cos t is scale times t.
_lens = with_slope(
    lambda scale, x: scale * _sin_minus_t_cos(angle_of(x)),
    with_slope(lambda scale, x: scale * angle_of(x), per_sine),
)


def _tilt(theta):
    """theta (1 + 2 cos^2 theta) - 3 sin theta cos theta, accurate to theta = 0."""
    x = 2 * theta
    series = x**5 * horner([(-1) ** k * (k + 1) / math.factorial(2 * k + 5) for k in range(9)], x * x)
    return jnp.where(theta < 0.5, series, theta * (2 + jnp.cos(x)) - 1.5 * jnp.sin(x))


# The same of the above: its derivative is 4 times that of the other.
_tilted = with_slope(
    lambda scale, x: scale * _tilt(angle_of(x)),
    lambda scale, x: _lens(4 * scale, x),
)


@functools.cache
def _inverse_bend_coefficients() -> tuple[float, ...]:
    """Coefficients p of theta = y p(y^2), the inverse of ``_bend`` on 0 <= y <= 1.

    The inverse is odd and analytic for |y| < pi/2, so interpolation at Chebyshev
    points of y^2 converges by a factor of 60 for each coefficient.
    """
    degree = 20
    x = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    y = np.sqrt((1 + x) / 2)
    theta = 1.5 * y
    for _ in range(8):
        gap = _sin_minus_t_cos(theta, np) - y * 2 * np.sin(theta / 2) ** 2
        theta = theta - gap / ((theta - y) * np.sin(theta))
    chebyshev = np.polynomial.chebyshev.Chebyshev.fit(y**2, theta / y, degree, domain=[0, 1])
    return tuple(float(c) for c in chebyshev.coef)


def _inverse_bend(y):
    coefficients = _inverse_bend_coefficients()
    x = 4 * y * y - 2  # twice the Chebyshev variable
    first = jnp.zeros_like(y)
    second = jnp.zeros_like(y)
    for coefficient in coefficients[:0:-1]:
        first, second = coefficient + x * first - second, first
    return y * (coefficients[0] + x / 2 * first - second)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Homogeneous1(Dual):
    """phi(x) = left * min(x, 0) + right * max(x, 0): the ReLU family."""

    left: jax.Array | float
    right: jax.Array | float

    closed_angle = True

    @property
    def pieces(self):
        return self.left, self.right

    def is_straight(self):
        return jnp.asarray(self.left == self.right)

    @property
    def _power(self):
        return (self.left**2 + self.right**2) / 2

    @property
    def _break(self):
        return (self.right - self.left) ** 2 / (2 * np.pi)

    def mean(self, q):
        return (self.right - self.left) * jnp.sqrt(q / (2 * np.pi))

    def variance(self, q):
        return q * (self._power - self._break)

    def covariance(self, q1, q2, c):
        hinge = self._break * (np.pi * c - 1) + _lens(self._break, 1 - c)
        return jnp.sqrt(q1 * q2) * (hinge + self.left * self.right * c)

    def separation(self, q, one_minus_c):
        return q * (self._power * one_minus_c - _lens(self._break, one_minus_c))

    def slope_moment(self, q):
        return self._power + jnp.zeros_like(q)

    def slope_excess(self, q):
        return jnp.zeros_like(q)

    def chord(self, q, theta):
        return self._power - self._break * _bend(theta)

    def slope_covariance(self, q, theta):
        return self._break * (np.pi - theta) + self.left * self.right

    def angle_at_chord(self, chord):
        """theta in [0, pi/2] at which the chord takes the given value (THEORY section 7)."""
        y = (self._power - chord) / self._break
        return _inverse_bend(jnp.clip(y, 0, 1))


@register_dataclass
@dataclass(frozen=True, eq=False)
class Homogeneous2(Dual):
    """phi(x) = left * x^2 for x < 0 and right * x^2 for x > 0."""

    left: jax.Array | float
    right: jax.Array | float

    @property
    def _power(self):
        return self.left**2 + self.right**2

    @property
    def _break(self):
        return (self.right - self.left) ** 2

    def mean(self, q):
        return q * (self.left + self.right) / 2

    def variance(self, q):
        return q * q * (1.5 * self._power - (self.left + self.right) ** 2 / 4)

    def covariance(self, q1, q2, c):
        second = np.pi * self._power * (1 + 2 * c * c) - _tilted(self._break, 1 - c)
        return q1 * q2 * (second / (2 * np.pi) - (self.left + self.right) ** 2 / 4)

    def separation(self, q, one_minus_c):
        x = one_minus_c
        return q * q * (self._power * x * (2 - x) + _tilted(self._break, x) / (2 * np.pi))

    def slope_moment(self, q):
        return 2 * q * self._power

    def chord(self, q, theta):
        s2 = jnp.sin(theta / 2) ** 2
        tilt = _tilt(theta) * self._break / (2 * np.pi * s2)
        return q / 2 * (4 * self._power * (1 - s2) + tilt)
