r"""A survey of an activation: panels of the line on each of which it is a polynomial to rounding.

Nothing is assumed of the function but that it can be evaluated. The line is looked at on panels that grow
in proportion to their distance from the origin; one on which a polynomial of degree 15 does not reach
rounding error is halved until it does, and neighbours that one polynomial serves are joined. Kinks, jumps
and steep steps end up between panels or in tiny ones, wherever they are.

What is seen: steps of any width; features that rise and fall again if they are wider than about 1/4000 of
their distance from the origin within |u| < 512, and than 1/1000 of it beyond. A narrower one may fall
between two nodes and be missed. What needs more than 16,384 panels in an octave (512
within |u| < 1/64 and beyond 8192) is not resolved there: sin(10 u) is, up to |u| = 8192.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meanfield.numerics.memo import Memo

_NODES = 16
_RESOLVED = 1e-13  # of a panel's last coefficients, relative to the largest value up to there
_FIRST = 1.0427183  # irrational: no panel may end where people put their kinks
_OCTAVES = _FIRST * np.exp2(np.arange(-64, 65.0))  # of |u|
_BINS = np.append((_OCTAVES[:-1, None] * (1 + np.arange(16) / 16)).ravel(), _OCTAVES[-1])
_NEAREST_BIN = 16 * 24  # a pole at the origin is seen from there on
_FINE = (2**-6, 2**9)  # distances within which the line is looked at more closely
_PANELS, _FINE_PANELS = 64, 256  # that an octave begins with
_MOST, _MOST_ELSEWHERE = 1 << 14, 512  # panels in an octave, at distances 2^-6 to 2^13: with more it is rough
_FAR = 2.0**13
_QUIET = (2.0**-40, 2.0**-12)  # distances within which what does not fall is the noise of phi
_NOISIEST = 1e-12  # of phi there
_TINY = 8e-16  # relative width of a panel that can't be halved
_JUMP = (
    1e-4  # of the largest value: what phi does not do continuously in 1e-12 of the distance from the origin
)
_UNDERFLOW = 1e-12  # of the largest value in |u| < 1: less is as good as 0, and may jump
_LEAST = 1e-280  # of any value: the tail of a bump ends in a jump from the smallest double to 0
_TAIL = 9.0  # standard deviations beyond which a Gaussian is below rounding
_LOST = 41.0  # exp(-41): below the rounding of a double
_UNSEEN = -700.0  # exp(-741): no double at all

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Survey:
    """Panels on which a function is smooth, and how large it is.

    edges: of the panels, ascending, shape (panels + 1,). rough: whether a panel is not resolved, shape
    (panels,). jumps: whether phi itself jumps in it. largest: the largest |phi(u) - phi(0)| on either side,
    in a sixteenth of each octave of |u|, shape (bins,).
    """

    edges: np.ndarray
    rough: np.ndarray
    jumps: np.ndarray
    largest: np.ndarray

    def tail(self, q) -> np.ndarray:
        """Standard deviations beyond which a Gaussian of variance q times phi^2 is below rounding.

        Infinite where phi grows so quickly that there are none.
        """
        q = np.asarray(q, np.float64)
        # Some at a time: bins times variances are more than a processor keeps at hand.
        parts = np.array_split(np.sqrt(q).ravel()[:, None], max(1, -(-q.size // 64)))
        make = lambda: np.concatenate([self._tail(part) for part in parts]).reshape(q.shape)
        return self._tails((q.shape, q.tobytes()), make)

    @functools.cached_property
    def _tails(self) -> Memo[np.ndarray]:
        """Of arrays of variances asked for lately: every moment at them asks again."""
        return Memo(16)

    def _tail(self, sd) -> np.ndarray:
        with np.errstate(divide="ignore"):
            size = 2 * np.log(np.minimum(self.largest, 1e308))
        with np.errstate(over="ignore", invalid="ignore"):
            falls = (_BINS / sd) ** 2 / 2
            width = np.minimum(np.log(np.diff(_BINS)) - np.log(sd), 0.0)
            peak = np.max(size - falls[..., 1:] + width, axis=-1)
            matters = size - falls[..., :-1] > np.maximum(peak, _UNSEEN)[..., None] - _LOST
        last = size.size - 1 - np.argmax(matters[..., ::-1], axis=-1)
        some = np.any(matters, axis=-1)
        end = _BINS[1 + last] / sd[..., 0]
        reach = np.where(some & (last == size.size - 1), np.inf, np.where(some, end, 0.0))
        return np.maximum(reach, _TAIL)

    @property
    def end(self) -> float:
        """Distance from the origin within which phi is finite and was looked at."""
        overflown = ~np.isfinite(self.largest[_NEAREST_BIN:])
        return float(_BINS[_NEAREST_BIN + np.argmax(overflown)] if overflown.any() else _BINS[-1])


def survey(fn: Function) -> Survey:
    """The survey of a function that maps a float64 array to one of the same shape."""
    at_zero = float(fn(np.zeros(1))[0])
    look = _Look(fn, at_zero if np.isfinite(at_zero) else 0.0)
    low, width, rough = look.split(*_first_panels())
    order = np.argsort(low)
    edges = np.append(low[order], low[order[-1]] + width[order[-1]])
    edges, rough = look.joined(edges, rough[order])
    return Survey(edges, rough, look.jumps(edges), look.largest)


def _first_panels() -> tuple[np.ndarray, np.ndarray]:
    """(lower ends, widths) of the panels that are looked at first: on both sides of the origin, and at it."""
    fine = (_FINE[0] <= _OCTAVES) & (_FINE[1] > _OCTAVES)
    counts = np.where(fine, _FINE_PANELS, _PANELS)[:-1]
    width = np.repeat(_OCTAVES[:-1] / counts, counts)
    place = np.concatenate([n + np.arange(n) for n in counts])  # panels from the origin
    first = _OCTAVES[0]
    low = np.concatenate([-(place + 1) * width, [-first], place * width])
    return low, np.concatenate([width, [2 * first], width])


_COSINES = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))  # the ends too: no kink can hide between panels
_TO_SERIES = np.linalg.inv(np.polynomial.chebyshev.chebvander(_COSINES, _NODES - 1))


class _Look:
    """A function and its size, against which panels are judged."""

    def __init__(self, fn: Function, origin: float):
        self._fn, self._origin = fn, origin
        low, width = _first_panels()
        values = self._values(low, width)
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.max(np.abs(values - origin), axis=1)
        size = np.where(np.isfinite(size), size, np.inf)
        self.largest = np.zeros(_BINS.size - 1)
        np.maximum.at(self.largest, _bin(np.abs(low + width / 2)), size)
        self._noise = self._noise_of(np.abs(low), values)
        self._envelope = np.maximum.accumulate(np.where(np.isfinite(self.largest), self.largest, 1e300))

    @staticmethod
    def _noise_of(distance, values) -> float:
        """Rounding that phi brings along: sin(10 (x - 8)) is as good as its argument."""
        near = values[(distance > _QUIET[0]) & (distance < _QUIET[1])]
        if not np.all(np.isfinite(near)):
            return 0.0
        last = np.max(np.abs((near @ _TO_SERIES.T)[:, -3:]), axis=1)
        return float(min(8 * np.median(last), _NOISIEST * np.max(np.abs(near))))

    def _values(self, low, width) -> np.ndarray:
        points = low[:, None] + width[:, None] * (1 + _COSINES) / 2
        return np.asarray(self._fn(points.ravel()), np.float64).reshape(points.shape)

    def _tolerance(self, low, width, values) -> np.ndarray:
        """Values carry the rounding error of fn's argument as well as of fn itself."""
        with np.errstate(invalid="ignore", over="ignore"):
            steepest = np.max(np.abs(np.diff(values, axis=1)), axis=1) / width
        distance, largest = np.maximum(np.abs(low), np.abs(low + width)), np.max(np.abs(values), axis=1)
        noise = 2e-15 * (steepest * distance + largest + abs(self._origin))
        return _RESOLVED * self._envelope[_bin(distance)] + noise + self._noise

    def _resolved(self, low, width) -> np.ndarray:
        """Whether a polynomial takes the values on each panel, to rounding; or nothing would."""
        values = self._values(low, width)
        with np.errstate(invalid="ignore", over="ignore"):
            last = np.max(np.abs((values @ _TO_SERIES.T)[:, -3:]), axis=1)
            good = last <= self._tolerance(low, width, values)
        return good | ~np.all(np.isfinite(values), axis=1) | (width <= _TINY * np.abs(low))

    def split(self, low, width) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lower ends, widths, whether rough) of resolved panels, and of octaves that need too many."""
        done = []
        rough = np.empty(0, int)
        while low.size:
            good = self._resolved(low, width)
            done.append((low[good], width[good]))
            low, width = low[~good], width[~good]
            octave = _octave(low, width)
            found, counts = np.unique(octave, return_counts=True)
            inside = (_OCTAVES[np.abs(found)] >= _FINE[0]) & (_OCTAVES[np.abs(found)] <= _FAR * _FIRST)
            most = np.where(inside, _MOST, _MOST_ELSEWHERE)
            rough = np.union1d(rough, found[counts > most])
            stays = ~np.isin(octave, rough)
            low, width = low[stays], width[stays] / 2
            low, width = np.concatenate([low, low + width]), np.tile(width, 2)
        low, width = (np.concatenate(parts) for parts in zip(*done, strict=True))
        stays = ~np.isin(_octave(low, width), rough)
        start = np.where(rough > 0, _OCTAVES[np.abs(rough) - 1], -_OCTAVES[np.abs(rough)])
        low, flags = (
            np.append(low[stays], start),
            np.append(np.zeros(stays.sum(), bool), np.ones(rough.size, bool)),
        )
        return low, np.append(width[stays], _OCTAVES[np.abs(rough) - 1]), flags

    def joined(self, edges, rough) -> tuple[np.ndarray, np.ndarray]:
        """(edges, whether rough) with neighbours joined that one polynomial serves, and any rough ones."""
        untried = np.ones(edges.size, bool)
        untried[[0, -1]] = False
        while untried.any():
            for parity in (0, 1):  # so that no two of them share a panel
                middle = np.arange(1 + parity, edges.size - 1, 2)
                middle = middle[untried[middle]]
                untried[middle] = False
                good = rough[middle - 1] & rough[middle]
                smooth = ~(rough[middle - 1] | rough[middle])
                good[smooth] = self._one_serves(*(edges[middle[smooth] + k] for k in (-1, 0, 1)))
                gone = middle[good]
                untried[gone - 1] = untried[gone + 1] = True
                untried[[0, -1]] = False
                edges, rough, untried = (np.delete(x, gone) for x in (edges, rough, untried))
        return edges, rough

    def _one_serves(self, low, middle, high) -> np.ndarray:
        """Whether one polynomial takes the values on both of two neighbours, at their nodes."""
        values = self._values(low, high - low)
        with np.errstate(invalid="ignore", over="ignore"):
            series = values @ _TO_SERIES.T
            last = np.max(np.abs(series[:, -3:]), axis=1)
            good = np.all(np.isfinite(values), axis=1)
            for start, end in ((low, middle), (middle, high)):
                points = start[:, None] + (end - start)[:, None] * (1 + _COSINES) / 2
                place = 2 * (points - low[:, None]) / (high - low)[:, None] - 1
                found = np.einsum("pnk,pk->pn", np.polynomial.chebyshev.chebvander(place, _NODES - 1), series)
                values = self._values(start, end - start)
                worst = np.maximum(last, np.max(np.abs(found - values), axis=1))
                good &= worst <= 4 * self._tolerance(start, end - start, values)
        return good

    def jumps(self, edges) -> np.ndarray:
        """Whether the function jumps in a panel that is as small as rounding."""
        low, high = edges[:-1], edges[1:]
        with np.errstate(invalid="ignore", over="ignore"):
            rise = np.abs(np.diff(np.asarray(self._fn(edges), np.float64)))
        distance = np.maximum(np.abs(low), np.abs(high))
        at_zero = (low < 0) & (high > 0)
        size = self._envelope[_bin(np.where(at_zero, 1e-8, distance))]
        size = np.maximum(size, max(_UNDERFLOW * float(self._envelope[_bin(np.ones(1))][0]), _LEAST))
        return (high - low <= np.maximum(1e-12 * distance, 4 * _OCTAVES[0])) & (rise > _JUMP * size)


def _bin(distance) -> np.ndarray:
    return np.clip(np.searchsorted(_BINS, distance) - 1, 0, _BINS.size - 2)


def _octave(low, width) -> np.ndarray:
    """Number of the octave that holds a panel, negative below the origin; 0 about it."""
    return (np.sign(low + width / 2) * np.searchsorted(_OCTAVES, np.abs(low + width / 2))).astype(int)
