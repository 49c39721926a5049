"""Fixed points of a few layers on the host, whatever their activation: only that itself is compiled.

The variance comes from a table of the mean and variance, by the programs that serve every table. The
correlation at it is solved here, with moments whose panels are laid from a survey of the activation.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual import tables_of
from meanfield.fixed_points.certified import Rows
from meanfield.fixed_points.correlation import at_variance
from meanfield.fixed_points.one_by_one import MOST_POINTS, OneByOne
from meanfield.fixed_points.strategies import (
    ALL_FIELDS,
    INTEGERS,
    Points,
    PointSolver,
    Values,
    fill,
    is_limit,
    limit_job,
    on_host,
    padded,
    run_job,
    store,
    variances_reached,
)
from meanfield.layers import Layer
from meanfield.layers.limits import LimitMap
from meanfield.numerics.broadcasting import chosen
from meanfield.numerics.pytrees import register_dataclass
from meanfield.status import Phase, Status

_STEPS = 60
_NOTHING = 1e-25  # of chi_1: slopes that only tails of the Gaussian reach
_HARMLESS = 0.01  # share of an error that counts where signals merge at once, whatever the rate exactly is


@register_dataclass
@dataclass(frozen=True, eq=False)
class SolvedLayer(Layer):
    """A layer at the one variance and angle at which it is needed: numbers that were computed before.

    image: Q(q). chi_q: Q'(q). chi_perp: the gain at theta = 0. theta, gain, rate: the angle of the fixed
    point, the gain and C'(c*) Q(q)/q there. opposite: 1 - C(-1). accuracy, map_accuracy: relative errors of
    all moments, and of Q(q) alone.
    """

    image: Any
    chi_q: Any
    chi_perp: Any
    theta: Any
    gain: Any
    rate: Any
    opposite: Any
    accuracy: Any
    map_accuracy: Any

    def variance_map(self, q):
        return self.image + self.chi_q * (q - jax.lax.stop_gradient(q))

    def pair_gain(self, q, theta):
        return self.gain

    def covariance_map(self, q1, q2, c):
        raise NotImplementedError

    def tangent(self, q):
        return self.chi_perp

    def slope(self, q, theta):
        return self.rate

    def fixed_angle(self, q, scale, chi_1):
        return self.theta

    def opposite_gap(self, q):
        return self.opposite

    def limit(self, at_zero):
        return LimitMap.unknown(self.image)

    def error(self, q):
        return self.accuracy

    def growth_error(self, q):
        return self.map_accuracy


def solved_layer(layer: Any, q: float, chi_q: float, opposite: bool) -> SolvedLayer:
    """A layer with concrete parameters and adaptive moments, solved at a variance that is a fixed point."""
    image, chi_perp = float(layer.variance_map(q)), float(layer.tangent(q))
    scale = q / image
    chi_1 = chi_perp * scale
    of_map, error = _errors(layer, q, chi_1)
    theta, gain, rate = _angle(layer, q, scale, chi_1) if math.isfinite(error) else (0.0, chi_perp, chi_perp)
    if not math.isfinite(gain):
        theta, error = 0.0, math.inf
    gap = float(layer.opposite_gap(q)) if opposite else 1.0
    return SolvedLayer(image, chi_q, chi_perp, theta, gain, rate, gap, error, of_map)


def _errors(layer, q, chi_1) -> tuple[float, float]:
    """Of Q(q), and of it and the gain the larger, relative. What adds nothing to them may have any error."""
    if not layer.is_sum_of_moments:
        return float(layer.growth_error(q)), float(layer.error(q))
    rows = Rows.at(layer, np.array([q]))
    uncertain = layer.growth_uncertainty(rows.uncertain)
    of_map = float(uncertain[0]) / float(layer.growth_from(rows.rows)[0][0])
    if chi_1 <= _NOTHING:
        return of_map, of_map
    return of_map, max(of_map, float(layer.slope_error(q)) * (_HARMLESS if chi_1 < 0.5 else 1.0))


def _angle(layer, q, scale, chi_1) -> tuple[float, float, float]:
    """(theta*, gain, C'(c*)/scale there), 0 for theta* where chi_1 <= 1.

    The gain falls from chi_1/scale at x = 1 - c = 0 on. The inverse of gain * scale is about 1/chi_1 + a x^p:
    with p = 1 near criticality and where pairs are nearly independent, with p < 1 where the slope at 0 is
    infinite. Each step solves that, by the value and slope at the last place, kept between the places that
    enclose the root.
    """
    eps = np.finfo(float).eps
    if not chi_1 > 1 + 32 * eps:
        return 0.0, chi_1 / scale, chi_1 / scale
    at_zero, low, x, high = 1 / chi_1, 0.0, 1.0, 1.0
    for step in range(_STEPS):
        theta = 2 * math.asin(math.sqrt(x / 2))
        gain, rate = float(layer.pair_gain(q, theta)), float(layer.slope(q, theta))
        value = gain * scale - 1
        if not math.isfinite(value):
            break
        if (step == 0 and value >= -4 * eps) or abs(value) <= 8 * eps * (1 + 1 / theta):
            break
        low, high = (x, high) if value > 0 else (low, x)
        new = math.nan
        if 0 < gain * scale < chi_1 and rate < gain:
            inverse = 1 / (gain * scale)
            power = inverse * (1 - rate / gain) / (inverse - at_zero)
            new = x * ((1 - at_zero) / (inverse - at_zero)) ** (1 / power)
        if not low < new < high or (step > 8 and step % 4 == 0):
            new = math.sqrt(low * high) if low > 0 else high / 16
        if abs(new - x) <= 2 * eps * x:
            break
        x = new
    return theta, gain, rate


def assembled(layer: SolvedLayer, q, status, c0, opposite):
    """The fields of ``FixedPoint`` from what was solved. Scalars."""
    return vars(at_variance(layer, q, status, c0, opposite))


def rates(layer, q):
    """chi_q of a layer whose mean and variance are tabulated. Scalars."""
    return {"chi_q": jax.jvp(layer.variance_map, (q,), (jnp.ones_like(q),))[1]}


class AdaptiveSolver(PointSolver):
    """A few points one by one on the host, whatever the activation; by a table of the variance where that
    does not increase with certainty."""

    most = MOST_POINTS

    def __init__(self, points: Points, example: Layer):
        self._points, self._opposite = points, points.may_be_opposite
        self._moments, self._one_by_one = example.moments(), OneByOne(example)

    def solve(self, columns, device=None):
        plain, q0, c0 = self._points.at(columns)
        size = len(columns[0])
        run = functools.partial(run_job, device, optimization=0)
        once = functools.cache(self._one_by_one.reached)  # what pads a chunk is one point
        layers = [self._one_by_one.leaves(plain, i) for i in range(size)]
        starts = np.broadcast_to(q0, size)
        reached = [once(leaves, float(start)) for leaves, start in zip(layers, starts, strict=True)]
        q, chi_q = (np.array([getattr(r, name) for r in reached]) for name in ("q", "chi_q"))
        status = np.array([Status.INVALID if r.status is None else r.status for r in reached])
        open_ones, limits = (
            np.array([r.status in (None, Status.INACCURATE) for r in reached]),
            is_limit(status),
        )
        if np.any(open_ones | limits):
            lines = plain.with_moments(iter([tables_of(d, a).lines_alone.alone() for a, d in self._moments]))
        if np.any(open_ones):
            found = variances_reached(run, lines, q0, (size,))
            rate = on_host(run(rates, lines, found["q"]))["chi_q"]
            q, chi_q = np.where(open_ones, found["q"], q), np.where(open_ones, rate, chi_q)
            doubtful = (status == Status.INACCURATE) & (found["status"] == Status.CONVERGED)
            status = np.where(open_ones & ~doubtful, found["status"], status)
            limits = is_limit(status)
        values = _invalid(size)
        job = functools.partial(run, limit_job, opposite=self._opposite)
        if np.any(limits):
            fill(values, limits, job, lines, q, status, c0, shapes=(size,))
        (finite,) = np.nonzero(~limits & (status != Status.INVALID))
        if finite.size:
            solved = functools.cache(self._solved)
            parts = [solved(layers[i], q[i], chi_q[i]) for i in finite]
            together = jax.tree.map(lambda *x: padded(np.array(x), size), *parts)
            place = padded(finite, size)
            job = functools.partial(run, assembled, opposite=self._opposite)
            store(values, finite, on_host(job(together, *chosen(place, q, status, c0))), finite.size)
        return values

    def _solved(self, leaves, q, chi_q) -> SolvedLayer:
        return solved_layer(self._one_by_one.layer(leaves), float(q), float(chi_q), self._opposite)


def _invalid(size: int) -> Values:
    codes = {"status": Status.INVALID, "phase": Phase.UNDEFINED}
    types = dict.fromkeys(ALL_FIELDS, np.float64) | dict.fromkeys(INTEGERS, np.int32)
    return {name: np.full(size, codes.get(name, np.nan), types[name]) for name in ALL_FIELDS}
