"""Closed-form moments of erf, sin, cos, snake and polynomials, and which activations have one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from meanfield import activations
from meanfield.activations.activation import Activation
from meanfield.dual.base import Dual
from meanfield.dual.homogeneous import Homogeneous1, Homogeneous2
from meanfield.dual.piecewise_linear import PiecewiseLinear
from meanfield.numerics.pytrees import register_dataclass


def _ratio(f, x):
    """f(x) / x for an odd f with f'(0) = 1, finite and differentiable at 0."""
    safe = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 1.0, f(safe) / safe)


_NEAR = 0.3  # where sixteen terms of a series in x^2 reach the rounding error


def _cubic_series(x, coefficient):
    """x^3 sum_k coefficient(k) x^2k, for x < ``_NEAR``."""
    y = jnp.where(x < _NEAR, x * x, 0.0)
    total = jnp.zeros_like(x)
    for k in range(15, -1, -1):
        total = total * y + coefficient(k)
    return x**3 * total


@register_dataclass
@dataclass(frozen=True, eq=False)
class Erf(Dual):
    """phi = erf (Williams 1997)."""

    is_tabulable = True

    def mean(self, q):
        return jnp.zeros_like(q)

    def variance(self, q):
        q = jnp.minimum(q, jnp.finfo(q.dtype).max / 8)  # 4 q must not overflow; it is 1 long before
        return 2 / np.pi * jnp.arctan(2 * q / jnp.sqrt(1 + 4 * q))

    def covariance(self, q1, q2, c):
        # arcsin as an arctangent: nothing cancels at c = 1 and large q.
        rest = 1 + 2 * (q1 + q2) + 4 * q1 * q2 * (1 - c) * (1 + c)
        return 2 / np.pi * jnp.arctan(2 * c * jnp.sqrt(q1 * q2 / rest))

    def separation(self, q, one_minus_c):
        obtuse = one_minus_c > 1
        x = jnp.where(obtuse, 1.0, one_minus_c)
        acute = 2 / np.pi * jnp.arctan(q * x * self._chord_ratio(q, x / 2, 1 - x))
        return jnp.where(obtuse, self.variance(q) - self.covariance(q, q, 1 - one_minus_c), acute)

    def slope_moment(self, q):
        return 4 / np.pi / jnp.sqrt(1 + 4 * q)

    def slope_excess(self, q):
        x = 2 * q / jnp.sqrt(1 + 4 * q)
        near = _cubic_series(x, lambda k: (-1) ** k / (2 * k + 3))
        return 2 / np.pi * jnp.where(x < _NEAR, near, x - jnp.arctan(x))

    def chord(self, q, theta):
        s2 = jnp.sin(theta / 2) ** 2
        ratio = self._chord_ratio(q, s2, jnp.cos(theta))
        return 2 / np.pi * ratio * _ratio(jnp.arctan, 2 * q * ratio * s2)

    @staticmethod
    def _chord_ratio(q, s2, c):
        """arcsin x - arcsin cx is the arctangent of this times 2 q s2, with s2 = (1 - c) / 2."""
        one, other = jnp.sqrt(1 + 4 * q), jnp.sqrt(1 + 4 * q + 16 * q * q * s2 * (1 - s2))
        return 4 * (1 - s2) * (1 + 2 * q) ** 2 / ((other + c * one) * (one * other + 4 * q * q * c))

    def slope_covariance(self, q, theta):
        c = jnp.cos(theta)
        return 4 / np.pi / jnp.sqrt((1 + 2 * q) ** 2 - 4 * q * q * c * c)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Sin(Dual):
    """phi = sin."""

    is_tabulable = True

    def mean(self, q):
        return jnp.zeros_like(q)

    def variance(self, q):
        return -jnp.expm1(-2 * q) / 2

    def covariance(self, q1, q2, c):
        return _half_exponentials(q1, q2, c, jnp.subtract)

    def separation(self, q, one_minus_c):
        return -(1 + jnp.exp(-q * (2 - one_minus_c))) / 2 * jnp.expm1(-q * one_minus_c)

    def slope_moment(self, q):
        return (1 + jnp.exp(-2 * q)) / 2

    def slope_excess(self, q):
        # q cosh q - sinh q, times exp(-q)
        near = jnp.exp(-q) * _cubic_series(q, lambda k: (2 * k + 2) / math.factorial(2 * k + 3))
        return jnp.where(q < _NEAR, near, q * self.slope_moment(q) - self.variance(q))

    def chord(self, q, theta):
        s2 = jnp.sin(theta / 2) ** 2
        return (1 + jnp.exp(-2 * q * (1 - s2))) / 2 * _ratio(lambda x: -jnp.expm1(-x), 2 * q * s2)

    def slope_covariance(self, q, theta):
        return _half_exponentials(q, q, jnp.cos(theta), jnp.add)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Cos(Dual):
    """phi = cos."""

    is_tabulable = True

    def mean(self, q):
        return jnp.exp(-q / 2)

    def mean_shift(self, q):
        return jnp.expm1(-q / 2)

    def variance(self, q):
        return jnp.expm1(-q) ** 2 / 2

    def covariance(self, q1, q2, c):
        # exp(-(q1 + q2)/2) (cosh x - 1)
        x = c * jnp.sqrt(q1 * q2)
        size = jnp.where(x < 0, -x, x)  # jnp.abs has no second derivative of its square at 0
        return jnp.exp(size - (q1 + q2) / 2) * jnp.expm1(-size) ** 2 / 2

    def separation(self, q, one_minus_c):
        return jnp.expm1(-q * (2 - one_minus_c)) * jnp.expm1(-q * one_minus_c) / 2

    def slope_moment(self, q):
        return -jnp.expm1(-2 * q) / 2

    def chord(self, q, theta):
        s2 = jnp.sin(theta / 2) ** 2
        return -jnp.expm1(-2 * q * (1 - s2)) / 2 * _ratio(lambda x: -jnp.expm1(-x), 2 * q * s2)

    def slope_covariance(self, q, theta):
        return _half_exponentials(q, q, jnp.cos(theta), jnp.subtract)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Snake(Dual):
    """phi(x) = x + (1 - cos k x) / k with k = 2 alpha; x, which is odd, and cos, even, are uncorrelated."""

    is_tabulable = True

    alpha: Any

    def _wave(self, q):
        """k, and the variance of k u."""
        k = 2 * jnp.asarray(self.alpha, q.dtype)
        return k, k * k * q

    def mean(self, q):
        k, wave = self._wave(q)
        return -Cos().mean_shift(wave) / k

    def variance(self, q):
        k, wave = self._wave(q)
        return q + Cos().variance(wave) / k**2

    def covariance(self, q1, q2, c):
        (k, wave1), (_, wave2) = self._wave(q1), self._wave(q2)
        return c * jnp.sqrt(q1 * q2) + Cos().covariance(wave1, wave2, c) / k**2

    def separation(self, q, one_minus_c):
        k, wave = self._wave(q)
        return q * one_minus_c + Cos().separation(wave, one_minus_c) / k**2

    def slope_moment(self, q):
        return 1 + Cos().slope_moment(self._wave(q)[1])

    def slope_excess(self, q):
        k, wave = self._wave(q)
        bent = Cos().variance(wave) + Cos().mean_shift(wave) ** 2
        return q * Cos().slope_moment(wave) - bent / k**2  # x adds as much to both sides

    def chord(self, q, theta):
        return 1 + Cos().chord(self._wave(q)[1], theta)

    def slope_covariance(self, q, theta):
        return 1 + Cos().slope_covariance(self._wave(q)[1], theta)


def _half_exponentials(q1, q2, c, combine):
    """exp(-(q1 + q2)/2) times cosh or sinh of c sqrt(q1 q2), without overflow."""
    x = c * jnp.sqrt(q1 * q2)
    mid = (q1 + q2) / 2
    return combine(jnp.exp(x - mid), jnp.exp(-x - mid)) / 2


@register_dataclass
@dataclass(frozen=True, eq=False)
class Polynomial(Dual):
    """phi(x) = sum of coefficients[k] x^k, through its Hermite expansion."""

    coefficients: tuple

    def _hermite(self, q):
        """a_n(q) sqrt(n!) for n = 0..degree: phi(sqrt(q) z) = sum a_n He_n(z)."""
        degree = len(self.coefficients) - 1
        root = jnp.sqrt(q)
        total = [jnp.zeros_like(q) for _ in range(degree + 1)]
        for k, coefficient in enumerate(self.coefficients):
            basis = np.polynomial.hermite_e.poly2herme([0] * k + [1])
            for n in range(k % 2, k + 1, 2):
                total[n] = total[n] + coefficient * float(basis[n]) * root**k
        norms = [math.factorial(n) ** 0.5 for n in range(degree + 1)]
        return [a * norm for a, norm in zip(total, norms, strict=True)]

    def mean(self, q):
        return self._hermite(q)[0]

    def mean_shift(self, q):
        return Polynomial((0.0, *self.coefficients[1:])).mean(q)

    def variance(self, q):
        return sum((a * a for a in self._hermite(q)[1:]), jnp.zeros_like(q))

    def covariance(self, q1, q2, c):
        pairs = zip(self._hermite(q1)[1:], self._hermite(q2)[1:], strict=True)
        return sum((a1 * a2 * c**n for n, (a1, a2) in enumerate(pairs, 1)), jnp.zeros_like(c))

    def slope_moment(self, q):
        slope = Polynomial(tuple(n * a for n, a in enumerate(self.coefficients))[1:] or (0.0,))
        return sum((a * a for a in slope._hermite(q)), jnp.zeros_like(q))

    def slope_excess(self, q):
        bent = sum(((n - 1) * a * a for n, a in enumerate(self._hermite(q)[1:], 1)), jnp.zeros_like(q))
        return bent - self.mean_shift(q) ** 2

    def separation(self, q, one_minus_c):
        return q * one_minus_c * self._chord(q, 1 - one_minus_c)

    def chord(self, q, theta):
        return self._chord(q, jnp.cos(theta))

    def _chord(self, q, c):
        powers = total = jnp.zeros_like(c)
        for n, a in enumerate(self._hermite(q)[1:]):
            powers = powers + c**n
            total = total + a * a * powers
        return total / q


_CLOSED_FORMS: dict[Callable, Callable[..., Dual]] = {
    activations.linear.fn: lambda: Homogeneous1(1.0, 1.0),
    activations.relu.fn: lambda: Homogeneous1(0.0, 1.0),
    activations.abs.fn: lambda: Homogeneous1(-1.0, 1.0),
    activations.leaky_relu().fn: lambda slope: Homogeneous1(slope, 1.0),
    activations.squared_relu.fn: lambda: Homogeneous2(0.0, 1.0),
    activations.erf.fn: Erf,
    activations.sin.fn: Sin,
    activations.cos.fn: Cos,
    activations.snake().fn: Snake,
    activations.hard_tanh.fn: lambda: PiecewiseLinear(0.0, (-1.0, 1.0), (0.0, 1.0, 0.0)),
    activations.relu6.fn: lambda: PiecewiseLinear(0.0, (0.0, 6.0), (0.0, 1.0, 0.0)),
    activations.polynomial(1.0).fn: lambda *coefficients: Polynomial(coefficients),
}


def closed_form(activation: Activation) -> Dual | None:
    """The closed-form dual of an activation, or None."""
    make = _CLOSED_FORMS.get(activation.program)
    return make(*activation.params) if make else None
