r"""Gaussian moments of any activation on the host, by panels laid from a survey of it.

What is integrated is cut where the activation is not smooth, at every scale that it has, and as far out as
its growth asks for. Nothing but phi is compiled, so a moment costs the same for the hundredth activation as
for the first. Pairs are taken apart into what they share and what they do not: with
u_i = sqrt(q) (sqrt(c) z + sqrt(1-c) w_i),

    E (phi(u_1) - phi(u_2))^2 / 2 = E_z Var_w phi,    q (1-c) E phi'(u_1) phi'(u_2) = E_z (E_w w phi)^2,

sums of squares in which nothing cancels. Every moment comes with an estimate of its error: the difference
to panels of another width and order, laid between the first.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from meanfield.activations.activation import Activation
from meanfield.activations.survey import Survey, survey
from meanfield.activations.values import slopes_of, values_of
from meanfield.dual.base import Dual
from meanfield.dual.measures import Gaussians, Measure, Rule, bell, measure, measure_by_runs
from meanfield.dual.runs import Ladder
from meanfield.numerics.legendre import rule_on
from meanfield.numerics.memo import Memo

_RULES = (Rule(2.0, 22, 0.0), Rule(1.5, 20, 0.37))  # the rule, its check
_LONGEST = 200.0  # standard deviations
_TOO_MANY, _AT_ONCE = 50_000_000, 1_000_000  # nodes of a pair, in all and in memory
_MANY = 256  # panels within reach, beyond which they are joined
_ROUNDING = 8 * np.finfo(float).eps  # of a sum of values
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

    def line_errors(self, q):
        return self._moments.line_errors(q)

    def slope_error(self, q):
        return self._moments.slope_error(np.array([q]))[0]

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
        self._ladders = {rule: Ladder(self.survey.edges, self._shifted, self._slope, rule) for rule in _RULES}

    def _shifted(self, u):
        """phi(u) - phi(0)."""
        return self._value(u) - self.origin

    # --- one variable ---------------------------------------------------------------

    def lines(self, q: np.ndarray, rule=_RULES[0]) -> tuple[np.ndarray, np.ndarray]:
        """(E phi - phi(0), Var phi) at variances of shape (n,)."""
        shifts, variances = zip(*map(_line, self._centred(q, rule)), strict=True)
        return np.concatenate(shifts), np.concatenate(variances)

    def line_rates(self, q: np.ndarray):
        """((Var phi, m^2), their derivatives over q): d/dq of E f(u) is E f(u) (z^2 - 1) / 2q."""
        parts = zip(*map(_line_rates, self._centred(q, _RULES[0])), strict=True)
        shift, variance, mean_bend, bend = (np.concatenate(part) for part in parts)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self.origin + shift
            return (variance, mean**2), (bend / (2 * q), mean * mean_bend / q)

    def slope_moment(self, q: np.ndarray, rule=_RULES[0]) -> np.ndarray:
        """E phi'^2; infinite where phi jumps within reach."""
        smooth = np.concatenate([seen.square() for seen in self._centred(q, rule, slopes=True)])
        return np.where(self._meets(self.survey.jumps, self._reach(q)), np.inf, smooth)

    def by_rule(self, u: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:
        """(E phi - phi(0), Var phi, E phi'^2) by nodes and weights of one Gaussian."""
        value = self._shifted(u)
        shift = w @ value
        return float(shift), float(w @ (value - shift) ** 2), float(w @ self._slope(u) ** 2)

    def _centred(self, q, rule: Rule, slopes=False) -> Iterator[Measure]:
        """phi under Gaussians about 0, or phi', some at a time.

        What meets a rough panel needs no others: it has no accuracy.
        """
        beyond = self._is_beyond(q)
        tail = np.where(beyond, _NEAR, self.survey.tail(q))
        gaussians = Gaussians(np.zeros_like(q), np.sqrt(q), tail, ~beyond)
        many = gaussians.count(self.survey.edges) > _MANY
        octave = np.where(many, np.frexp(gaussians.sd)[1], -(1 << 30))
        ends = [0, *(np.flatnonzero(np.diff(octave)) + 1), len(gaussians)]
        with np.errstate(over="ignore", invalid="ignore"):
            for first, last in itertools.pairwise(ends):
                yield from self._seen(gaussians[first:last], rule, bool(many[first]), slopes)

    def _seen(self, gaussians: Gaussians, rule: Rule, many: bool, slopes=False) -> Iterator[Measure]:
        """phi under Gaussians of about one width, or of any where they do not meet many panels."""
        fn = self._slope if slopes else self._shifted
        panels = self._ladders[rule].at(float(np.min(gaussians.sd))) if many else None
        edges = self.survey.edges if panels is None else panels.edges
        for part in gaussians.batches(edges, rule, _AT_ONCE):
            if panels is None:
                yield measure(fn, gaussians[part], rule, edges)
            else:
                yield measure_by_runs(fn, gaussians[part], rule, panels, slopes)

    def _reach(self, q):
        return self.survey.tail(q) * np.sqrt(q)

    def line_error(self, q: np.ndarray) -> np.ndarray:
        """The larger of ``line_errors``."""
        return np.max(self.line_errors(q), axis=0)

    def line_errors(self, q: np.ndarray) -> np.ndarray:
        """Of the variance, relative, and of the mean beside its root; shape (2, n)."""
        (shift, variance), (other_shift, other) = (self.lines(q, rule) for rule in _RULES)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.abs(self.origin + shift) + np.sqrt(variance)
            of_mean = np.where(shift == other_shift, 0.0, np.abs(shift - other_shift) / size)
            # Both rules sum phi - phi(0), and what that is rounded by is common to them.
            lost = _ROUNDING * np.where(shift == 0, 0.0, np.abs(self.origin) + np.abs(shift))
            of_rounding = [np.where(lost == 0, 0.0, lost / x) for x in (np.sqrt(variance), size)]
        errors = np.stack([_difference(variance, other), of_mean]) + of_rounding
        return np.where(self._is_beyond(q), np.inf, np.nan_to_num(errors, nan=np.inf, posinf=np.inf))

    def error(self, q: np.ndarray) -> np.ndarray:
        """Of mean, variance and E phi'^2, the largest, relative."""
        return np.maximum(self.line_error(q), self.slope_error(q))

    def slope_error(self, q: np.ndarray) -> np.ndarray:
        """Of E phi'^2, relative."""
        return _difference(*(self.slope_moment(q, rule) for rule in _RULES))

    def reflected_covariance(self, q: float) -> float:
        """E phi(u) phi(-u) - m^2."""
        one = np.array([q])
        gaussian = Gaussians(np.zeros(1), np.sqrt(one), self.survey.tail(one), np.ones(1, bool))
        edges = np.union1d(self.survey.edges, -self.survey.edges)
        seen = measure(self._shifted, gaussian, _RULES[0], edges)
        other = measure(lambda u: self._shifted(-u), gaussian, _RULES[0], edges)
        mean = seen.mean()
        return float(seen.about(mean).mean(other.about(mean).value)[0])

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
        shape = np.ones(z.shape)
        gaussians = Gaussians(common * z, own * shape, tail * shape, shape > 0)
        many = bool(np.max(gaussians.count(self.survey.edges)) > _MANY)
        edges = self._ladders[rule].at(own).edges if many else self.survey.edges
        if gaussians.nodes_needed(edges, rule) > _TOO_MANY:
            return Pair(math.nan, math.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = zip(*map(_variance_and_rise, self._seen(gaussians, rule, many)), strict=True)
            spread, rise = (w_z @ np.concatenate(part) for part in parts)
        return Pair(float(spread) / (q * x), float(rise) / (q * x))

    def _outer(self, own, common, tail, rule: Rule):
        """Nodes and weights of what a pair shares: phi is seen through a Gaussian of width ``own``."""
        if common == 0:
            return np.zeros(1), np.ones(1)
        edges, sizes = self.survey.edges, np.diff(self.survey.edges)
        wide = sizes >= own
        kept = edges[1:-1][wide[1:] | wide[:-1]] / common
        # About what is smaller than that width, panels of about that width.
        small = edges[1:-1][~(wide[1:] & wide[:-1])]
        small = small[np.abs(small) <= tail * common + _NEAR * own]
        step = rule.width * own
        reach = np.arange(-math.ceil(_NEAR * own / step), math.ceil(_NEAR * own / step) + 1)
        beside = np.unique(np.unique(np.floor(small / step))[:, None] + reach)
        uniform = _uniform(-tail, tail, rule.width, rule.shift)
        edges = np.unique(np.concatenate([uniform, kept, (beside + rule.shift) * step / common]))
        edges = edges[(edges >= -tail) & (edges <= tail)]
        z, weight = (x.ravel() for x in rule_on(edges, rule.nodes))
        return z, weight * bell(z)


def _line(seen: Measure):
    """(E phi, Var phi)."""
    shift = seen.mean()
    return shift, seen.about(shift).square()


def _line_rates(seen: Measure):
    """(E phi, Var phi, E (phi - m) (z^2 - 1), E (phi - m)^2 (z^2 - 1))."""
    shift, bend = seen.mean(), seen.place**2 - 1
    apart = seen.about(shift)
    return shift, apart.square(), apart.mean(bend), apart.square(bend)


def _variance_and_rise(seen: Measure):
    """(Var_w phi, (E_w w phi)^2) about what a pair shares."""
    apart = seen.about(seen.mean())
    return apart.square(), apart.mean(seen.place) ** 2


def _difference(a, b) -> np.ndarray:
    """Relative, of numbers that are not negative; infinite where one is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a == b, 0.0, np.nan_to_num(np.abs(a - b) / np.maximum(a, b), nan=np.inf))


def _uniform(low, high, width, shift):
    inner = low + width * (np.arange(1, math.ceil((high - low) / width) + 1) - shift)
    return np.concatenate([[low], inner[inner < high], [high]])
