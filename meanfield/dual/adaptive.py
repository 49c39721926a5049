r"""Gaussian moments of any activation on the host, by panels laid from a survey of it.

What is integrated is cut where the activation is not smooth, at every scale that it has, and as far out as
its growth asks for. Nothing but phi is compiled, so a moment costs the same for the hundredth activation as
for the first. Pairs are taken apart into what they share and what they do not: with
u_i = sqrt(q) (sqrt(c) z + sqrt(1-c) w_i),

    E (phi(u_1) - phi(u_2))^2 / 2 = E_z Var_w phi,    q (1-c) E phi'(u_1) phi'(u_2) = E_z (E_w w phi)^2,

sums of squares in which nothing cancels. Every moment comes with an estimate of its error: the difference
to panels of another width and order, laid between the first.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

from meanfield.activations.activation import Activation
from meanfield.activations.survey import Survey, survey
from meanfield.activations.values import slopes_of, values_of
from meanfield.dual.base import Dual
from meanfield.numerics.memo import Memo

_RULES = (
    (2.0, 22, 0.0),
    (1.5, 20, 0.37),
)  # width of panels in standard deviations, nodes, shift: the rule, its check
_LONGEST = 200.0  # standard deviations
_TOO_MANY, _AT_ONCE = 10_000_000, 1_000_000  # nodes of a pair, in all and in memory
_NEAR = 9.0  # standard deviations at which a small feature is felt


def moments_of(activation: Activation) -> "AdaptiveMoments":
    """The moments of an activation with concrete parameters, one object in a process."""
    return _KNOWN(activation.key, lambda: AdaptiveMoments(activation))


_KNOWN: Memo["AdaptiveMoments"] = Memo(64)


class AdaptiveDual(Dual):
    """The moments as a source for a layer's methods, called with numbers: nothing is traced through it."""

    is_closed_form = False

    def __init__(self, moments: "AdaptiveMoments"):
        self._moments = moments
        self._last: tuple[float, float, Pair] | None = None

    def mean_shift(self, q):
        return self._moments.lines(np.array([q]))[0][0]

    def mean(self, q):
        return self._moments.origin + self.mean_shift(q)

    def variance(self, q):
        return self._moments.lines(np.array([q]))[1][0]

    def slope_moment(self, q):
        return self._moments.slope_moment(np.array([q]))[0]

    def chord(self, q, theta):
        return self._pair(q, theta).chord

    def slope_covariance(self, q, theta):
        return self._pair(q, theta).slope

    def line_rates(self, q):
        return self._moments.line_rates(q)

    def line_error(self, q):
        return self._moments.line_error(q)

    def _pair(self, q, theta) -> "Pair":
        if self._last is None or self._last[:2] != (q, theta):
            self._last = q, theta, self._moments.pair(q, 2 * math.sin(theta / 2) ** 2)
        return self._last[2]

    def reflected_covariance(self, q):
        return self._moments.reflected_covariance(q)

    def error(self, q):
        """Relative, of mean, variance and slope, by another rule."""
        return self._moments.error(np.array([q]))[0]

    def covariance(self, q1, q2, c):
        raise NotImplementedError

    def separation(self, q, one_minus_c):
        raise NotImplementedError


@dataclass(frozen=True)
class Pair:
    """Moments of two signals of variance q and correlation 1 - x; NaN where they take too many nodes.

    chord: E (phi(u1) - phi(u2))^2 / (2 q x). slope: E phi'(u1) phi'(u2).
    """

    chord: float
    slope: float


class AdaptiveMoments:
    """The moments of ``activation``, which has concrete parameters. All methods are NumPy's, in float64."""

    def __init__(self, activation: Activation):
        given = activation.as_it_is().program, activation.params
        self._value, self._slope = values_of(*given), slopes_of(*given)
        self.survey: Survey = survey(self._value)
        at_zero = float(self._value(np.zeros(1))[0])
        self.origin = at_zero if math.isfinite(at_zero) else 0.0

    # --- one variable ---------------------------------------------------------------

    def lines(self, q: np.ndarray, rule=_RULES[0]) -> tuple[np.ndarray, np.ndarray]:
        """(E phi - phi(0), Var phi) at variances of shape (n,)."""
        shifts, variances = zip(*self._batches(self._lines, q, rule), strict=True)
        return np.concatenate(shifts), np.concatenate(variances)

    def _lines(self, q, rule):
        u, w, owner = self._centred(q, rule)
        value = self._value(u) - self.origin
        shift = _sums(w * value, owner, q.size)
        return shift, _sums(w * (value - shift[owner]) ** 2, owner, q.size)

    def line_rates(self, q: np.ndarray):
        """((Var phi, m^2), their derivatives over q): d/dq of E f(u) is E f(u) (z^2 - 1) / 2q."""
        parts = zip(*self._batches(self._line_rates, q, _RULES[0]), strict=True)
        variance, mean, variance_rate, mean_rate = (np.concatenate(part) for part in parts)
        with np.errstate(over="ignore", invalid="ignore"):
            return (variance, mean**2), (variance_rate, 2 * mean * mean_rate)

    def _line_rates(self, q, rule):
        u, w, owner = self._centred(q, rule)
        value = self._value(u) - self.origin
        shift = _sums(w * value, owner, q.size)
        deviation, bend = value - shift[owner], u**2 / q[owner] - 1
        terms = deviation**2, deviation**2 * bend, deviation * bend
        variance, variance_rate, mean_rate = (_sums(w * x, owner, q.size) for x in terms)
        return variance, self.origin + shift, variance_rate / (2 * q), mean_rate / (2 * q)

    def slope_moment(self, q: np.ndarray, rule=_RULES[0]) -> np.ndarray:
        """E phi'^2; infinite where phi jumps within reach."""
        return np.concatenate(list(self._batches(self._slope_moment, q, rule)))

    def _slope_moment(self, q, rule):
        u, w, owner = self._centred(q, rule)
        smooth = _sums(w * self._slope(u) ** 2, owner, q.size)
        return np.where(self._meets(self.survey.jumps, self._reach(q)), np.inf, smooth)

    def by_rule(self, u: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:
        """(E phi - phi(0), Var phi, E phi'^2) by nodes and weights of one Gaussian."""
        value = self._value(u) - self.origin
        shift = w @ value
        return float(shift), float(w @ (value - shift) ** 2), float(w @ self._slope(u) ** 2)

    def _batches(self, job, q, rule):
        """A job for some variances at a time: its nodes are all in memory."""
        tail = np.minimum(self.survey.tail(q), _LONGEST)
        inside = np.where(self._is_beyond(q), 0, self._sizes(np.zeros_like(q), tail * np.sqrt(q)))
        for part in _parts(rule[1] * (inside + 2 * tail / rule[0] + 2)):
            with np.errstate(over="ignore", invalid="ignore"):
                yield job(q[part], rule)

    def _centred(self, q, rule):
        """Nodes of Gaussians about 0. What meets a rough panel needs no others: it has no accuracy."""
        beyond = self._is_beyond(q)
        tail = np.where(beyond, _NEAR, self.survey.tail(q))
        return self._nodes(np.zeros_like(q), np.sqrt(q), tail, rule, ~beyond)

    def _reach(self, q):
        return self.survey.tail(q) * np.sqrt(q)

    def line_error(self, q: np.ndarray) -> np.ndarray:
        """Of the mean (beside the root of the variance) and of the variance, the larger, relative."""
        (mean, variance), (other_mean, other_variance) = (self.lines(q, rule) for rule in _RULES)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.abs(mean) + np.sqrt(variance)
            error = np.maximum(np.abs(mean - other_mean) / size, np.abs(variance / other_variance - 1))
        error = np.where(variance == other_variance, 0.0, np.nan_to_num(error, nan=np.inf))
        return np.where(self._is_beyond(q), np.inf, error)

    def error(self, q: np.ndarray) -> np.ndarray:
        """The same, and of E phi'^2."""
        slope, other = (self.slope_moment(q, rule) for rule in _RULES)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(slope == other, 0.0, np.abs(slope / other - 1))
        return np.maximum(self.line_error(q), np.nan_to_num(error, nan=np.inf))

    def reflected_covariance(self, q: float) -> float:
        """E phi(u) phi(-u) - m^2."""
        one = np.array([q])
        edges = np.union1d(self.survey.edges, -self.survey.edges)
        u, w, _ = self._nodes(np.zeros(1), np.sqrt(one), self.survey.tail(one), _RULES[0], edges=edges)
        value, other = self._value(u), self._value(-u)
        mean = float(w @ value)
        return float(w @ ((value - mean) * (other - mean)))

    def _is_beyond(self, q) -> np.ndarray:
        """Whether signals of this variance meet what could not be resolved."""
        reach = self._reach(q)
        return (
            (reach > self.survey.end)
            | (reach > _LONGEST * np.sqrt(q))
            | self._meets(self.survey.rough, reach)
        )

    def _meets(self, flags, reach) -> np.ndarray:
        """Whether some flagged panel lies within a distance from the origin, an array."""
        low, high = self.survey.edges[:-1][flags], self.survey.edges[1:][flags]
        nearest = np.min(
            np.where((low < 0) & (high > 0), 0.0, np.minimum(np.abs(low), np.abs(high))), initial=np.inf
        )
        return nearest < reach

    # --- two variables -----------------------------------------------------------------

    def pair(self, q: float, x: float, rule=_RULES[0]) -> Pair:
        """The moments of a pair at 1 - c = x, 0 < x <= 1."""
        tail = float(self.survey.tail(np.array(q)))
        own, common = math.sqrt(q * x), math.sqrt(q * max(1 - x, 0.0))
        z, w_z = self._outer(own, common, tail, rule)
        sizes = self._sizes(common * z, own * tail) + int(2 * tail / rule[0]) + 2
        if rule[1] * np.sum(sizes) > _TOO_MANY:
            return Pair(math.nan, math.nan)
        spread, rise = np.zeros(2)
        for part in _parts(rule[1] * sizes):
            squares = self._parted(common * z[part], own, tail, rule)
            spread, rise = spread + w_z[part] @ squares[0], rise + w_z[part] @ squares[1]
        return Pair(float(spread) / (q * x), float(rise) / (q * x))

    def _sizes(self, centre, reach) -> np.ndarray:
        """Number of the survey's edges within a distance of each centre."""
        edges = self.survey.edges
        return np.searchsorted(edges, centre + reach) - np.searchsorted(edges, centre - reach)

    def _parted(self, centre, own, tail, rule) -> tuple[np.ndarray, np.ndarray]:
        """(Var_w phi, (E_w w phi)^2) about what a pair shares."""
        size = centre.size
        u, w, owner = self._nodes(centre, np.full(size, own), np.full(size, tail), rule)
        value = self._value(u)
        deviation = value - _sums(w * value, owner, size)[owner]
        rise = _sums(w * deviation * (u - centre[owner]) / own, owner, size)
        return _sums(w * deviation**2, owner, size), rise**2

    def _outer(self, own, common, tail, rule):
        """Nodes and weights of what a pair shares: phi is seen through a Gaussian of width ``own``."""
        if common == 0:
            return np.zeros(1), np.ones(1)
        width, nodes, shift = rule
        edges, sizes = self.survey.edges, np.diff(self.survey.edges)
        wide = sizes >= own
        kept = edges[1:-1][wide[1:] | wide[:-1]] / common
        # About what is smaller than that width, panels of that width.
        small = edges[1:-1][~(wide[1:] & wide[:-1])]
        small = small[np.abs(small) <= tail * common + _NEAR * own]
        beside = np.unique(np.floor(small[:, None] / own + np.arange(-_NEAR, _NEAR + 1)))
        uniform = _uniform(-tail, tail, width, shift)
        edges = np.unique(np.concatenate([uniform, kept, (beside + shift) * own / common]))
        edges = edges[(edges >= -tail) & (edges <= tail)]
        x, w = _gauss(nodes)
        step = np.diff(edges)[:, None]
        z = (edges[:-1, None] + step * x).ravel()
        return z, (step * w).ravel() * _bell(z)

    # --- nodes and values ------------------------------------------------------------------

    def _nodes(self, centre, sd, tail, rule, cut=True, edges=None):
        """(nodes, weights, number of the Gaussian they belong to) for many Gaussians, flat arrays.

        cut: whether the edges of the survey (or those given) are those of panels too.
        """
        width, nodes, shift = rule
        low, high = centre - tail * sd, centre + tail * sd
        edges = self.survey.edges if edges is None else edges
        first, last = np.searchsorted(edges, low, "right"), np.searchsorted(edges, high, "left")
        inside, owner = _ranges(first, np.where(cut, np.maximum(last, first), first))
        count = np.ceil(2 * tail / width).astype(int) + 1
        step, number = _ranges(np.zeros_like(count), count)
        place = np.clip((step - shift * (step > 0)) * width, 0.0, 2 * tail[number])
        place = np.where(step == count[number] - 1, 2 * tail[number], place)
        ends = np.concatenate([edges[inside], low[number] + place * sd[number]])
        owners = np.concatenate([owner, number])
        order = np.lexsort((ends, owners))
        ends, owners = ends[order], owners[order]
        same = (owners[1:] == owners[:-1]) & (ends[1:] > ends[:-1])
        start, size, owner = ends[:-1][same], np.diff(ends)[same], owners[:-1][same]
        x, w = _gauss(nodes)
        u = start[:, None] + size[:, None] * x
        scaled = (u - centre[owner][:, None]) / sd[owner][:, None]
        weight = size[:, None] / sd[owner][:, None] * w * _bell(scaled)
        return u.ravel(), weight.ravel(), np.repeat(owner, nodes)


@functools.cache
def _gauss(n: int):
    x, w = np.polynomial.legendre.leggauss(n)
    return (1 + x) / 2, w / 2


def _bell(t):
    return np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _uniform(low, high, width, shift):
    inner = low + width * (np.arange(1, math.ceil((high - low) / width) + 1) - shift)
    return np.concatenate([[low], inner[inner < high], [high]])


def _ranges(first, last) -> tuple[np.ndarray, np.ndarray]:
    """(all integers of the ranges one after another, the number of the range of each)."""
    sizes = last - first
    owner = np.repeat(np.arange(first.size), sizes)
    before = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) - before[owner] + first[owner], owner


def _parts(counts: np.ndarray) -> list[np.ndarray]:
    """Indices in order, in groups of about ``_AT_ONCE`` nodes."""
    total = np.cumsum(counts)
    ends = np.searchsorted(total, np.arange(_AT_ONCE, total[-1], _AT_ONCE))
    return [part for part in np.split(np.arange(counts.size), np.unique(ends)) if part.size]


def _sums(values, owner, size) -> np.ndarray:
    """By owner; of numbers too large for a double, infinite or NaN."""
    return np.bincount(owner, values, size)
