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
