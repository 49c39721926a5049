"""Apply a function of scalars to arrays of parameters, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.compiling import compiled, optimization_for


def pointwise(fn, layer, *arrays, static=(), at_once=None, optimization=None, shared=(), stacked=False):
    """Map ``fn(layer, *scalars, *shared, *static)`` over the broadcast of the others' leaves.

    Leaves that are scalars stay so: what depends on them alone is computed once.
    ``at_once`` points, or ``layer.points_at_once``, are treated together, which bounds
    the memory. ``stacked``: the layer's leaves end in an axis of layers, which ``fn`` gets whole.
    Compiled, with the least optimisation for a few points, or at any number with that given (2 for what
    takes long at every point); for an activation that closes over a traced value, compiled afresh, for
    in a later call that value would mean nothing.
    """
    trees = (layer, *arrays)
    limit = at_once or layer.points_at_once
    if layer.traced:
        return jax.jit(lambda *trees: _pointwise(fn, static, limit, stacked, trees, shared))(*trees)
    if optimization is None:
        optimization = optimization_for(count_points(trees, stacked))
    return _COMPILED[optimization](fn, static, limit, stacked, trees, shared)


def count_points(trees, stacked=False) -> int:
    """To how many points the leaves of a layer and of what stands beside it broadcast; see ``pointwise``."""
    shapes = [np.shape(x) for x in jax.tree.leaves(trees, is_leaf=is_shared) if not is_shared(x)]
    whole = len(jax.tree.leaves(trees[0], is_leaf=is_shared)) if stacked else 0
    return max(
        (int(np.prod(shape[:-1] if i < whole else shape)) for i, shape in enumerate(shapes)), default=1
    )


def _pointwise(fn, static, limit, stacked, trees, shared):
    # A table is one leaf: its arrays belong to every point.
    leaves, treedef = jax.tree.flatten(trees, is_leaf=is_shared)
    numbers = [i for i, x in enumerate(leaves) if not is_shared(x)]
    dtype = jnp.result_type(float, *(leaves[i] for i in numbers))
    for i in numbers:
        leaves[i] = jnp.asarray(leaves[i], dtype)
    whole = len(jax.tree.leaves(trees[0], is_leaf=is_shared)) if stacked else 0
    axes = {i: leaves[i].ndim - (i < whole) for i in numbers}  # that are points
    shape = jnp.broadcast_shapes(*(leaves[i].shape[:n] for i, n in axes.items()))
    size = int(np.prod(shape))
    spread = [i for i, n in axes.items() if n > 0]

    def at_point(values):
        merged = list(leaves)
        for i, value in zip(spread, values, strict=True):
            merged[i] = value
        return fn(*jax.tree.unflatten(treedef, merged), *shared, *static)

    if not spread:
        return at_point([])
    rests = [leaves[i].shape[axes[i] :] for i in spread]
    flat = [
        jnp.broadcast_to(leaves[i], shape + rest).reshape(size, *rest)
        for i, rest in zip(spread, rests, strict=True)
    ]
    if limit is None or size <= limit:
        result = jax.vmap(at_point)(flat)
    elif limit == 1:  # a batch of one would still be vectorised
        result = jax.lax.map(at_point, flat)
    else:
        result = _in_batches(at_point, flat, size, limit)
    return jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), result)


def is_shared(leaf) -> bool:
    """Whether a part of a layer belongs to all points, whatever its arrays' shapes: a table of moments."""
    return bool(getattr(leaf, "is_table", False))


def chosen(index, *trees):
    """The chosen points of trees whose leaves are numbers, columns and tables."""
    one = lambda x: x if is_shared(x) or np.ndim(x) == 0 else np.asarray(x)[index]
    return jax.tree.map(one, trees, is_leaf=is_shared)


def _in_batches(at_point, flat, size, limit):
    """Equal batches, the last one padded: a shorter one would be compiled once more."""
    batches = -(-size // limit)
    missing = batches * limit - size
    padded = [
        jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1)), mode="edge").reshape(
            batches, limit, *x.shape[1:]
        )
        for x in flat
    ]
    result = jax.lax.map(jax.vmap(at_point), padded)
    return jax.tree.map(lambda x: x.reshape(batches * limit, *x.shape[2:])[:size], result)


_STATIC = (0, 1, 2, 3)
_COMPILED = {n: compiled(n, _STATIC)(_pointwise) for n in (0, 2)} | {
    None: jax.jit(_pointwise, static_argnums=_STATIC)
}
