r"""Overlaps of softmax rows of Gaussian logits (THEORY of layers, section 7).

A row's n logits are independent, of variance s^2; those of two rows at one place have correlation c. With
1/S^k = int t^(k-1) e^(-tS) dt / (k-1)! a moment of a_j = e^(g_j)/S becomes an integral over log t of a
product over the places, and over a second log t' for the second row; the two rows are independent given the
Gaussian that they share. All integrands are e^(ky - e^y) with y = log t + g, and all sums trapezoidal, which
converge exponentially: the error is e^(-pi^2/step).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]

FINE, COARSE, SHARPEST = 0.25, 0.9, 4.0
_SIDE = 8.5  # standard deviations on each side
_TAIL = 36.0  # e^-36 is below the rounding of double precision
_WIDEST = 0.5  # step in standard deviations


class Overlaps(NamedTuple):
    """Means over logits of two softmax rows a, a' of n entries, S_k = sum_j a_j^k.

    r0: E S_2. r1: E sum_j a_j a'_j. own: E [S_2 - 2 S_3 + S_2^2], of the derivative of a row by its logits.
    cross: E sum_j a_j a'_j (1 - a_j - a'_j + a . a').
    """

    r0: Scalar
    r1: Scalar
    own: Scalar
    cross: Scalar


def fine_step(largest: float, single: bool) -> float:
    """The step at which sums are right to some 1e-12; to 1e-9 where logits reach beyond ``SHARPEST``.

    single: whether in single precision, to which some 1e-7 will do.
    """
    if single:
        return 0.6 if largest <= SHARPEST else COARSE
    return FINE if largest <= SHARPEST else 0.6


def softmax_overlaps(s, c, n: int, *, largest: float, step: float = FINE) -> Overlaps:
    """Overlaps of rows of n logits of standard deviation s >= 0 and correlation 0 <= c <= 1.

    largest: the s up to which the integrals are resolved; NaN beyond it. step: of all sums, in units of a
    logit. Scalars, differentiable for s > 0 and 0 < c < 1.
    """
    s, c = jnp.asarray(s), jnp.asarray(c)
    places = int(2 * _SIDE * max(1 / _WIDEST, largest / step)) + 1
    times = int((_TAIL + 4 + 2 * _SIDE * largest) / step) + 1
    log_t = jnp.linspace(-1.0, 0.0, times) * (_TAIL + 4 + 2 * _SIDE * s) + 4 + _SIDE * s
    dt = log_t[1] - log_t[0]
    z = jnp.linspace(-_SIDE, _SIDE, places).astype(s.dtype)
    weight = jnp.exp(-(z**2) / 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)

    shared, single = s * jnp.sqrt(c) * z, s * jnp.sqrt(1 - c) * z

    def of_time(t):
        # e^60 and all above it leave nothing, but with derivatives.
        y = jnp.minimum(t + shared[:, None] + single, 60.0)
        decay = jnp.exp(y)
        return jnp.stack([jnp.exp(k * y - decay) @ weight for k in range(5)])

    given = jax.lax.map(of_time, log_t)  # (times, k, places)
    alone = given @ weight
    pair = lambda j, k: jnp.matmul((given[:, j] * weight), given[:, k].T, precision="highest")

    none, _, two, three, four = alone.T
    others = none ** (n - 1)
    s2, s3 = n * dt * jnp.sum(two * others), n / 2 * dt * jnp.sum(three * others)
    s2_squared = n / 6 * dt * jnp.sum(four * others + (n - 1) * two**2 * none ** (n - 2))

    both = pair(0, 0)
    rest, fewer = both ** (n - 1), both ** (n - 2)
    together = pair(1, 1)
    r1 = n * dt**2 * jnp.sum(together * rest)
    thrice = n * dt**2 * jnp.sum(pair(2, 1) * rest)
    square = n * dt**2 * jnp.sum(pair(2, 2) * rest + (n - 1) * together**2 * fewer)
    found = Overlaps(s2, r1, s2 - 2 * s3 + s2_squared, r1 - 2 * thrice + square)
    resolved = s <= largest * (1 + 1e-6)
    return jax.tree.map(lambda x: jnp.where(resolved, x, jnp.nan), found)
