"""What an activation looks like to signals of vanishing and of unbounded variance (THEORY section 4)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class Asymptote:
    """phi(x) ~ left, right times x (degree 1) or x^2 (degree 2) on either side of 0.

    Degree 3 stands for a smooth x^3, whose limit depends on no parameter.

    ``degree`` is an integer, 0 if phi is none of these. ``smooth`` tells whether phi' has the
    limit too (x + sin(x) has not): without it only the growth of the variance is known.
    """

    left: jax.Array | float
    right: jax.Array | float
    degree: jax.Array | int
    smooth: jax.Array | bool


def asymptote_at_zero(phi: Activation, dtype) -> Asymptote:
    """What phi looks like to vanishing signals."""
    tiny = jnp.asarray([-1e-30, 1e-30], dtype)
    ones = jnp.ones_like(tiny)
    slope_of = lambda x: jax.jvp(phi, (x,), (ones,))[1]
    bend_of = lambda x: jax.jvp(slope_of, (x,), (ones,))
    (slope, curvature), (_, third) = jax.jvp(bend_of, (tiny,), (ones,))
    flat = jnp.all(jnp.abs(slope) < 1e-20)
    straight = jnp.all(jnp.abs(curvature) < 1e-20)
    cubic = (third[0] == third[1]) & (third[0] != 0)
    degree = jnp.where(~flat, 1, jnp.where(~straight, 2, jnp.where(cubic, 3, 0)))
    left, right = jnp.where(flat, curvature / 2, slope)
    return Asymptote(left, right, degree, degree > 0)


def asymptote_at_infinity(phi: Activation, dtype) -> Asymptote:
    """What phi looks like to unbounded signals."""
    far = jnp.asarray([-1e15, 1e15], dtype)
    value, slope = jax.jvp(phi, (far,), (jnp.ones_like(far),))
    # Of a bounded part only the secant is free; the ratio to x keeps a lower term, which tells x log x.
    secant = (phi(2 * far) - value) / far
    least = 1e-3 * jnp.max(jnp.abs(secant)) + 1e-5
    linear = jnp.all(jnp.abs(value / far - secant) <= least)
    square = slope / (2 * far)
    quadratic = jnp.all(jnp.abs(value / far**2 - square) <= 1e-3 * jnp.max(jnp.abs(square)))
    degree = jnp.where(linear, 1, jnp.where(quadratic, 2, 0))
    left, right = jnp.where(linear, secant, square)
    return Asymptote(left, right, degree, ~linear | jnp.all(jnp.abs(slope - secant) <= least))
