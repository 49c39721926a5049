r"""Fixed points of many priors from tables: the regular ones, without a loop that waits for the slowest.

A point is *regular* if Q increases everywhere (which its anticorrelation decides), the growth changes
sign clearly on the way from q0, and the tables place q* and theta* so well that three steps of
Newton's method end in rounding. Nearly all points of a diagram are; ``sure`` says which, and the
others are left to ``variance`` and ``layers``, which know every case. Everything here is a fixed
number of operations a point.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import validation
from meanfield.broadcasting import pointwise
from meanfield.dual.cells import cell_of, horner, q_of_place, slope_of_place, whole
from meanfield.dual.tabulated import TabulatedDual
from meanfield.fixedpoint import FixedPoint, at_limit, by_dual, masked, phase_of
from meanfield.status import Status

_STEPS = 3
_UNROLLED = 8  # nodes of the scan treated in one compiled step
_NOWHERE = 1 << 20
_AT_ONCE = 1 << 14


def fixed_point_by_table(layer, tabulated, q0, c0) -> FixedPoint:
    """The fixed points of a layer by a ``TabulatedActivation``; those not regular by its own dual."""
    point, sure = pointwise(_by_table, layer, q0, c0, shared=(tabulated,), at_once=_AT_ONCE)
    if validation.is_traced(sure):
        return _marked(point, sure)
    if bool(jnp.all(sure)):
        return point
    index = np.flatnonzero(~np.ravel(sure))
    some = jax.tree.map(lambda x: np.broadcast_to(x, sure.shape).ravel()[index], (layer.prior, q0, c0))
    exact = pointwise(by_dual, dataclasses.replace(layer, prior=some[0]), *some[1:])
    place = lambda a, b: a.ravel().at[index].set(b).reshape(a.shape)  # noqa: E731
    return jax.tree.map(place, point, exact)


def _marked(point, sure) -> FixedPoint:
    """NaN and INACCURATE where not sure: inside a trace no other solver can be chosen point by point."""
    blank = masked(point, sure)
    open_point = ~sure & (point.status != Status.INVALID)
    return dataclasses.replace(blank, status=jnp.where(open_point, Status.INACCURATE, blank.status))


def _by_table(layer, q0, c0, tabulated) -> tuple[FixedPoint, jax.Array]:
    valid = layer.is_valid() & jnp.isfinite(q0) & (q0 >= 0) & (jnp.abs(c0) <= 1)
    layer = layer.guarded(valid)
    layer = dataclasses.replace(layer, dual=tabulated.dual)
    q0, c0 = jnp.where(valid, q0, 1.0), jnp.where(valid, c0, 0.0)
    q, status, sure = regular_variance(layer, tabulated.scan, q0)
    finite = status == Status.CONVERGED
    here, solved = regular_point(layer, q, c0)
    point = jax.tree.map(lambda a, b: jnp.where(finite, a, b), here, at_limit(layer, status, c0))
    return masked(point, valid), sure & (solved | ~finite) | ~valid


def regular_variance(layer, scan, q0):
    """(q*, status, sure) reached from q0, for a layer whose dual is tabulated. Scalars."""
    prior, dual = jax.lax.stop_gradient((layer.prior, layer.dual))
    start = jax.lax.stop_gradient(q0)
    eps = jnp.finfo(start.dtype).eps
    excess = _excess(prior, dual, start)
    direction = jnp.where(excess > 0, 1, -1).astype(jnp.int32)
    stop, first = _first_stop(scan, prior, jnp.log(start), direction, excess.dtype)
    none = stop == _NOWHERE
    crossing = ~none & (stop % 2 == 1)
    node = first + (direction * stop + 1) // 2
    left = jnp.where(crossing, jnp.where(direction > 0, node - 1, node), 1)
    guess, clear = _between(scan, prior, left)
    q, solved = _polished(prior, dual, guess)
    q = jnp.where(crossing & solved, q, 1.0)
    q = jax.lax.custom_root(
        lambda q: jnp.where(crossing & solved, layer.variance_map(q) / q - 1, 1 - q),
        q,
        lambda _, solution: solution,
        lambda gap, y: y / gap(jnp.ones_like(y)),
    )
    end = jnp.where(direction > 0, Status.UNBOUNDED, Status.VANISHING)
    status = jnp.where(none, end, Status.CONVERGED)
    increasing = scan.is_increasing(prior)
    sure = increasing & (start > 0) & (jnp.abs(excess) > 32 * eps)
    sure &= none | (crossing & clear & solved & (left > 0))
    return q, status, sure & layer.is_valid()


def _excess(prior, dual, q):
    """Q(q)/q - 1."""
    return prior.propagate_moments(dual.variance(q), dual.mean(q) ** 2) / q - 1


def _first_stop(scan, prior, x, direction, dtype):
    """The first event on the way from x, as 2 i - 1 for a change of sign at the i-th node ahead and
    2 i for a cell, the i-th after that of x, in which the growth may dip through zero; and the node
    below x.
    """
    first = jnp.clip(jnp.sum(scan.log_q <= x) - 1, 0, scan.log_q.size - 2).astype(jnp.int32)
    rows = scan.linear_form()
    cells = rows.shape[0] - 1
    steps = -(-cells // _UNROLLED)
    ahead = jnp.pad(rows[1:], ((0, steps * _UNROLLED - cells), (0, 0)), mode="edge")
    index = jnp.arange(steps * _UNROLLED, dtype=jnp.int32)
    sign = direction.astype(dtype)

    def at(row):
        return [sign * g for g in _growth_at(prior, row)]

    def step(state, given):
        (g0, e0, best), (rows, index) = state, given
        for k in range(_UNROLLED):
            g1, e1 = at(rows[k])
            # A convex function lies above its tangents, which meet inside the cell.
            mean = g0 * e1 - g1 * e0
            dip = (e0 < 0) & (e1 > 0) & (mean + e0 * e1 * rows[k, -1] <= mean / 4)
            away = direction * 2 * (index[k] - first)
            event = jnp.where(dip & (away >= 0), away, _NOWHERE)
            # The node at the cell's upper end, and for the first cell that at its lower too.
            turned = jnp.where((g1 <= 0) & (away + direction > 0), away + direction, _NOWHERE)
            best = jnp.minimum(best, jnp.minimum(event, turned))
            g0, e0 = g1, e1
        return (g0, e0, best), None

    g, e = at(rows[0])
    lowest = jnp.where((g <= 0) & (direction < 0), 1 + 2 * first, _NOWHERE)
    (_, _, best), _ = jax.lax.scan(
        step, (g, e, lowest), (ahead.reshape(steps, _UNROLLED, -1), index.reshape(steps, -1))
    )
    return best, first


def _growth_at(prior, row):
    """Q/q - 1 and its slope in log q at one node of the scan."""
    weight = prior.weight_var
    common = weight * (1 - prior.anticorrelation)
    value = weight * row[0] + common * row[1] + prior.bias_var * row[2]
    slope = weight * row[3] + common * row[4] - prior.bias_var * row[2]
    return value - 1, slope


def _between(scan, prior, left):
    """Where the growth vanishes between two nodes, by inverse cubic interpolation; if it clearly does."""
    rows = scan.linear_form()
    at = lambda array, i: array.at[i].get(mode="promise_in_bounds")  # noqa: E731
    low, high = ([at(rows[:, k], i) for k in range(5)] for i in (left, left + 1))
    (g0, d0), (g1, d1) = _growth_at(prior, low), _growth_at(prior, high)
    x0, x1 = at(scan.log_q, left), at(scan.log_q, left + 1)
    width, drop = x1 - x0, g0 - g1
    clear = (g0 > 0) & (g1 < 0)
    drop = jnp.where(clear, drop, 1.0)
    t = jnp.clip(g0 / drop, 0.0, 1.0)
    slopes = (jnp.clip(-drop / jnp.where(d == 0, -1e-300, d), 0.0, 3 * width) for d in (d0, d1))
    m0, m1 = (jnp.where(d < 0, m, 3 * width) for d, m in zip((d0, d1), slopes, strict=True))
    x = x0 + width * t * t * (3 - 2 * t) + t * (1 - t) * ((1 - t) * m0 - t * m1)
    noise = jnp.maximum(at(scan.error, left), at(scan.error, left + 1)) + 1e-14
    return jnp.exp(x), clear & (g0 > noise) & (g1 < -noise)


def _polished(prior, dual: TabulatedDual, guess):
    """q* by Newton's method on the polynomials of one cell; whether it ends in rounding, within it."""
    cell, place = cell_of(guess)
    mean_line, variance_line = dual.line_coefficients(cell)
    rate = slope_of_place
    weight, common = prior.weight_var, prior.weight_var * (1 - prior.anticorrelation)

    def growth(place):
        q = q_of_place(cell, place)
        (shift, shift_slope), (variance, variance_slope) = (
            horner(mean_line, place),
            horner(variance_line, place),
        )
        origin = dual.origin / jnp.sqrt(q)
        mean, mean_slope = origin + shift, rate * shift_slope - origin / 2
        bias = prior.bias_var / q
        value = weight * variance + common * mean**2 + bias - 1
        return q, value, weight * rate * variance_slope + 2 * common * mean * mean_slope - bias

    for _ in range(_STEPS):
        _, value, slope = growth(place)
        place = place - rate * value / jnp.where(slope == 0, 1.0, slope)
    q, value, slope = growth(place)
    eps = jnp.finfo(q.dtype).eps
    solved = (jnp.abs(value) <= 64 * eps * jnp.maximum(1.0, jnp.abs(slope + 1))) & (jnp.abs(place) < 1.2)
    return q, solved & (slope < 0)


def regular_point(layer, q, c0):
    """(fixed point, sure) at a finite, stable variance, for a layer whose dual is tabulated. Scalars."""
    one = jnp.ones_like(q)
    image, chi_q = jax.jvp(layer.variance_map, (q,), (one,))
    scale = q / jnp.where(image == 0, 1.0, image)
    section = layer.dual.section(q)
    chi_perp = layer.prior.weight_var * section.end(0)
    chi_1 = chi_perp * scale
    eps = jnp.finfo(q.dtype).eps
    chaotic = chi_1 > 1 + 16 * eps
    weight = layer.prior.weight_var * scale
    weight = jnp.where(chaotic, weight, 1.0)
    s = jax.lax.stop_gradient(section.start(1 / weight))
    column = jnp.clip(whole(s), 0, section.columns() - 1)
    cell = section.cell(column)
    theta, solved = _angle(*jax.lax.stop_gradient((section, cell, 1 / weight)), s, column)
    theta = jnp.where(chaotic & solved, theta, 1.0)

    def chord(theta):
        return section.chord_and_slope(theta, column, cell)[0]

    theta = jax.lax.custom_root(
        lambda theta: jnp.where(chaotic & solved, weight * chord(theta) - 1, 1.0 - theta),
        theta,
        lambda _, solution: solution,
        lambda gap, y: y / gap(jnp.ones_like(y)),
    )
    value, slope = section.chord_and_slope(theta, column, cell)
    half = jnp.where(chaotic, theta / 2, 0.0)
    sine = jnp.sin(half)
    one_minus_c = 2 * sine**2
    chi_c = weight * (value + sine / jnp.sqrt(1 - sine**2) * slope)
    chi_c = jnp.where(chaotic, chi_c, chi_1)
    status = jnp.full(q.shape, Status.CONVERGED, jnp.int32)
    point = FixedPoint(
        q,
        1 - one_minus_c,
        one_minus_c,
        chi_q,
        chi_c,
        chi_1,
        chi_perp,
        status,
        phase_of(chi_1).astype(jnp.int32),
    )
    # C is convex: its slope at c* is as far below 1 as chi_1 is above, or further.
    convex = (chi_c < (1 + chi_1) / 2) | (jnp.abs(chi_1 - 1) <= eps ** (2 / 3))
    sure = (jnp.abs(chi_q) <= 1) & (jnp.abs(c0) < 1) & (layer.dual.error(q) <= eps**0.65)
    return point, sure & (~chaotic | (solved & convex))


def _angle(section, coefficients, chord, s, column):
    """(theta, whether it is solved) where the chord, given in the cell of a first guess s, takes a value."""
    lowest = jnp.where(column == 0, -1.0, -1.3)  # theta > 0
    place = 2 * (s - column) - 1
    for _ in range(_STEPS):
        value, slope = horner(coefficients, place)
        new = place - (value - chord) / jnp.where(slope == 0, 1.0, slope)
        # Beyond theta = 0 by rounding or a poor guess: half-way there.
        place = jnp.where(new < lowest, (place + lowest) / 2, new)
    value, slope = horner(coefficients, place)
    eps = jnp.finfo(chord.dtype).eps
    theta = section.angle((column + (place + 1) / 2) / section.columns())
    solved = jnp.abs(value / chord - 1) <= 64 * eps * (1 + 1 / jnp.maximum(theta, eps))
    return theta, solved & (jnp.abs(place) < 1.3) & (slope < 0)
