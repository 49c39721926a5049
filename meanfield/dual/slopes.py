"""Functions of a correlation whose derivative is known better than by differentiating their formula.

The correlation enters as x = 1 - c, from 0 to 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero


def with_slope(value, slope):
    """``value(z, x)`` as a function whose derivative over x is ``slope(z, x)``.

    z: a pytree of numbers; x: a number. For formulas that go through an angle, whose derivative is lost
    where the angle ends (d arccos c / dc at c = 1). Over z they are differentiated as they stand, at x
    fixed, so that derivatives over x and z mix in any order. Second derivatives follow where ``slope`` is
    differentiable or comes from here itself. It may be infinite.
    """

    @jax.custom_jvp
    def fn(z, x):
        return value(z, x)

    def rule(primals, tangents):
        (z, x), (z_dot, x_dot) = primals, tangents
        out = fn(z, x)
        out_dot = jnp.zeros_like(out)
        if not _is_zero(x_dot):
            out_dot = out_dot + _times(slope(z, x), x_dot)
        dots = jax.tree.leaves(z_dot, is_leaf=_is_zero)
        moving = tuple(i for i, dot in enumerate(dots) if not _is_zero(dot))
        if moving:
            # The Jacobian times the tangent, so that what depends on x is no part of a linear map: there
            # reverse mode would differentiate the formula.
            jacobian = with_slope(_over_z(value, moving), _over_z(slope, moving))(z, x)
            out_dot = out_dot + jnp.sum(jacobian * _flat(dots, moving), axis=-1)
        return out, out_dot

    fn.defjvp(rule, symbolic_zeros=True)
    return fn


def _is_zero(tangent) -> bool:
    return isinstance(tangent, SymbolicZero)


def _over_z(fn, which):
    """The derivatives of fn(z, x) with respect to some leaves of z, along a last axis."""

    def derivatives(z, x):
        leaves, treedef = jax.tree.flatten(jax.tree.map(jnp.asarray, z))

        def moved(flat):
            replaced, start = list(leaves), 0
            for i in which:
                replaced[i] = flat[start : start + leaves[i].size].reshape(leaves[i].shape)
                start += leaves[i].size
            return fn(jax.tree.unflatten(treedef, replaced), x)

        at = _flat(leaves, which)
        if at.size > 1:
            return jax.jacfwd(moved)(at)
        return jax.jvp(moved, (at,), (jnp.ones_like(at),))[1][
            ..., None
        ]  # no axis: shares what value computes

    return derivatives


def _flat(leaves, which):
    return jnp.concatenate([jnp.ravel(leaves[i]) for i in which])


@jax.custom_jvp
def _times(slope, x_dot):
    """slope x_dot, where infinity times 0 is 0; linear in x_dot."""
    infinite = jnp.isinf(slope)
    huge = jnp.finfo(slope.dtype).max ** 0.6
    finite = jnp.where(infinite, jnp.sign(slope) * huge, slope)
    # Two factors, which no compiler may make one of.
    return x_dot * finite * jax.lax.optimization_barrier(jnp.where(infinite, huge, 1.0).astype(slope.dtype))


@_times.defjvp
def _(primals, tangents):
    (slope, x_dot), (slope_dot, x_dot_dot) = primals, tangents
    return _times(slope, x_dot), jnp.where(x_dot == 0, 0.0, slope_dot * x_dot) + _times(slope, x_dot_dot)


def angle_of(x):
    """theta = arccos(1 - x), accurate near x = 0."""
    return 2 * jnp.arcsin(jnp.sqrt(jnp.clip(x, 0, 2) / 2))


def meeting_of_jumps(a, b, products, x):
    """sqrt(q1 q2) sum_ij products_ij p(k_i, k_j), p the density of the pair; a = k/sqrt(q1), b = k/sqrt(q2).

    What jumps s_i of phi' at k_i give d^2 E phi(u1) phi(u2) / dc^2 for products s_i s_j, over sqrt(q1 q2)
    (Price 1958). Infinite at c = 1 or -1 where two of them fall on each other.
    """
    apart, together = (a[:, None] - b) ** 2, (a[:, None] + b) ** 2
    exponent = _over(apart, 4 * x) + _over(together, 4 * (2 - x))
    return per_sine(fading_sum(products, exponent) / (2 * np.pi), x)


def fading_sum(products, exponent):
    """The sum of products exp(-exponent) over pairs of jumps, the first two axes."""
    # Seen from far off the jumps cancel: what is left of their sum is what differs from 1.
    far = products.sum(axis=(0, 1)) + jnp.sum(products * jnp.expm1(-exponent), axis=(0, 1))
    near = jnp.sum(products * jnp.exp(-exponent), axis=(0, 1))
    return jnp.where(jnp.max(exponent, axis=(0, 1)) < 1, far, near)


def per_sine(value, x):
    """value / sin(arccos(1 - x)), 0 where value is."""
    return value / jnp.sqrt(jnp.where(value == 0, 1.0, jnp.maximum(x * (2 - x), 0.0)))


def _over(square, x):
    """square / x, 0 where square is."""
    return square / jnp.where(square == 0, 1.0, jnp.maximum(x, jnp.finfo(square.dtype).eps ** 2))
