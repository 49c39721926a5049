"""From a start over the nodes of a growth scan, up or down, to where the growth may first vanish.

Many points walk together, a block of nodes at a time, for as long as one of them has not arrived.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

_CELLS = 8  # of a block
NOWHERE = 1 << 20


def first_stop(scan, layer, x, direction):
    """(stop, first): the first event on the way from x, and the index of the node below x. Scalars.

    stop is 2 i - 1 for a change of sign at the i-th node ahead, 2 i for a cell, the i-th after that of x,
    in which the growth may dip through zero; ``NOWHERE`` if there is neither.
    """
    first = jnp.clip(jnp.sum(scan.log_q <= x) - 1, 0, scan.log_q.size - 2).astype(jnp.int32)
    return _stop(layer, scan.rows, scan.log_q, first, direction), first


@custom_vmap
def _stop(*given):
    shared = jax.tree.map(lambda _: False, given)
    return _stops(1, shared, *given)[0][0]


@_stop.def_vmap
def _stops(points, batched, *given):
    """Stops of many points, and that there are many; ``batched``: what differs from point to point."""
    axes = jax.tree.map(lambda b: 0 if b else None, batched)
    at_all = lambda fn, *more: jax.vmap(fn, (*axes, *(0 for _ in more)), axis_size=points)(*given, *more)
    first, direction = (jnp.broadcast_to(x, (points,)) for x in given[-2:])
    up = direction > 0
    last = (given[2].shape[-1] - 2) // _CELLS

    def needed(state):
        """Whether there is something to find in the next block up, in the next one down."""
        above, below, best = state
        open_ = best == NOWHERE
        return (above <= last) & jnp.any(open_ & up), (below >= 0) & jnp.any(open_ & ~up)

    def step(state):
        above, below, best = state
        upward, _ = needed(state)
        block = jnp.where(upward, above, below)
        found = at_all(lambda *one: _stop_in(block, *one))
        above, below = jnp.where(upward, above + 1, above), jnp.where(upward, below, below - 1)
        return above, below, jnp.minimum(best, found)

    start = jnp.min(first) // _CELLS, jnp.max(first) // _CELLS, jnp.full(points, NOWHERE, jnp.int32)
    *_, best = jax.lax.while_loop(lambda state: jnp.logical_or(*needed(state)), step, start)
    return best, True


def _stop_in(block, layer, rows, log_q, first, direction):
    """The first event in one block of cells."""
    start = jnp.minimum(block * _CELLS, log_q.size - 1 - _CELLS)  # the last one reaches back
    cut = lambda array: jax.lax.dynamic_slice_in_dim(array, start, _CELLS + 1)
    x, rows = cut(log_q), jax.tree.map(cut, rows)
    best = jnp.asarray(NOWHERE, jnp.int32)
    before = None
    for k in range(_CELLS + 1):
        growth, slope = layer.growth_from(jax.tree.map(lambda array: array[k], rows))  # noqa: B023
        g, e = direction * growth, direction * slope
        away = direction * 2 * (start + k - 1 - first)
        # The node at the upper end of the k-th cell; that at the lower end of the first of all.
        turned = (g < 0) & (away + direction > 0)
        best = jnp.minimum(best, jnp.where(turned, away + direction, NOWHERE))
        if before is not None:
            # A convex function lies above its tangents, which meet inside the cell.
            (g0, e0), width = before, x[k] - x[k - 1]
            mean = g0 * e - g * e0
            dip = (e0 < 0) & (e > 0) & (mean + e0 * e * width <= mean / 4) & (away >= 0)
            best = jnp.minimum(best, jnp.where(dip, away, NOWHERE))
        before = g, e
    return best
