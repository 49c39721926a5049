"""From a start over the nodes of a growth scan, up or down, to where the growth may first be 1.

Many points walk together, a block of cells at a time, for as long as one of them has not arrived.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

NOWHERE = 1 << 20
_CELLS = 4  # of a block
_RISE = 1e-11  # relative: Q that falls by less does so in rounding


def first_stop(scan, layer, x, direction):
    """(stop, first, increasing) on the way from log q = x, upwards where direction is 1, else down. Scalars.

    stop: the first event on the way, as 2 i - 1 for a change of sign of Q/q - 1 at the i-th node ahead and
    2 i for a cell, the i-th after that of x, in which it may dip through zero; ``NOWHERE`` if there is
    neither. first: index of the node below x. increasing: whether Q increases from node to node till there.
    """
    first = jnp.clip(jnp.sum(scan.log_q <= x) - 1, 0, scan.log_q.size - 2).astype(jnp.int32)
    stop, fall = _stop(layer, scan.rows, scan.log_q, first, direction)
    return stop, first, (fall > stop) | (fall == NOWHERE)


@custom_vmap
def _stop(*given):
    """(stop, the first cell in which Q falls), both counted like stops."""
    shared = jax.tree.map(lambda _: False, given)
    return jax.tree.map(lambda x: x[0], _stops(1, shared, *given)[0])


@_stop.def_vmap
def _stops(points, batched, *given):
    """The same of many points, and that these are many; ``batched``: what differs from point to point."""
    axes = jax.tree.map(lambda b: 0 if b else None, batched)
    *_, log_q, first, direction = given
    first, up = (jnp.broadcast_to(x, (points,)) for x in (first, direction > 0))
    last = (log_q.shape[-1] - 2) // _CELLS

    def needed(state):
        """Whether somebody still looks for something in the next block above, in the next one below."""
        above, below, (stop, _) = state
        looking = stop == NOWHERE
        return (above <= last) & jnp.any(looking & up), (below >= 0) & jnp.any(looking & ~up)

    def step(state):
        above, below, nearest = state
        upward, _ = needed(state)
        block = jnp.where(upward, above, below)
        found = jax.vmap(lambda *one: _stop_in(block, *one), axes, axis_size=points)(*given)
        above, below = jnp.where(upward, above + 1, above), jnp.where(upward, below, below - 1)
        return above, below, jax.tree.map(jnp.minimum, nearest, found)

    nothing = jnp.full(points, NOWHERE, jnp.int32)
    start = jnp.min(first) // _CELLS, jnp.max(first) // _CELLS, (nothing, nothing)
    *_, nearest = jax.lax.while_loop(lambda state: jnp.logical_or(*needed(state)), step, start)
    return nearest, (True, True)


def _stop_in(block, layer, rows, log_q, first, direction):
    """(stop, fall) in one block of cells."""
    start = jnp.minimum(block * _CELLS, log_q.size - 1 - _CELLS)  # the last one reaches back
    cut = lambda array: jax.lax.dynamic_slice_in_dim(array, start, _CELLS + 1)
    rows, widths = jax.tree.map(cut, rows), jnp.diff(cut(log_q))
    # Tangents that meet in a cell bound a convex function there with its width for reach, a parabola with
    # half of that. How far from a parabola the growth is shows in wide cells first.
    reach = widths * (1 + 1.2 * widths) / 2
    rise = jnp.exp(widths) * (1 + max(_RISE, 8 * float(jnp.finfo(log_q.dtype).eps)))
    stop = fall = jnp.asarray(NOWHERE, jnp.int32)
    before = None
    for k in range(_CELLS + 1):
        growth, slope = layer.growth_from(jax.tree.map(lambda array: array[k], rows))  # noqa: B023
        g, e = direction * (growth - 1), direction * slope
        away = direction * 2 * (start + k - 1 - first)  # of the cell below this node
        # The node at the cell's upper end; for a start below that, the one at its lower end too.
        turned = (g < 0) & (away + direction > 0)
        stop = jnp.minimum(stop, jnp.where(turned, away + direction, NOWHERE))
        if before is not None:
            growth0, g0, e0 = before
            dip = (e0 < 0) & (e > 0) & (g0 * e - g * e0 + reach[k - 1] * e0 * e <= 0)
            stop = jnp.minimum(stop, jnp.where(dip & (away >= 0), away, NOWHERE))
            falls = (growth * rise[k - 1] < growth0) & (away >= 0)
            fall = jnp.minimum(fall, jnp.where(falls, away, NOWHERE))
        before = growth, g, e
    return stop, fall
