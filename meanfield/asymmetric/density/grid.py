"""Panels on which a law is represented, and what one layer does to it.

A pre-activation under an asymmetric prior is h' = B phi(h) + s z (THEORY section 8). In
units of the noise, x = h/s, its density is smooth on the scale 1 whatever phi and the
law of B are: polynomials on panels hold it to rounding. The conditional density
K(x, a) = E_B N(x - B a; 0, 1) of x' given a = phi(h)/s' depends on neither the prior nor the
activation, so it is computed once for a law of B, and a layer costs three sparse
interpolations and one product with a matrix.
"""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.asymmetric.special_weights import SpecialWeight, distribution, gauss_rule
from meanfield.numerics.legendre import gauss_legendre, polynomials, rule_on, to_coefficients
from meanfield.numerics.pytrees import register_dataclass

NODES = 16  # of a panel
_CORE = 32.0  # panels are equal up to here, in units of the noise, and grow from here on
_REACH = 4000.0
_LARGEST_PANEL, _SMALLEST_PANEL = 4.0, 0.25
_FAR_NODES = 40  # between the ends of a law's support

STEP = 2.0  # of the published grids, in units of the kernel's width


@dataclass(frozen=True, eq=False)
class Grid:
    """Legendre panels in x = h/s, symmetric about 0. Arrays are NumPy's, in float64.

    edges: of the panels. points: Gauss-Legendre nodes, (panels * NODES,), with
    ``weights``.
    """

    edges: np.ndarray
    points: np.ndarray
    weights: np.ndarray

    @property
    def panels(self) -> int:
        return len(self.edges) - 1

    def coefficients(self, values):
        """Legendre coefficients (panels, NODES) of a function given on ``points``."""
        return series(values.reshape(self.panels, NODES))

    def gaussian(self, dtype):
        """Density of a Gaussian of variance 1 on ``points``."""
        return jnp.asarray(_normal(self.points), dtype)

    def locate(self, x):
        """Panel of every x (clipped into the grid) and Legendre polynomials (..., NODES) there."""
        edges = jnp.asarray(self.edges, x.dtype)
        x = jnp.clip(x, edges[0], edges[-1])
        panel = jnp.clip(jnp.searchsorted(edges, x, side="right") - 1, 0, self.panels - 1)
        low, high = edges[panel], edges[panel + 1]
        return panel, _legendre((2 * x - low - high) / (high - low))


def series(values):
    """Legendre coefficients of a function from its values at the NODES of every panel, the last axis."""
    return values @ to_coefficients(NODES).T.astype(values.dtype)


@functools.lru_cache(maxsize=8)
def grid_of(step: float) -> Grid:
    """The grid whose panels are ``step`` wide in the core."""
    if not _SMALLEST_PANEL <= step <= _LARGEST_PANEL:
        raise ValueError(f"step must be between {_SMALLEST_PANEL:g} and {_LARGEST_PANEL:g}, got {step}")
    core = np.linspace(0, _CORE, int(np.ceil(_CORE / step)) + 1)
    count = int(np.ceil(np.log(_REACH / _CORE) / (0.17 * step)))
    tail = _CORE * (_REACH / _CORE) ** (np.arange(1, count + 1) / count)
    half = np.concatenate([core, tail])
    edges = np.concatenate([-half[:0:-1], half])
    points, weights = rule_on(edges, NODES)
    return Grid(edges, points.ravel(), weights.ravel())


def _legendre(t):
    return jnp.stack(tuple(polynomials(t, NODES)), axis=-1)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Kernel:
    """What one layer does to a law on a grid, for one law of the special weight.

    A pytree, so that compiled functions take its large tables as arguments.

    plain, squared, bent: Legendre coefficients in a of E_B N(x - B a), E_B B^2 N(x - B a)
    and E_B N''(x - B a) / 2, arrays (points, panels * NODES). scale: the panels in a
    are the grid's, divided by it. mean, square: E B and E B^2.
    """

    plain: np.ndarray
    squared: np.ndarray
    bent: np.ndarray
    scale: float
    mean: float
    square: float
    grid: Grid = dataclasses.field(metadata={"static": True})


@functools.lru_cache(maxsize=16)
def kernel_of(law: SpecialWeight, step: float) -> Kernel:
    """The layer of ``law`` on the grid of ``step``. Some 0.5 s; kept for the process."""
    grid = grid_of(step)
    nodes, masses = gauss_rule(law)
    # Of an unbounded law, up to where rounding hides the rest of its second moment.
    beyond = np.cumsum((masses * nodes**2)[::-1])[::-1]
    scale = max(1.0, float(np.max(nodes, where=beyond > 1e-14 * beyond[0], initial=0.0)))
    a = grid.points[len(grid.points) // 2 :] / scale
    tables = [_both_signs(grid, values) for values in _kernel_values(law, grid.points, a)]
    plain, squared, second = tables
    return Kernel(plain, squared, second, scale, law.moment(1), law.moment(2), grid)


def _both_signs(grid: Grid, values: np.ndarray) -> np.ndarray:
    """From values at a > 0 to coefficients in a of either sign: K(x, -a) = K(-x, a)."""
    values = np.concatenate([values[::-1, ::-1], values], axis=1)
    panels = values.reshape(len(grid.points), grid.panels, NODES)
    return series(panels).reshape(values.shape)


def _kernel_values(law, x, a) -> list[np.ndarray]:
    nodes, masses = gauss_rule(law)
    tables = [np.zeros((len(x), len(a))) for _ in range(3)]
    # The Gauss rule resolves a unit Gaussian in B a up to here (and any, for one weight).
    near = a * nodes[-1] <= (np.inf if len(nodes) == 1 else _CORE)
    for b, mass in zip(nodes, masses, strict=True):
        z = x[:, None] - b * a[near]
        density = mass * _normal(z)
        for table, factor in zip(tables, (1.0, b**2, (z**2 - 1) / 2), strict=True):
            table[:, near] += factor * density
    if not near.all():
        for table, values in zip(tables, _far_kernel_values(law, x, a[~near]), strict=True):
            table[:, ~near] = values
    return tables


def _far_kernel_values(law, x, a) -> list[np.ndarray]:
    """The same for large a, where a rule in B would have to resolve a narrow Gaussian.

    With G the distribution function of B, the first is d/dx E G((x - z)/a) = -E z G((x - z)/a), and
    for the third derivative Hermite's z^3 - 3z stands in the place of z. Between the
    ends of the support G is smooth; outside it is constant, and the integral known.
    """
    b, plain, squared = distribution(law)
    results = [np.zeros((len(x), len(a))) for _ in range(3)]
    reached = x > -8  # the support is at b >= 0
    x, a = x[reached, None], a[None, :]
    ends = [np.clip(x - a * edge, -8, 8) for edge in (b[-1], b[0])]
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    outside = plain[-1] * _normal(ends[0])
    terms = [outside, squared[-1] / plain[-1] * outside, (ends[0] ** 2 - 1) / 2 * outside]
    for node, weight in zip(*gauss_legendre(_FAR_NODES), strict=True):
        z = middle + half * node
        density = weight * half * _normal(z)
        position = (x - z) / a
        below = density * np.interp(position, b, plain)
        terms[0] -= z * below
        terms[1] -= z * density * np.interp(position, b, squared)
        terms[2] -= (z**3 - 3 * z) / 2 * below
    for result, term in zip(results, terms, strict=True):
        result[reached] = term
    return results


def _normal(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def integration_rule(grid: Grid, activation, noise):
    """Nodes in x, weights and panels for integrals of phi(noise * x) against a law on the grid.

    The grid's panels, cut where phi is not smooth, and graded towards there on the scale of phi.
    """
    dtype = noise.dtype
    steps = activation.scale * 0.5 * 2.0 ** np.arange(8)
    around = np.concatenate([-steps[::-1], [0.0], steps])
    cuts = np.concatenate([around + k for k in activation.landmarks])
    edges = jnp.asarray(grid.edges, dtype)
    inside = jnp.clip(jnp.asarray(cuts, dtype) / noise, edges[0], edges[-1])
    cut_edges = jnp.sort(jnp.concatenate([edges, inside]))
    x, weights = rule_on(cut_edges, NODES)
    middle = (cut_edges[1:] + cut_edges[:-1]) / 2
    panel = jnp.clip(jnp.searchsorted(edges, middle, side="right") - 1, 0, grid.panels - 1)
    low, high = edges[panel][:, None], edges[panel + 1][:, None]
    polynomials = _legendre((2 * x - low - high) / (high - low))
    return x.ravel(), weights.ravel(), _Interpolation(panel, polynomials)


@register_dataclass
@dataclass(frozen=True, eq=False)
class _Interpolation:
    """From a function's values on the grid to those on the nodes of the cut panels."""

    panel: jax.Array
    polynomials: jax.Array

    def __call__(self, grid: Grid, values):
        coefficients = grid.coefficients(values)[self.panel]
        return jnp.einsum("pnk,pk->pn", self.polynomials, coefficients).ravel()
