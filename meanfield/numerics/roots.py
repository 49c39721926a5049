"""Roots that are functions of whatever the equation depends on."""

import jax
import jax.numpy as jnp


def implicit_root(gap, start, solve=lambda _, found: found):
    """The root of ``gap`` that ``solve(gap, start)`` finds; without it, ``start`` is the root.

    Differentiable any number of times by the implicit function theorem, with respect to what ``gap``
    closes over. ``gap`` takes and gives a number, or arrays element by element.
    """
    return jax.lax.custom_root(gap, start, solve, lambda slope, y: y / nonzero(slope(jnp.ones_like(y))))


def root_between(gap, negative, positive, steps=64):
    """The root of ``gap`` between an end where that is at most 0 and one where it is positive, by bisection.

    The last number on the side of ``negative``. Differentiable as ``implicit_root``.
    """
    ends = jax.lax.stop_gradient((negative, positive))

    def solve(gap, start):
        return bisected(lambda x: ~(gap(x) > 0), start, ends[1], steps)[0]

    return implicit_root(gap, ends[0], solve)


def falling_root(gap, start, low, high, steps=80):
    """The root between ``low`` and ``high`` of ``gap``, which falls, each element by itself.

    Newton's method as long as it halves the gap, else bisection. Differentiable as ``implicit_root``.
    """
    eps = jnp.finfo(start.dtype).eps

    def solve(gap, start):
        def step(state):
            x, low, high, last, _, count = state
            value, slope = jax.jvp(gap, (x,), (jnp.ones_like(x),))
            low, high = jnp.where(value > 0, x, low), jnp.where(value > 0, high, x)
            new, size = x - value / nonzero(slope), jnp.abs(value)
            newton = (new > low) & (new < high) & (size <= last / 2)
            new = jnp.where(newton, new, (low + high) / 2)
            done = size <= 4 * eps
            moved = jnp.where(done, 0.0, jnp.abs(new - x))
            return jnp.where(done, x, new), low, high, size, moved, count + 1

        def unfinished(state):
            tolerance = 8 * eps * jnp.maximum(1, jnp.abs(state[0]))
            return jnp.any(state[4] > tolerance) & (state[5] < steps)

        unknown = jnp.full_like(start, jnp.inf)
        ends = jnp.full_like(start, low), jnp.full_like(start, high)
        return jax.lax.while_loop(unfinished, step, (start, *ends, unknown, unknown, 0))[0]

    return implicit_root(gap, start, solve)


def newton_step(gap, x):
    """x moved to where the tangent of ``gap`` is 0."""
    value, slope = jax.jvp(gap, (x,), (jnp.ones_like(x),))
    return x - value / nonzero(slope)


def bisected(is_first, first, last, steps=60):
    """(first, last), halved so often, between which ``is_first`` turns from true to false."""
    return jax.lax.fori_loop(0, steps, lambda _, ends: halved(is_first, *ends), (first, last))


def halved(is_first, first, last, xp=jnp):
    """The half of a bracket in which ``is_first`` turns from true to false; arrays element by element."""
    middle = (first + last) / 2
    still = is_first(middle)
    return xp.where(still, middle, first), xp.where(still, last, middle)


def nonzero(x):
    """x, or 1 where x is 0."""
    return jnp.where(x == 0, 1.0, x)
