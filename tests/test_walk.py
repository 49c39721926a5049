"""The walk over the nodes of a growth scan, against one that takes a point and a node at a time."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meanfield.fixed_points.walk import NOWHERE, first_stop


@jax.tree_util.register_static
class Rows:
    """A layer whose rows are the growth and its slope."""

    def growth_from(self, row):
        return row[..., 0], row[..., 1]


def one_by_one(log_q, rows, x, direction):
    """What ``first_stop`` tells, by plain loops."""
    first = int(np.clip(np.sum(log_q <= x) - 1, 0, log_q.size - 2))
    node, stop = (first + 1, 1) if direction > 0 else (first, 1)
    cell = first
    while 0 <= cell < log_q.size - 1:
        (g0, e0), (g1, e1) = (direction * (rows[i] - [1, 0]) for i in (cell, cell + 1))
        width = log_q[cell + 1] - log_q[cell]
        # A parabola's lowest value is less than a share of how far that lies above where its tangents meet.
        if e0 < 0 < e1:
            depth = -e0 * e1 * width / (e1 - e0) / 2
            lowest = (g0 * e1 - g1 * e0) / (e1 - e0) - depth
        if e0 < 0 < e1 and lowest <= 1.2 * width * depth:
            return stop - 1, first
        if direction * (rows[node, 0] - 1) < 0:
            return stop, first
        node, cell, stop = node + direction, cell + direction, stop + 2
    return NOWHERE, first


def is_increasing(log_q, rows, x, direction):
    """Whether Q increases from node to node in all cells up to the one where the walk ends."""
    stop, first = one_by_one(log_q, rows, x, direction)
    cells = range(first, log_q.size - 1) if direction > 0 else range(first, -1, -1)
    image = rows[:, 0].astype(float) * np.exp(log_q.astype(float))
    return all(image[i + 1] > image[i] for i in list(cells)[: stop // 2 + 1])


@pytest.mark.parametrize("nodes", [9, 30, 41])
def test_many_points_walk_as_each_alone_would(nodes):
    rng = np.random.default_rng(nodes)
    log_q = np.sort(rng.uniform(-5, 5, nodes)).astype(np.float32)
    points = 200
    # Few changes of sign, so that some points walk far and some find nothing.
    rows = rng.normal(rng.uniform(-3, 3, (points, 1, 1)), 1.0, (points, nodes, 2)).astype(np.float32)
    rows[:, :, 0] += 1
    x = rng.uniform(-6, 6, points).astype(np.float32)
    direction = rng.choice([-1, 1], points).astype(np.int32)
    scan = lambda rows: SimpleNamespace(log_q=jnp.asarray(log_q), rows=rows)
    alone = lambda rows, x, direction: first_stop(scan(rows), Rows(), x, direction)
    told = lambda *given: (*one_by_one(log_q, *given), is_increasing(log_q, *given))
    expected = [told(*given) for given in zip(rows, x, direction.tolist(), strict=True)]
    together = np.stack(jax.jit(jax.vmap(alone))(rows, x, direction), axis=-1)
    assert len(np.unique(together[:, 0])) > 5 and (together[:, 0] == NOWHERE).any()
    np.testing.assert_array_equal(together, expected)
    for k in range(5):
        np.testing.assert_array_equal(np.stack(alone(rows[k], x[k], direction[k])), expected[k])
    shared = jax.vmap(alone, (None, None, 0))(rows[0], x[0], direction)
    both = {d: told(rows[0], x[0], d) for d in (-1, 1)}
    np.testing.assert_array_equal(np.stack(shared, axis=-1), [both[int(d)] for d in direction])
