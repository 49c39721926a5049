"""The probability that equally correlated Gaussians are all negative."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

_LOG_SQRT_2PI = float(np.log(2 * np.pi) / 2)
_AT_ONCE = 1 << 14  # points; each needs a grid of a few hundred
_NEWTON_STEPS = 32
_PER_WIDTH = 4  # grid points in one standard deviation of the integrand's peak


def log_orthant_probability(n, c) -> Float[Array, "..."]:
    r"""log P(h_1 <= 0, ..., h_n <= 0) for standard Gaussians with Cov(h_i, h_j) = c.

    n: a whole number of at least 1. c: -1/(n-1) <= c <= 1. Numbers or arrays that
    broadcast, also traced. Dimensionless; nothing is raised: the result is NaN where c
    is out of range, and -inf at c = -1/(n-1), where the probability is 0.

    The relative error of the probability is about n times the rounding error of the
    precision, also where the probability itself is too small for it. Close to
    c = -1/(n-1) the rounding of c itself counts: with d = 1 + (n-1) c the probability
    varies as d^(n/2), so that the relative error is of order n eps / d.

    Derivatives of any order may be taken with respect to c, not n. The first is
    infinite at both ends.

    Source: for c > 0, P = E Phi(k z)^n with k^2 = c/(1-c) (Dunnett & Sobel, Biometrika
    42, 1955) or, the same by the law of the largest of n normals, E Phi(-max/k); for
    c < 0 the same with imaginary k, on a contour through the saddle point. Derivatives:
    Plackett, Biometrika 41, 1954.
    """
    dtype = jnp.promote_types(jnp.result_type(float, n, c), jnp.float32)
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
    end = -1 / jnp.maximum(n - 1, 0)
    positive = _positive(n, jnp.clip(c, 0, 1))
    negative = _negative(n, jnp.where((c < 0) & (c > end), c, end / 2))
    value = jnp.where(c < 0, negative, positive)
    value = jnp.where(c == end, -jnp.inf, value)
    value = jnp.where(n <= 1, -n * jnp.log(2.0), value)
    return jnp.where((c >= end) & (c <= 1), value, jnp.nan)


def _positive(n, c):
    """Up to c = 1/2 over what the Gaussians share, beyond it over the largest of what they do not."""
    shared = c <= 0.5
    small = jnp.sqrt(jnp.where(shared, c, 1 - c) / jnp.where(shared, 1 - c, c))
    k, k_max = jnp.where(shared, small, 1), jnp.where(shared, 0, small)
    power = jnp.where(shared, n, n - 1)

    def log_integrand(t):
        return -(t**2) / 2 + power * log_ndtr(k * t) + jnp.where(shared, 0, log_ndtr(-k_max * t))

    def newton(_, t):
        return t - _slope(t, power, k, k_max, shared) / _curvature(t, power, k, k_max, shared)

    mode = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, jnp.zeros_like(c))
    width = 1 / jnp.sqrt(-_curvature(mode, power, k, k_max, shared))
    # To the left the integrand falls like a Gaussian or faster, to the right at least exponentially.
    steps = np.arange(-10 * _PER_WIDTH, 44 * _PER_WIDTH + 1) / _PER_WIDTH
    top = log_integrand(mode)
    total = jnp.sum(_over_grid(lambda t: jnp.exp(log_integrand(t) - top), mode, width, steps), axis=0)
    return top + jnp.log(total * width / _PER_WIDTH) - _LOG_SQRT_2PI + jnp.where(shared, 0, jnp.log(n))


def _slope(t, power, k, k_max, shared):
    return -t + power * k * _hazard(-k * t) - jnp.where(shared, 0, k_max * _hazard(k_max * t))


def _curvature(t, power, k, k_max, shared):
    low, high = -k * t, k_max * t
    bend = power * k**2 * _hazard_slope(low) + jnp.where(shared, 0, k_max**2 * _hazard_slope(high))
    return -1 - bend


def _hazard(x):
    """phi(x) / Phi(-x), the slope of -log Phi(-x)."""
    return jnp.exp(-(x**2) / 2 - _LOG_SQRT_2PI - log_ndtr(-x))


def _hazard_slope(x):
    hazard = _hazard(x)
    return hazard * (hazard - x)


def _over_grid(fn, centre, width, steps):
    """fn at centre + width * steps, the steps along a new first axis."""
    steps = jnp.asarray(steps, centre.dtype).reshape(-1, *(1,) * centre.ndim)
    return fn(centre + width * steps)


def _negative(n, c):
    """E Phi(i k v)^n over v, on the line i v - x: at its saddle x the integrand hardly oscillates.

    With Phi(z) = exp(-z^2/2) erfcx(-z/sqrt 2) / 2 the Gaussian factors combine to
    exp(room z^2 / 2), and what remains is well scaled up to the singular end, room = 0.
    """
    end = -1 / jnp.maximum(n - 1, 0)
    k = jnp.sqrt(-c / (1 - c))
    room = jnp.where(n > 1, (n - 1) * (c - end), 1) / (1 - c)

    def newton(_, x):
        slope = room * x - n * k * (_hazard(k * x) - k * x)
        return x - slope / (room + n * k**2 * (1 - _hazard_slope(k * x)))

    # A lower bound of the saddle, as hazard(x) >= (3 x + sqrt(x^2 + 8)) / 4 (Sampford).
    reach = 2 * n * k / room
    saddle = jax.lax.fori_loop(0, 4, newton, reach / jnp.sqrt(8 + 2 * k * reach))
    ...


def _erfcx(u):
    """exp(u^2) erfc(u) for complex u, Re u >= 0, to rounding.

    Source: J. A. C. Weideman, SIAM J. Numer. Anal. 31 (1994) 1497.
    """
    ratio = (_SCALE - u) / (_SCALE + u)
    total = jnp.zeros_like(u)
    for coefficient in _COEFFICIENTS[::-1]:
        total = total * ratio + coefficient
    return (2 * total / (_SCALE + u) + 1 / np.sqrt(np.pi)) / (_SCALE + u)
