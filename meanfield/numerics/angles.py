"""The angle at which a falling function of it takes the value 1."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.roots import implicit_root


def solve_angle(chord, chi_1):
    """theta in (0, pi/2] with chord(theta) = 1, or 0 if chi_1 = chord(0) <= 1.

    ``chord`` falls monotonically (its map is convex in c, THEORY section 4), and to
    leading order as chi_1 - B theta^p with p = 2 for smooth and 1 for kinked
    activations. Newton's method is applied to that law, whose exponent it finds by
    itself: it converges as fast near the edge of chaos as far from it. Differentiable
    by the implicit function theorem.
    """
    chi_1 = jnp.asarray(chi_1)
    eps = jnp.finfo(chi_1.dtype).eps
    chaotic = chi_1 > 1 + 16 * eps
    start = jnp.full_like(chi_1, np.pi / 2)

    def gap(theta):
        return jnp.where(chaotic, chord(theta) - 1, 1.0 - theta)

    def step(state):
        theta, low, high, _, count = state
        value, slope = jax.jvp(gap, (theta,), (jnp.ones_like(theta),))
        low, high = jnp.where(value > 0, theta, low), jnp.where(value > 0, high, theta)
        top = jnp.where(chaotic, chi_1 - 1, 1.0)
        share = jnp.maximum(1 - value / top, eps)
        power = jnp.clip(-theta * slope / (share * top), 1e-3, 4.0)
        # A jump makes chi_1 infinite: plain Newton then. (The logarithm keeps the digits of a small step
        # where the power is small.)
        log_share = jnp.log1p(-jnp.minimum(value / top, 1 - eps))
        law = jnp.maximum(theta * jnp.exp(-log_share / power), theta / 8)
        new = jnp.where(jnp.isfinite(top) & jnp.isfinite(law), law, theta - value / slope)
        inside = (new >= low) & (new <= high)
        new = jnp.where(inside, new, (low + high) / 2)
        # At the rounding error of the chord further steps only jitter, and its sign means nothing.
        new = jnp.where(jnp.abs(value) <= 4 * eps, theta, new)
        change = jnp.abs(new - theta)
        return new, low, high, change, count + 1

    def unfinished(state):
        theta, _, _, change, count = state
        return jnp.any(change > 4 * eps * theta) & (count < 40)

    def solve(_, start):
        # The first step takes theta from pi/2, where the value may be 0 already.
        state = (start, jnp.zeros_like(start), start, jnp.full_like(start, jnp.inf), 0)
        return jax.lax.while_loop(unfinished, step, state)[0]

    theta = implicit_root(gap, start, solve)
    return jnp.where(chaotic, theta, 0.0)


_APART_STEPS = 100


def solve_angle_apart(chord, slope_at_one, gap):
    """theta in (0, pi/2] with chord(theta) = 1 where equal signals part, as independent noise makes them.

    There the chord (1 - C(c))/(1 - c) falls from infinity to at most 1. gap: what 1 - C(1) is a multiple
    of; where it is 0 the result is 0 if slope_at_one = C'(1) <= 1. In x = 1 - c the excess
    x (chord - 1) is concave, so that Newton's method from x = 1 comes down to its root without
    overshooting. Differentiable by the implicit function theorem.
    """
    slope_at_one = jnp.asarray(slope_at_one)
    eps = jnp.finfo(slope_at_one.dtype).eps
    apart = (gap > 0) | (slope_at_one > 1 + 16 * eps)

    def gap_of(theta):
        return jnp.where(apart, chord(theta) - 1, 1.0 - theta)

    def step(state):
        x, _, count = state
        theta = 2 * jnp.arcsin(jnp.sqrt(x / 2))
        value, rate = jax.jvp(gap_of, (theta,), (jnp.ones_like(theta),))
        # d/dx of x (chord - 1), whose derivative over theta is sin(theta) times that over x.
        slope = value + jnp.tan(theta / 2) * rate
        new = x * (1 - value / jnp.where(slope < 0, slope, -jnp.inf))
        new = jnp.where(jnp.abs(value) <= 4 * eps, x, jnp.minimum(new, 1.0))
        return jnp.where(new > 0, new, x / 4), jnp.abs(new - x), count + 1

    def unfinished(state):
        x, change, count = state
        return jnp.any(apart & (change > 4 * eps * x)) & (count < _APART_STEPS)

    def solve(_, start):
        state = start, jnp.full_like(start, jnp.inf), 0
        x = jax.lax.while_loop(unfinished, step, state)[0]
        return jnp.where(apart, 2 * jnp.arcsin(jnp.sqrt(x / 2)), 1.0)

    theta = implicit_root(gap_of, jnp.ones_like(slope_at_one), solve)
    return jnp.where(apart, theta, 0.0)
