"""Find where an activation is not smooth, by adaptive Chebyshev interpolation."""

from collections.abc import Callable

import numpy as np

SEARCHED = 64.0
_DEGREE = 15
_RESOLVED = 1e-11
_NARROW = 1e-3
_MOST = 64


def find_kinks(fn: Callable[[np.ndarray], np.ndarray]) -> tuple[float, ...]:
    """Points of [-64, 64] about which ``fn`` stays unresolved however short the panel.

    Panels on which a polynomial of degree 15 does not reach rounding error are
    halved until they do. A panel that gets there while still wide holds a smooth
    feature; one that does not holds a kink or a jump (or a feature narrower than
    1e-3, which a quadrature must treat like one). A function rough everywhere
    returns no kinks: its quadrature error says so instead.

    fn: maps a float64 array to one of the same shape.
    """
    # An irrational grid: no panel may begin where people put their kinks.
    width = 2 * SEARCHED / (512 + np.sqrt(2) / 10)
    low = -SEARCHED - np.pi / 100 + width * np.arange(514)
    kinks: list[float] = []
    while low.size:
        rough = low[~_resolved(fn, low, width)]
        if rough.size > _MOST:
            return ()
        width = width / 2
        halves = np.stack([rough, rough + width])
        smooth = np.stack([_resolved(fn, half, width) for half in halves])
        settled = smooth.all(axis=0) | (width < 4e-16 * np.maximum(1, np.abs(rough)))
        if width < _NARROW:
            kinks.extend(_tidy(k, width) for k in halves[1][settled])
        low = halves[:, ~settled].ravel()
    return tuple(_distinct(sorted(kinks)))


def _resolved(fn, low: np.ndarray, width: float) -> np.ndarray:
    """Whether fn is a polynomial to rounding error on each panel [low, low + width]."""
    # The ends belong to the nodes: no kink can hide between two panels.
    x = np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)
    points = low[:, None] + width * (1 + x) / 2
    values = np.asarray(fn(points.ravel()), np.float64).reshape(points.shape)
    with np.errstate(invalid="ignore"):
        coefficients = np.polynomial.chebyshev.chebfit(x, values.T, _DEGREE)
    # Values carry the rounding error of fn's argument as well as of fn itself.
    slope = np.abs(np.diff(values, axis=1)).max(axis=1) / width
    size = np.abs(values).max(axis=1) + slope * np.abs(low)
    tail = np.abs(coefficients[-4:]).max(axis=0)
    return ~(tail > _RESOLVED * size)


def _tidy(kink: float, width: float) -> float:
    """The nearest short decimal, where a panel of this width cannot tell the two apart."""
    short = float(np.round(kink, 4)) + 0.0
    return short if abs(kink - short) <= 2 * width else float(kink)


def _distinct(kinks: list[float]) -> list[float]:
    return [k for i, k in enumerate(kinks) if i == 0 or k - kinks[i - 1] > _NARROW]
