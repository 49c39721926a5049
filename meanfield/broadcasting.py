"""Apply a function of scalars to arrays of parameters, in bounded memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def pointwise(fn, layer, *arrays, static=()):
    """Map ``fn(layer, *scalars, *static)`` over the broadcast of all leaves.

    Leaves that are scalars stay so: what depends on them alone is computed once.
    ``layer.points_at_once`` bounds the memory.
    Compiled; for an activation that closes over a traced value, compiled afresh, for
    in a later call that value would mean nothing.
    """
    trees = (layer, *arrays)
    if layer.activation.traced:
        return jax.jit(lambda *trees: _pointwise(fn, static, trees))(*trees)
    return _compiled(fn, static, trees)


def _pointwise(fn, static, trees):
    leaves, treedef = jax.tree.flatten(trees)
    dtype = jnp.result_type(float, *leaves)
    leaves = [jnp.asarray(x, dtype) for x in leaves]
    shape = jnp.broadcast_shapes(*(x.shape for x in leaves))
    size = int(np.prod(shape))
    spread = [i for i, x in enumerate(leaves) if x.ndim > 0]

    def at_point(values):
        merged = list(leaves)
        for i, value in zip(spread, values, strict=True):
            merged[i] = value
        return fn(*jax.tree.unflatten(treedef, merged), *static)

    if not spread:
        return at_point([])
    flat = [jnp.broadcast_to(leaves[i], shape).ravel() for i in spread]
    limit = trees[0].points_at_once
    bounded = limit is not None and size > limit
    many = functools.partial(jax.lax.map, at_point, batch_size=limit) if bounded else jax.vmap(at_point)
    result = many(flat)
    return jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), result)


_compiled = jax.jit(_pointwise, static_argnums=(0, 1))
