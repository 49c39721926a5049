r"""Gaussian moments of smooth activations that vary on a short length over their whole reach, as sin(30 x).

A panel rule has a node for every few of its wave lengths in both of its variables, and there are too many.
Here there is one variable. With phi(sqrt(q) z) = sum_n a_n He_n(z) / sqrt(n!), the covariance of a pair is
sum_n a_n^2 c^n (Mehler 1866), and the chord sum_k T_k c^k / q with T_k = sum_{n > k} a_n^2: nothing cancels,
for no term is negative. The a_n come from equidistant nodes, which converge faster than any power for a
smooth phi under a Gaussian (Trefethen & Weideman 2014). What the series leaves out is known exactly:
sum_n n a_n^2 = q E phi'^2.
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.quadrature import QuadratureDual
from meanfield.numerics.compiling import compiled
from meanfield.numerics.pytrees import register_dataclass

_TERMS = 4096
_REACH = 13.0  # standard deviations: exp(-z^2/4) beyond is rounding error
_STEP = 1 / 40
_NODES = round(_REACH / _STEP)  # on each side


@register_dataclass
@dataclass(frozen=True, eq=False)
class HermiteDual(QuadratureDual):
    """Gaussian moments of a smooth ``activation`` by its Hermite series."""

    is_tabulable = False  # the chord falls by so much that an interpolation loses its last digits

    def _rule(self, q, more: float = 1, landmarks=None):
        """Equidistant nodes; others, between them, where ``more`` are asked for."""
        z = jnp.asarray(_STEP * (np.arange(-_NODES, _NODES) + (0.5 if more == 1 else 0.25)), q.dtype)
        weight = jnp.exp(-(z**2) / 2)
        return jnp.sqrt(q) * z, weight / jnp.sum(weight)

    def nodes(self, q):
        z = _STEP * (np.arange(-_NODES, _NODES) + 0.5)
        weight = np.exp(-(z**2) / 2)
        return np.sqrt(q)[:, None] * z, np.tile(weight / np.sum(weight), (len(q), 1))

    def line_error(self, q):
        return super().error(q)

    def error(self, q):
        total = self.slope_moment(q)
        left_out = jnp.abs(self.chord(q, jnp.zeros_like(q)) - total)
        return jnp.maximum(self.line_error(q), left_out / jnp.maximum(total, jnp.finfo(q.dtype).tiny))

    def _coefficients(self, q):
        """a_1, a_2, ..., from the odd and the even part of phi on one side of the origin."""
        u, weight = (x[_NODES:] for x in self._rule(q))
        functions, envelope = _hermite_functions(q.dtype)
        mean = self.mean(q)
        above, below = self.activation(u) - mean, self.activation(-u) - mean
        scaled = weight / envelope
        odd, even = functions[::2] @ (scaled * (above - below)), functions[1::2] @ (scaled * (above + below))
        return jnp.stack([odd, even], axis=1).ravel()

    def chord_at(self, q):
        tails = jnp.cumsum(self._coefficients(q)[::-1] ** 2)[::-1] / q
        return lambda theta: _power_series(tails, jnp.cos(theta))

    def separation(self, q, one_minus_c):
        tails = jnp.cumsum(self._coefficients(q)[::-1] ** 2)[::-1]
        return one_minus_c * _power_series(tails, 1 - one_minus_c)

    def chord(self, q, theta):
        return self.chord_at(q)(theta)

    def covariance(self, q1, q2, c):
        return c * _power_series(self._coefficients(q1) * self._coefficients(q2), c)


def _hermite_functions(dtype):
    """(He_n(z) exp(-z^2/4) / sqrt(n!) for n = 1, 2, ..., the same for n = 0), at the nodes z > 0.

    No q is in them: for many q they are made once.
    """
    z = jnp.asarray(_STEP * (np.arange(_NODES) + 0.5), dtype)
    envelope = jnp.exp(-(z**2) / 4)

    def step(pair, n):
        last, before = pair
        new = (z * last - jnp.sqrt(n - 1) * before) / jnp.sqrt(n)
        return (new, last), new

    orders = jnp.arange(1, _TERMS + 1, dtype=dtype)
    return jax.lax.scan(step, (envelope, jnp.zeros_like(envelope)), orders)[1], envelope


def _power_series(coefficients, c):
    """sum_k coefficients[k] c^k, with k = width i + j: no power is taken more than once."""
    width = math.isqrt(_TERMS)
    orders = jnp.arange(width)
    sign = jnp.where((c < 0) & (orders % 2 == 1), -1.0, 1.0).astype(c.dtype)
    low, high = (jnp.abs(c) ** (step * orders).astype(c.dtype) for step in (1, width))
    return high @ coefficients.reshape(width, width) @ (sign * low)


# --- at many points, where nothing but phi has to be compiled ----------------------------


def chord_tails(activation, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T_k / q, shape (n, terms); what the series leaves out of the chord, relative, shape (n,)) in NumPy.

    The chord at an angle is sum_k T_k c^k / q (``chords``).
    """
    z = _STEP * (np.arange(_NODES) + 0.5)
    functions, envelope = _on_host()
    u = np.sqrt(q)[:, None] * np.concatenate([-z[::-1], z])
    value, slope = (np.asarray(x) for x in _value_and_slope(activation, jnp.asarray(u)))
    weight = np.exp(-(z**2) / 2)
    weight /= 2 * np.sum(weight)
    both = np.concatenate([weight[::-1], weight])
    value = value - (value @ both)[:, None]
    below, above = value[:, _NODES - 1 :: -1], value[:, _NODES:]
    scaled = weight / envelope
    odd, even = (scaled * (above - below)) @ functions[::2].T, (scaled * (above + below)) @ functions[1::2].T
    coefficients = np.stack([odd, even], axis=2).reshape(len(q), -1)
    tails = np.cumsum(coefficients[:, ::-1] ** 2, axis=1)[:, ::-1] / q[:, None]
    total = slope**2 @ both
    return tails, np.abs(np.sum(tails, axis=1) - total) / np.maximum(total, np.finfo(float).tiny)


def chords(tails: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The chords of some rows of ``chord_tails`` at some angles, shape (rows, angles)."""
    return tails @ (np.cos(theta)[:, None] ** np.arange(_TERMS)).T


@compiled(0)
def _value_and_slope(activation, u):
    return jax.jvp(activation, (u,), (jnp.ones_like(u),))


@functools.cache
def _on_host() -> tuple[np.ndarray, np.ndarray]:
    functions, envelope = compiled(0)(lambda like: _hermite_functions(like.dtype))(jnp.zeros(()))
    return np.asarray(functions), np.asarray(envelope)
