r"""Runs of many small panels, joined where a Gaussian sees them as one.

A function with many features within the width of a Gaussian needs small panels, but what multiplies it does
not: over a run of panels, with the Gauss-Legendre nodes x_i of the whole run and Lagrange's polynomials l_i,

    \int f(u) g(u) du = \sum_i g(x_i) \int f(u) l_i(u) du

for every g that is a polynomial on it, as a Gaussian is to rounding on twice its width. So phi is looked at
once, and what it needs is as much work as a smooth function is, however many features it has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meanfield.numerics.legendre import gauss_legendre, polynomials, rule_on, to_coefficients

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """How a Gaussian is cut: width of its own panels in standard deviations, nodes on every panel, shift."""

    width: float
    nodes: int
    shift: float


@dataclass(frozen=True, eq=False)
class Panels:
    r"""Panels of the line with nodes on each; what phi does between the nodes of a run is in their weights.

    edges: shape (panels + 1,). joined: whether a panel is a run, shape (panels,). All else has the shape
    (panels, nodes): nodes ``u``, a value of phi there (in a run, one for all), and integrals of l_i times 1
    (``weight``), phi - value (``first``), its square (``second``) and phi'^2 (``slope``).
    """

    edges: np.ndarray
    joined: np.ndarray
    u: np.ndarray
    weight: np.ndarray
    value: np.ndarray
    first: np.ndarray
    second: np.ndarray
    slope: np.ndarray

    def moments(self, slopes: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, first, second) of phi, or of phi', of which the square alone is known."""
        zero = np.zeros_like(self.u)
        return (zero, zero, self.slope) if slopes else (self.value, self.first, self.second)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.u, self.weight, self.value, self.first, self.second, self.slope

    @classmethod
    def single(cls, edges: np.ndarray, value: Function, slope: Function, nodes: int) -> "Panels":
        """Panels as they are, none of them a run."""
        u, weight = rule_on(edges, nodes)
        values, slopes = (f(u.ravel()).reshape(u.shape) for f in (value, slope))
        zero = np.zeros_like(u)
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(edges, np.zeros(len(u), bool), u, weight, values, zero, zero, weight * slopes**2)

    def runs(self, width: float) -> "Panels":
        """Neighbours that are smaller than ``width`` joined, to at most twice that."""
        cell, alone = np.floor(self.edges[:-1] / width), np.diff(self.edges) >= width
        ends = (np.diff(cell) != 0) | alone[1:] | alone[:-1]
        start = np.flatnonzero(np.concatenate([[True], ends]))
        counts = np.diff(np.append(start, cell.size))
        many = counts > 1
        edges = self.edges[np.append(start, cell.size)]
        columns = [x[start] for x in self._columns()]
        if not many.any():
            return self
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._joined(
                edges[:-1][many], np.diff(edges)[many], np.repeat(many, counts), counts[many]
            )
        for column, values in zip(columns, found, strict=True):
            column[many] = values
        return Panels(edges, self.joined[start] | many, *columns)

    def _joined(self, low, size, chosen, counts) -> list[np.ndarray]:
        """Columns of the runs that begin at ``low``, of so many panels each."""
        u, weight, value, first, second, slope = (x[chosen].ravel() for x in self._columns())
        nodes = self.u.shape[1]
        owner = np.repeat(np.arange(low.size), counts * nodes)
        offsets = (np.cumsum(counts) - counts) * nodes
        mean = np.add.reduceat(weight * value + first, offsets) / size
        apart = value - mean[owner]
        terms = np.stack([first + weight * apart, second + apart * (2 * first + weight * apart), slope])
        found = np.zeros((len(terms), low.size, nodes))
        place = 2 * (u - low[owner]) / size[owner] - 1
        for polynomial, row in zip(polynomials(place, nodes), to_coefficients(nodes), strict=True):
            found += np.add.reduceat(terms * polynomial, offsets, axis=1)[..., None] * row
        x, w = gauss_legendre(nodes)
        half = size[:, None] / 2
        own = low[:, None] + half * (1 + x)
        return [own, half * w, np.broadcast_to(mean[:, None], own.shape), *found]


class Ladder:
    """Runs of every width, each made of the one below, from where panels begin to be joined.

    Which is made of which does not depend on what was asked for before.
    """

    def __init__(self, edges: np.ndarray, value: Function, slope: Function, rule: Rule):
        self._panels, self._rule = lambda: Panels.single(edges, value, slope, rule.nodes), rule
        self._lowest = math.frexp(float(np.median(np.diff(edges))))[1] + 2
        self._levels: dict[int, Panels] = {}

    def at(self, sd: float) -> Panels:
        """Panels for Gaussians at least this wide."""
        return self._at(math.frexp(sd)[1])

    def _at(self, level: int) -> Panels:
        if level not in self._levels:
            below = self._at(level - 1) if level > self._lowest else self._panels()
            self._levels[level] = below.runs(self._rule.width * math.ldexp(0.25, level))
        return self._levels[level]
