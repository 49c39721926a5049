"""The probability that equally correlated Gaussians are all negative."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from meanfield.numerics.polynomials import horner

_LOG_SQRT_2PI = math.log(2 * math.pi) / 2
_AT_ONCE = 1 << 14  # points; each needs a grid of a few hundred
_NEWTON_STEPS = 32
_PER_WIDTH = 4  # grid points in one standard deviation of the integrand's peak


def log_orthant_probability(n, c) -> Float[Array, "..."]:
    r"""log P(h_1 <= 0, ..., h_n <= 0) for standard Gaussians with Cov(h_i, h_j) = c.

    n: a whole number of at least 1. c: at least -1/(n-1), at most 1. Numbers or arrays
    that broadcast, also traced. Dimensionless; nothing is raised: the result is NaN
    where c is out of range, and -inf at c = -1/(n-1), where the probability is 0.

    The relative error of the probability is a few n times the rounding error of the
    precision, however small the probability. Close to c = -1/(n-1) the rounding of c
    itself says more: with d = 1 + (n-1) c it changes the probability by about n eps / d.

    Derivatives of any order may be taken with respect to c, but not n. The first is
    infinite at both ends.

    Source: for c > 0, P = E Phi(k z)^n with k^2 = c/(1-c) (Dunnett & Sobel, Biometrika
    42, 1955) or, the same by the law of the largest of n normals, E Phi(-max/k); for
    c < 0 the same with imaginary k, on a contour through the saddle point. Derivatives:
    Plackett, Biometrika 41, 1954.
    """
    dtype = jnp.promote_types(jnp.result_type(1.0, n, c), jnp.float32)
    n, c = jnp.broadcast_arrays(jnp.asarray(n, dtype), jnp.asarray(c, dtype))
    return _log_probability(jax.lax.stop_gradient(n), c)


@jax.custom_jvp
@jax.jit
def _log_probability(n, c):
    if c.size <= _AT_ONCE:
        return _on_grids(n, c)
    flat = jax.lax.map(lambda point: _on_grids(*point), (n.ravel(), c.ravel()), batch_size=_AT_ONCE)
    return flat.reshape(c.shape)


@_log_probability.defjvp
def _plackett(primals, tangents):
    """dP/dc is the sum over pairs of P(the others <= 0 | the pair = 0) times the pair's density at 0."""
    (n, c), (_, c_dot) = primals, tangents
    value = _log_probability(n, c)
    # Given two that are 0, the others have correlation c / (1 + 2 c).
    several, pair = n > 3, n >= 2
    others = _log_probability(
        jnp.maximum(n - 2, 0), jnp.where(several, c, 0) / jnp.where(several, 1 + 2 * c, 1)
    )
    density = n * (n - 1) / (4 * jnp.pi * jnp.sqrt(jnp.where(pair, (1 - c) * (1 + c), 1)))
    ratio = jnp.where(value == -jnp.inf, jnp.inf, jnp.exp(others - value))
    return value, jnp.where(pair, density * ratio, 0) * c_dot


def _on_grids(n, c):
    end = _end(n)
    inside = jnp.where((c > end) & (c < 0), c, jnp.maximum(end, -1) / 2)
    value = jnp.where(c < 0, _negative(n, inside), _positive(n, jnp.clip(c, 0, 1)))
    value = jnp.where(c == end, -jnp.inf, value)
    value = jnp.where(n <= 1, -n * math.log(2), value)
    return jnp.where((c >= end) & (c <= 1), value, jnp.nan)


def _positive(n, c):
    """Up to c = 1/2 over the shared Gaussian, beyond over the largest of n independent ones."""
    shared = c <= 0.5
    ratio = jnp.sqrt(jnp.where(shared, c, 1 - c) / jnp.where(shared, 1 - c, c))
    k, k_max = jnp.where(shared, ratio, 1), jnp.where(shared, 0, ratio)
    power = jnp.where(shared, n, n - 1)

    def log_integrand(t):
        # At k_max = 0 the last term is a constant, log(1/2).
        return -(t**2) / 2 + power * log_ndtr(k * t) + log_ndtr(-k_max * t)

    def newton(_, t):
        return t - _slope(t, power, k, k_max) / _curvature(t, power, k, k_max)

    mode = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, jnp.zeros_like(c))
    width = 1 / jnp.sqrt(-_curvature(mode, power, k, k_max))
    # The integrand falls like a Gaussian or faster to the left, exponentially or faster to the right.
    t = mode + width * _grid(-10, 44, mode)
    top = log_integrand(mode)
    total = jnp.sum(jnp.exp(log_integrand(t) - top), axis=0)
    constant = jnp.where(shared, math.log(2), jnp.log(n)) - _LOG_SQRT_2PI
    return top + jnp.log(total * width / _PER_WIDTH) + constant


def _slope(t, power, k, k_max):
    return -t + power * k * _hazard(-k * t) - k_max * _hazard(k_max * t)


def _curvature(t, power, k, k_max):
    return -1 - power * k**2 * _hazard_slope(-k * t) - k_max**2 * _hazard_slope(k_max * t)


def _hazard(x):
    """phi(x) / Phi(-x), the slope of -log Phi(-x)."""
    return jnp.exp(-(x**2) / 2 - _LOG_SQRT_2PI - log_ndtr(-x))


def _hazard_slope(x):
    hazard = _hazard(x)
    return hazard * (hazard - x)


def _negative(n, c):
    """E Phi(i k v)^n over v, on the line i v - x: at the saddle point x little cancels.

    With Phi(z) = exp(-z^2/2) erfcx(-z/sqrt 2) / 2 the Gaussian factors combine to
    exp(room z^2 / 2), well scaled up to the end of the range, where room = 0.
    """
    room = _room(n, c)
    k = jnp.sqrt(-c / (1 - c))

    def curvature(x):
        return room + n * k**2 * _excess_hazard(k * x) / jnp.sqrt((k * x) ** 2 + 8)

    def newton(_, x):
        return x - (room * x - n * k * _excess_hazard(k * x)) / curvature(x)

    def log_integrand(z):
        return room * z**2 / 2 + n * jnp.log(_erfcx(-k * z / math.sqrt(2)) / 2)

    # The saddle point if Sampford's bound were the hazard.
    reach = 2 * n * k / room
    saddle = jax.lax.fori_loop(0, 6, newton, reach / jnp.sqrt(8 + 2 * k * reach))
    width = 1 / jnp.sqrt(curvature(saddle))
    top = log_integrand(jax.lax.complex(-saddle, jnp.zeros_like(saddle))).real
    # The modulus falls at least like a Gaussian of room, and room width^2 >= 1/2.
    v = width * _grid(-14, 14, width)
    z = jax.lax.complex(jnp.broadcast_to(-saddle, v.shape), v)
    total = jnp.sum(jnp.exp(log_integrand(z) - top).real, axis=0)
    return top + jnp.log(total * width / _PER_WIDTH) - _LOG_SQRT_2PI


def _room(n, c):
    """(1 + (n-1) c) / (1-c), without error beyond that of c."""
    return jnp.where(n > 1, (n - 1) * (c - _end(n)), 1) / (1 - c)


def _end(n):
    """The smallest correlation there is."""
    return -1 / jnp.maximum(n - 1, 0)


def _excess_hazard(x):
    """hazard(x) - x for x >= 0; where this cancels, Sampford's lower bound, by then good to 2e-4."""
    return jnp.where(x < 10, _hazard(jnp.minimum(x, 10)) - x, 2 / (x + jnp.sqrt(x**2 + 8)))


def _grid(low, high, like):
    """Points from ``low`` to ``high`` along a new first axis."""
    steps = np.arange(low * _PER_WIDTH, high * _PER_WIDTH + 1) / _PER_WIDTH
    return jnp.asarray(steps, like.dtype).reshape(-1, *(1,) * like.ndim)


def _erfcx(u):
    """exp(u^2) erfc(u) for complex u, Re u >= 0, to rounding.

    Source: J. A. C. Weideman, SIAM J. Numer. Anal. 31 (1994) 1497.
    """
    ratio = (_SCALE - u) / (_SCALE + u)
    return (2 * horner(_COEFFICIENTS, ratio) / (_SCALE + u) + 1 / math.sqrt(math.pi)) / (_SCALE + u)


def _weideman(terms: int):
    """Scale and Fourier coefficients of exp(-t^2) (scale^2 + t^2) at t = scale tan(angle / 2)."""
    scale = math.sqrt(terms / math.sqrt(2))
    angle = np.pi * np.arange(1 - 2 * terms, 2 * terms) / (2 * terms)
    t = scale * np.tan(angle / 2)
    cosines = np.cos(np.arange(1, terms + 1)[:, None] * angle)
    return scale, (cosines @ (np.exp(-(t**2)) * (scale**2 + t**2)) / (4 * terms)).tolist()


_SCALE, _COEFFICIENTS = _weideman(40)
