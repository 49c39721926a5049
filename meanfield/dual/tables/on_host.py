"""The mean and variance of a table on the host: their series as they are, with nothing compiled."""

import math

import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.tables.cells import LOWEST, PANELS, ROWS

_CHEBYSHEV = np.polynomial.chebyshev


class LinesOnHost(Dual):
    """Moments of one variable, for a layer's methods called with numbers. All are NumPy's, in float64.

    lines: series of (mean - phi(0)) / sqrt(q) and variance / q in log q, shape (panels, 2, rows). errors: of
    both, relative, shape (panels,). origin: phi(0).
    """

    is_closed_form = False

    def __init__(self, lines: np.ndarray, errors: np.ndarray, origin: float):
        self._lines, self._errors, self._origin = lines, errors, origin
        self._rates = _CHEBYSHEV.chebder(lines, axis=-1) / math.log(2)

    def line_rates(self, q):
        panel, place = _place(q)
        basis = _CHEBYSHEV.chebvander(place, ROWS - 1)
        shift, variance = np.einsum("nr,nfr->fn", basis, self._lines[panel])
        shift_rate, variance_rate = np.einsum("nr,nfr->fn", basis[:, :-1], self._rates[panel])
        root = np.sqrt(q)
        mean, mean_rate = self._origin + root * shift, (shift / 2 + shift_rate) / root
        return (q * variance, mean**2), (variance + variance_rate, 2 * mean * mean_rate)

    def line_errors(self, q):
        """Of the variance, relative, and of the mean beside its root; shape (2, n)."""
        error = self._errors[_place(q)[0]]
        return np.stack([error, error])

    def mean(self, q):
        return math.sqrt(self.line_rates(np.array([q]))[0][1][0])

    def variance(self, q):
        return self.line_rates(np.array([q]))[0][0][0]

    def covariance(self, q1, q2, c):
        raise NotImplementedError

    def separation(self, q, one_minus_c):
        raise NotImplementedError

    def slope_moment(self, q):
        raise NotImplementedError

    def chord(self, q, theta):
        raise NotImplementedError


def _place(q) -> tuple[np.ndarray, np.ndarray]:
    """(panel of each variance, position in it from -1 to 1); beyond the tables that of their end."""
    octave = np.clip(np.log2(q) - LOWEST, 0, 2 * PANELS)
    panel = np.clip((octave // 2).astype(int), 0, PANELS - 1)
    return panel, octave - 2 * panel - 1
