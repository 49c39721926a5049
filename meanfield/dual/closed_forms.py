"""Closed-form moments of erf, sin, cos and polynomials, and which activations have one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from meanfield import activations
from meanfield.activation import Activation
from meanfield.dual.base import Dual
from meanfield.dual.homogeneous import LinearPieces, QuadraticPieces
from meanfield.dual.piecewise_linear import PiecewiseLinear
from meanfield.pytrees import register_dataclass


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

    def mean(self, q):
        return jnp.zeros_like(q)

    def variance(self, q):
        return 2 / np.pi * jnp.arctan(2 * q / jnp.sqrt(1 + 4 * q))

    def covariance(self, q1, q2, c):
        x = 2 * c * jnp.sqrt(q1 * q2) / jnp.sqrt((1 + 2 * q1) * (1 + 2 * q2))
        return 2 / np.pi * jnp.arcsin(x)

    def slope_moment(self, q):
        return 4 / np.pi / jnp.sqrt(1 + 4 * q)

    def slope_excess(self, q):
        x = 2 * q / jnp.sqrt(1 + 4 * q)
        near = _cubic_series(x, lambda k: (-1) ** k / (2 * k + 3))
        return 2 / np.pi * jnp.where(x < _NEAR, near, x - jnp.arctan(x))

    def chord(self, q, theta):
        # arcsin x - arcsin cx as one arctangent, with 1 - c factored out of it.
        s2, c = jnp.sin(theta / 2) ** 2, jnp.cos(theta)
        one, other = jnp.sqrt(1 + 4 * q), jnp.sqrt(1 + 4 * q + 4 * q * q * (1 - c * c))
        ratio = 4 * (1 - s2) * (1 + 2 * q) ** 2 / ((other + c * one) * (one * other + 4 * q * q * c))
        return 2 / np.pi * ratio * _ratio(jnp.arctan, 2 * q * ratio * s2)

    def slope_covariance(self, q, theta):
        c = jnp.cos(theta)
        return 4 / np.pi / jnp.sqrt((1 + 2 * q) ** 2 - 4 * q * q * c * c)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Sin(Dual):
    """phi = sin."""

    def mean(self, q):
        return jnp.zeros_like(q)

    def variance(self, q):
        return -jnp.expm1(-2 * q) / 2

    def covariance(self, q1, q2, c):
        return _half_exponentials(q1, q2, c, jnp.subtract)

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

    def mean(self, q):
        return jnp.exp(-q / 2)

    def mean_shift(self, q):
        return jnp.expm1(-q / 2)

    def variance(self, q):
        return jnp.expm1(-q) ** 2 / 2

    def covariance(self, q1, q2, c):
        # exp(-(q1 + q2)/2) (cosh x - 1)
        x = c * jnp.sqrt(q1 * q2)
        edge = jnp.exp(jnp.abs(x) - (q1 + q2) / 2)
        return edge * jnp.expm1(-jnp.abs(x)) ** 2 / 2

    def slope_moment(self, q):
        return -jnp.expm1(-2 * q) / 2

    def chord(self, q, theta):
        s2 = jnp.sin(theta / 2) ** 2
        return -jnp.expm1(-2 * q * (1 - s2)) / 2 * _ratio(lambda x: -jnp.expm1(-x), 2 * q * s2)

    def slope_covariance(self, q, theta):
        return _half_exponentials(q, q, jnp.cos(theta), jnp.subtract)


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

    def chord(self, q, theta):
        c = jnp.cos(theta)
        powers = total = jnp.zeros_like(c)
        for n, a in enumerate(self._hermite(q)[1:]):
            powers = powers + c**n
            total = total + a * a * powers
        return total / q


_CLOSED_FORMS: dict[Callable, Callable[..., Dual]] = {
    activations.linear.fn: lambda: LinearPieces(1.0, 1.0),
    activations.relu.fn: lambda: LinearPieces(0.0, 1.0),
    activations.abs.fn: lambda: LinearPieces(-1.0, 1.0),
    activations.leaky_relu().fn: lambda slope: LinearPieces(slope, 1.0),
    activations.squared_relu.fn: lambda: QuadraticPieces(0.0, 1.0),
    activations.erf.fn: Erf,
    activations.sin.fn: Sin,
    activations.cos.fn: Cos,
    activations.hard_tanh.fn: lambda: PiecewiseLinear(0.0, (-1.0, 1.0), (0.0, 1.0, 0.0)),
    activations.relu6.fn: lambda: PiecewiseLinear(0.0, (0.0, 6.0), (0.0, 1.0, 0.0)),
    activations.polynomial(1.0).fn: lambda *coefficients: Polynomial(coefficients),
}


def closed_form(activation: Activation) -> Dual | None:
    """The closed-form dual of an activation, or None."""
    make = _CLOSED_FORMS.get(activation.fn)
    return make(*activation.params) if make else None
