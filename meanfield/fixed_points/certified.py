r"""Where the variance ends, with every other fixed point on the way excluded by a bound.

What is tabulated is the growth g = Q(q)/q - 1 over x = log q, with its slope, at the Chebyshev points of
panels that are the same for all priors. Between two nodes it lies within w^4/384 max |g''''| of the cubic
through both. A series through the nodes of a panel says what that derivative is, and what the series leaves
out has a bound that is known beforehand, whatever the activation: as a function of x a Gaussian moment of
phi^2 is analytic in the strip |Im x| < pi/2, where it is no larger than at a larger variance,

    |V(x + iy)| <= V(x - log cos y) / sqrt(cos y),

so that the series converges as geometric ones do. A cell in which the cubic clears zero by more than the
bound holds no fixed point; any other is cut until it does, or holds one alone, or until rounding would
decide.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from meanfield.dual.tables.cells import LOWEST, PANELS, ROWS, chebyshev_points, to_series
from meanfield.status import Status

_HALF = math.log(2.0)  # half the width of a panel in log q
_LOG_Q = (_HALF * (LOWEST + 2.0 * np.arange(PANELS)[:, None] + 1 + chebyshev_points(ROWS)[::-1])).ravel()
_HEIGHT = 1.4  # of the strip in which values are bounded
_RATE = _HEIGHT / _HALF + math.hypot(1, _HEIGHT / _HALF)  # at which a series converges
_orders = np.arange(ROWS, 8 * ROWS)
# Fourth derivatives of what a series leaves out, for values up to 1 in the strip.
_LEFT_OUT = float(np.sum(2 * _RATE**-_orders * _orders**8 / 105)) / _HALF**4 / math.cos(_HEIGHT) ** 2
_BEYOND = 4 * _RATE**-ROWS / (1 - 1 / _RATE) / math.cos(_HEIGHT) ** 2  # what it leaves out
_AHEAD = math.ceil(
    (_HALF + _HEIGHT - math.log(math.cos(_HEIGHT))) / (2 * _HALF)
)  # panels whose values bound those
_RADII = (1.0, 0.5, 0.25)  # of circles in Cauchy's estimate, where values grow too quickly for a series
_PIECES, _DEEPEST = 8, 4  # that a cell is cut into, how often
_NOISE = 64 * np.finfo(float).eps
_CAUTION = 4  # an estimated error may be too small by chance
_TRIED = 5  # of so many nodes one tells the error
_LOUD = 1e-3  # relative error of the growth beyond which nothing is said
_MOST_LAYERS = 300
_SETTLED = 1e-3  # growth of an orbit about to end
_STEPS = 60


@dataclass(frozen=True)
class Rows:
    """What the growth is made of at variances exp(log_q), and ``moment_errors`` there."""

    log_q: np.ndarray
    rows: np.ndarray
    error: np.ndarray

    @classmethod
    def at_nodes(cls, layer: Any) -> "Rows":
        """At all nodes.

        Their error is found at some: that of a panel is the largest there and beside it, and infinite between
        nodes of which one says so. A variance that is next to nothing has a large relative error there, which
        says nothing of larger ones: for these the largest absolute one counts, where it is less.
        """
        q = np.exp(_LOG_Q)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = np.asarray(layer.growth_rows(q))
            variance = rows[:, 0] * q
            error = layer.moment_errors(q[::_TRIED])
            absolute = _around_panels(error[0] * variance[::_TRIED]) / np.where(
                variance > 0, variance, np.inf
            )
        unknown = np.pad(np.isinf(error), [(0, 0), (0, 1)], mode="edge")
        unknown = np.repeat(unknown[:, 1:] | unknown[:, :-1], _TRIED, axis=1)
        error = np.stack([np.fmin(_around_panels(error[0]), absolute), _around_panels(error[1])])
        return cls(_LOG_Q, rows, _CAUTION * np.where(unknown, np.inf, error).T)

    @classmethod
    def at(cls, layer: Any, q: np.ndarray) -> "Rows":
        """At some variances."""
        return cls(np.log(q), np.asarray(layer.growth_rows(q)), layer.moment_errors(q).T)

    @property
    def uncertain(self) -> np.ndarray:
        """By how much the rows may be wrong."""
        rows, (variance, square) = np.zeros_like(self.rows), self.rows[:, :2].T
        rows[:, 0], rows[:, 1] = variance * self.error[:, 0], (3 * square + variance) * self.error[:, 1]
        return rows


def _around_panels(error: np.ndarray) -> np.ndarray:
    """The largest finite value among the tried nodes of a panel and of those beside it, at every node."""
    known = np.where(np.isfinite(error), error, 0.0).reshape(PANELS, -1)
    largest = np.pad(np.max(known, axis=1), 1, mode="edge")
    return np.repeat(np.maximum(np.maximum(largest[:-2], largest[2:]), largest[1:-1]), ROWS)


@dataclass(frozen=True)
class Reached:
    """Where the variance ends. chi_q: Q'(q*).

    status: None where this is not the way to find out; INACCURATE where rounding alone would decide.
    """

    q: float
    status: int | None
    chi_q: float = math.nan


_UNKNOWN, _DOUBTFUL = Reached(math.nan, None), Reached(math.nan, Status.INACCURATE)


def variance_reached_surely(layer: Any, q0: float, rows: Rows) -> Reached:
    """Where signals of variance q0 end, for a layer with adaptive moments and a ``growth_size``.

    rows: at its nodes. Where Q falls, its orbit is followed until it increases all the way, or settles.
    """
    walk, q = _Walk(layer, rows), q0
    for _ in range(_MOST_LAYERS):
        if not (q < np.inf and q > 0 and _LOG_Q[0] < math.log(q) < _LOG_Q[-1]):
            return _UNKNOWN
        start = walk.at(math.log(q))
        if abs(start.growth) <= start.noise:
            return walk.from_nowhere(start)
        reached = walk.from_node(start)
        if reached.status == Status.INACCURATE:
            return reached
        end = math.log(reached.q) if math.isfinite(reached.q) else math.copysign(math.inf, start.growth)
        if walk.is_increasing(*sorted((start.x, end))):
            return reached
        if abs(start.growth) < _SETTLED and abs(start.slope + 1) < 1:
            return walk.staying(start)
        q *= start.growth + 1
    return _UNKNOWN


class _Node(NamedTuple):
    x: float
    growth: float
    slope: float
    noise: float
    least: float
    """A bound of Q(s)/s (s/q)^(3/2) above."""


class _Walk:
    """The way of the variance from node to node."""

    def __init__(self, layer: Any, rows: Rows):
        self._layer, self._rows = layer, rows
        self._nodes = self._judged(rows)
        growth = np.nan_to_num([n.growth for n in self._nodes], posinf=0.0).reshape(PANELS, ROWS)
        series = growth[:, ::-1] @ to_series(ROWS).T
        places, cheb = chebyshev_points(ROWS)[::-1], np.polynomial.chebyshev
        self._slopes = (cheb.chebder(series, 1, axis=1) / _HALF @ cheb.chebvander(places, ROWS - 2).T).ravel()
        fourth = cheb.chebder(series, 4, axis=1) / _HALF**4
        seen = 1.2 * np.max(
            np.abs(fourth @ cheb.chebvander(np.linspace(-1, 1, 8 * ROWS), ROWS - 5).T), axis=1
        )
        self._size = np.nan_to_num(np.asarray(sum(layer.growth_size(rows.rows)), float), nan=np.inf)
        largest = np.pad(self._size.reshape(PANELS, ROWS).max(axis=1), _AHEAD, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(largest, 2 * _AHEAD + 1)
        self._seen, self._left_out = seen, np.max(around, axis=1)
        self._lowest, self._highest = self._clear_of_rounding()

    def _clear_of_rounding(self) -> tuple[np.ndarray, np.ndarray]:
        """(lowest, highest) growth in the cells between nodes, by the series of a panel, shape (nodes - 1,).

        Widened by all that may be wrong; between two panels nothing is said.
        """
        x, growth, noise = (
            np.array([getattr(n, name) for n in self._nodes]) for name in ("x", "growth", "noise")
        )
        width, panel = np.diff(x), np.arange(x.size - 1) // ROWS
        with np.errstate(invalid="ignore", over="ignore"):
            slopes = self._slopes[:-1] * width, self._slopes[1:] * width
            unsure = self._seen[panel] * width**4 / 384 + _BEYOND * self._left_out[panel]
            unsure += np.maximum(noise[:-1], noise[1:])
            unsure[ROWS - 1 :: ROWS] = np.inf
            lowest, highest = _extremes(growth[:-1], growth[1:], *slopes)
            return lowest - unsure, highest + unsure

    def _bound(self, low: float, high: float) -> float:
        """How far the growth may lie from the cubic between two places."""
        panels = [min(max(int((x / _HALF - LOWEST) // 2), 0), PANELS - 1) for x in (low, high)]
        fourth = float(np.max(self._seen[panels] + _LEFT_OUT * self._left_out[panels]))
        for radius in _RADII:
            ends = low - radius, high + radius - math.log(math.cos(radius))
            inside = slice(max(np.searchsorted(_LOG_Q, ends[0]) - 1, 0), np.searchsorted(_LOG_Q, ends[1]) + 1)
            cauchy = 24 / radius**4 / math.cos(radius) ** 2 * float(np.max(self._size[inside]))
            fourth = min(fourth, cauchy)
        return fourth * (high - low) ** 4 / 384

    def _judged(self, rows: Rows) -> list[_Node]:
        """A growth that is no number is that of squares which overflow."""
        ratio, slope = (np.asarray(a, float) for a in self._layer.growth_from(rows.rows))
        growth = np.where(np.isnan(ratio), np.inf, ratio - 1)
        with np.errstate(invalid="ignore"):
            unsure = self._layer.growth_uncertainty(rows.uncertain)
            noise = np.nan_to_num(_NOISE * (np.abs(growth) + 1) + unsure, nan=np.inf)
        least = np.asarray(self._layer.least_ratio(rows.rows), float) - noise
        columns = (x.tolist() for x in (rows.log_q, growth, slope, noise, least))
        return [*itertools.starmap(_Node, zip(*columns, strict=True))]

    def is_increasing(self, low: float, high: float) -> bool:
        """Whether Q increases from node to node between two places, as far as that is known."""
        inside = slice(max(int(np.searchsorted(_LOG_Q, low)) - 1, 0), int(np.searchsorted(_LOG_Q, high)) + 1)
        nodes = [*itertools.takewhile(_is_told, self._nodes[inside])]
        image = np.array([(n.growth + 1) * math.exp(n.x) for n in nodes])
        return bool(np.all(np.diff(image) >= -1e-11 * image[1:]))

    def at(self, x: float) -> _Node:
        return self._made(np.array([x]))[0]

    def _made(self, x: np.ndarray) -> list[_Node]:
        error = self._rows.error[np.minimum(np.searchsorted(_LOG_Q, x), _LOG_Q.size - 1)]
        return self._judged(Rows(x, np.asarray(self._layer.growth_rows(np.exp(x))), error))

    def from_node(self, start: _Node) -> Reached:
        upward = start.growth > 0
        first = int(np.searchsorted(_LOG_Q, start.x, "right" if upward else "left"))
        ahead = self._nodes[first:] if upward else self._nodes[:first][::-1]
        excluded = self._lowest[first:] > 0 if upward else self._highest[: max(first - 1, 0)][::-1] < 0
        end = Reached(math.nan, Status.UNBOUNDED if upward else Status.VANISHING)
        for i in (0, *(np.flatnonzero(~excluded) + 1)):
            if i == len(ahead):
                break
            near, far = ahead[i - 1] if i else start, ahead[i]
            if _say_nothing(near, *ahead[i:]):
                return end
            found = self._crossing(near, far, 1 if upward else -1, 0)
            if found is not None:
                return end if upward and _run_away(ahead[i:]) else found
        return end

    def from_nowhere(self, node: _Node) -> Reached:
        """From where rounding hides whether signals grow: a fixed point right there, if it draws them."""
        if _run_away([node, *(n for n in self._nodes if n.x > node.x)]):
            return Reached(math.nan, Status.UNBOUNDED)
        return self.staying(node)

    def staying(self, node: _Node) -> Reached:
        """The fixed point at a node or next to it, if signals are drawn to it."""
        reach = self._reach(node)
        low, high = self.at(node.x - reach), self.at(node.x + reach)
        clear = low.growth > low.noise and high.growth < -high.noise
        return self._refined(low, high) if clear and abs(node.slope + 1) < 1 else _DOUBTFUL

    @staticmethod
    def _reach(node: _Node) -> float:
        """How far from a node next to a fixed point the growth is clear."""
        return min(max(2 * abs(node.growth), 1e3 * node.noise) / max(abs(node.slope), 1e-3), 0.5)

    def _crossing(self, near: _Node, far: _Node, sign: int, depth: int) -> Reached | None:
        """The first fixed point on the way from one node to another; None if there is none."""
        width = abs(far.x - near.x)
        f0, f1, d0, d1 = sign * near.growth, sign * far.growth, near.slope * width, far.slope * width
        noise = max(near.noise, far.noise)
        bound = self._bound(min(near.x, far.x), max(near.x, far.x)) + noise
        if not (_is_told(near) and _is_told(far) and math.isfinite(d0) and math.isfinite(d1)):
            return _DOUBTFUL
        if abs(far.growth) <= far.noise and depth < _DEEPEST:
            return self._at_node(near, far, sign, depth)
        if (sign > 0 and near.least * math.exp(-1.5 * width) > 1) or _extremes(f0, f1, d0, d1)[0] > bound:
            return None
        if f1 < -far.noise and max(_steepest(f0, f1, d0, d1)) < -16 * bound:
            return self._refined(near, far)
        if depth == _DEEPEST or (abs(f0) <= near.noise and abs(f1) <= far.noise):
            return _DOUBTFUL
        # Many at once cost little more than one.
        inner = self._made(np.linspace(near.x, far.x, _PIECES + 1)[1:-1])
        parts = (self._crossing(*pair, sign, depth + 1) for pair in itertools.pairwise([near, *inner, far]))
        return next((found for found in parts if found is not None), None)

    def _at_node(self, near: _Node, far: _Node, sign: int, depth: int) -> Reached | None:
        """The first fixed point on the way to a node where rounding hides the growth: there, or before."""
        before = self.at(far.x - sign * self._reach(far))
        if not (sign * (before.x - near.x) > 0 and sign * before.growth > before.noise):
            return _DOUBTFUL
        first = self._crossing(near, before, sign, depth + 1)
        return first if first is not None else self.staying(far)

    def _refined(self, near: _Node, far: _Node) -> Reached:
        """The one fixed point between two nodes, by Newton's method in log q kept between them."""
        a, b = (near, far) if near.x < far.x else (far, near)
        low, high, falling = a.x, b.x, a.growth > b.growth
        x = low + (high - low) * a.growth / (a.growth - b.growth)
        eps = np.finfo(float).eps
        for _ in range(_STEPS):
            node = self.at(x)
            if (node.growth > 0) == falling:
                low = x
            else:
                high = x
            new = x - math.log1p(node.growth) * (1 + node.growth) / node.slope if node.slope else math.nan
            if abs(node.growth) <= 4 * eps:
                break
            new = new if low <= new <= high else (low + high) / 2
            if abs(new - x) <= 2 * eps * max(1.0, abs(x)):
                break
            x = new
        return Reached(math.exp(x), Status.CONVERGED, node.slope + node.growth + 1)


def _is_told(node: _Node) -> bool:
    """Whether the growth is known at all."""
    return math.isfinite(node.growth) and node.noise < _LOUD * (1 + abs(node.growth))


def _say_nothing(*nodes: _Node) -> bool:
    """Whether next to rounding decides at each of these: what was told before them then holds."""
    return all(abs(n.growth) <= 8 * n.noise < _LOUD for n in nodes)


def _run_away(nodes: list[_Node]) -> bool:
    """Whether signals grow at each of these until their squares overflow, whatever the error."""
    return math.isinf(nodes[-1].growth) and all(n.growth > 1 for n in nodes)


def _extremes(f0, f1, d0, d1) -> tuple[Any, Any]:
    """(smallest, largest) value on [0, 1] of the cubic with these values and slopes at its ends: arrays."""
    a, b = 2 * (f0 - f1) + d0 + d1, 3 * (f1 - f0) - 2 * d0 - d1
    lowest, highest = np.minimum(f0, f1), np.maximum(f0, f1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        t = -(b + np.copysign(np.sqrt(b * b - 3 * a * d0), b))
        for place in (t / (3 * a), d0 / t):
            s = np.where((place > 0) & (place < 1), place, 0.0)
            value = f0 + s * (d0 + s * (b + s * a))
            lowest, highest = np.minimum(lowest, value), np.maximum(highest, value)
    return lowest, highest


def _steepest(f0, f1, d0, d1) -> tuple[float, float]:
    """Bounds of the cubic's slope on [0, 1]: at its ends or where its curvature vanishes."""
    a, b = 2 * (f0 - f1) + d0 + d1, 3 * (f1 - f0) - 2 * d0 - d1
    s = -b / (3 * a) if a else 0.0
    return max(d0, d1), d0 + s * (2 * b + 3 * a * s) if 0 < s < 1 else max(d0, d1)
