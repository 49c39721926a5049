"""What a map of pairs makes of the covariances between many places."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Matrix = Float[Array, "places places"]


def over_pairs(pair_map: Callable, covariance: Matrix, at_once: int | None) -> Matrix:
    """pair_map(q1, q2, c) of every two places, symmetric to the bit.

    at_once: how many pairs to treat together; None: all.
    """
    q = jnp.diagonal(covariance)
    root = jnp.sqrt(q)
    c = jnp.clip(covariance / jnp.outer(root, root), -1, 1)
    first, second = (x.ravel() for x in jnp.broadcast_arrays(q[:, None], q))
    points = first, second, c.ravel()
    found = jax.lax.map(lambda point: pair_map(*point), points, batch_size=at_once or c.size)
    found = found.reshape(c.shape)
    return (found + found.T) / 2


def slopes_over_pairs(pair_map: Callable, tangent: Callable, covariance: Matrix, at_once) -> Matrix:
    """d pair_map / d q12 at fixed variances, of every two places, and tangent(q) of every place."""

    def slope(q1, q2, c):
        inside = jnp.clip(c, -1 + _NEAR, 1 - _NEAR)
        rate = jax.jvp(lambda c: pair_map(q1, q2, c), (inside,), (jnp.ones_like(c),))[1]
        return rate / jnp.sqrt(q1 * q2)

    found = over_pairs(slope, covariance, at_once)
    own = jax.vmap(tangent)(jnp.diagonal(covariance))
    return jnp.where(jnp.eye(len(own), dtype=bool), own, found)


_NEAR = 1e-12  # of 1, where slopes of kinked activations in c have no derivative
