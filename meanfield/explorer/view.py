"""The numbers and curves of one setting: pure functions, in float64 whatever JAX's default is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.names import as_activation
from meanfield.dual import Dual, dual_of, is_tabulable, panel_of, tables_of
from meanfield.explorer.settings import RANGES, Settings
from meanfield.fixed_points.point import fixed_point
from meanfield.fixed_points.stability import depth_scales_at, exponents_at
from meanfield.grids.phase_diagrams import PhaseDiagram, phase_diagram
from meanfield.layers import Layer
from meanfield.priors import NormalPrior
from meanfield.status import Phase, Status

DEPTH = 30
STARTS_Q = (0.1, 1.0, 4.0)
STARTS_C = (0.0, 0.5, 0.9)
_ANGLES = 24  # Chebyshev points in theta, in which the c-map is smooth
_STEPS = 60  # of the cobweb
_GRID = {"weight_var": 81, "bias_var": 41}
_TABLE = (2.0**-10, 2.0**8)  # variances at which the curves come from tables


@dataclass(frozen=True)
class Numbers:
    """What ``fixed_point`` returns for one prior from q0 = 1, c0 = 0, and what follows from it.

    values: q, c, one_minus_c and the chi's as in ``FixedPoint``; lambda_q, lambda_c, lambda_max (rates per
    layer) as in ``LyapunovExponents``; xi_q, xi_c (layers) as in ``DepthScales``.
    """

    values: dict[str, float]
    status: Status
    phase: Phase


@dataclass(frozen=True)
class Curves:
    """What is drawn beside the diagram, NumPy arrays.

    q: by layer, shape (starts, DEPTH + 1), from STARTS_Q. c: the same from STARTS_C, with the variance
    started at 1. map_c, map_next: the c-map on [0, 1], at the variance ``map_q``: q* where that is finite and
    not zero, else that of the last layer. web: corners of the cobweb from c = 0, shape (2, corners).
    """

    q: np.ndarray
    c: np.ndarray
    map_q: float
    map_c: np.ndarray
    map_next: np.ndarray
    web: np.ndarray


def numbers(settings: Settings) -> Numbers:
    """The fixed point and its rates. Compiles for seconds on the first call with an activation."""
    with jax.enable_x64(True):
        point = fixed_point(settings.layer)
        return _read(*jax.device_get((point, exponents_at(point), depth_scales_at(point))))


def curves(settings: Settings, q_star: float, table: Dual | None = None) -> Curves:
    """Everything by depth, and the c-map, where ``numbers`` found the variance q_star.

    table: what ``tabulated`` returns; where variances are in its range the curves come from it, to 1e-11, in
    a fraction of the time that quadrature takes.
    """
    with jax.enable_x64(True):
        layer = settings.layer
        solved = None
        if table is not None:
            solved = _solved(layer.with_moments(iter([table])), q_star)
        if solved is None or not _tabulated_at(layer, *solved[:3:2]):
            solved = _solved(layer, q_star)
    q, c, map_q, *chord = solved
    map_c = np.concatenate([np.linspace(0, 0.9, 46), np.linspace(0.9, 1, 25)[1:]])
    with np.errstate(over="ignore", invalid="ignore"):
        return Curves(q, c, float(map_q), map_c, _c_map(chord, map_c), _web(chord))


def diagram(settings: Settings) -> PhaseDiagram:
    """Over weight and bias variance, at the setting's activation and anticorrelation."""
    axes = {name: np.linspace(RANGES[name].low, RANGES[name].high, n) for name, n in _GRID.items()}
    anticorrelation = settings.anticorrelation
    if settings.block == "dense":
        return phase_diagram(settings.activation, **axes, anticorrelation=anticorrelation)
    block = lambda weight_var, bias_var: settings.layer_of(NormalPrior(weight_var, bias_var, anticorrelation))
    return phase_diagram(block, **axes)


def tabulated(activation: str) -> Dual | None:
    """The moments of an activation from tables, built in seconds; None where they are in closed form."""
    with jax.enable_x64(True):
        phi = as_activation(activation)
        dual = dual_of(phi)
        if not is_tabulable(dual):
            return None
        tables = tables_of(dual, phi)
        tables.build(range(*(int(panel_of(q)) for q in _TABLE)))
        return tables.dual()


def _solved(layer: Layer, q_star: float):
    return jax.device_get(_solve(layer, jnp.asarray(float(q_star))))


def _tabulated_at(layer: Layer, q, map_q) -> bool:
    path = np.append(q[STARTS_Q.index(1.0)], map_q)
    path = np.asarray([layer.variances_met(x) for x in path])
    return bool(np.all((path > _TABLE[0]) & (path < _TABLE[1])))


def _read(point, exponents, scales) -> Numbers:
    values = {
        name: getattr(point, name)
        for name in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp")
    }
    values |= {"lambda_q": exponents.q, "lambda_c": exponents.c, "lambda_max": exponents.maximal}
    values |= {"xi_q": scales.q, "xi_c": scales.c}
    return Numbers(
        {n: float(v) for n, v in values.items()}, Status(int(point.status)), Phase(int(point.phase))
    )


_THETA = (1 + np.cos(np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES)) * np.pi / 4


@jax.jit
def _solve(layer: Layer, q_star):
    """q and c by layer, (1 - C)/(1 - c) less what noise makes of it at the Chebyshev angles, and 1 - C(1).

    One point after another: a quadrature of many at once is slower on few cores. From c >= 0 correlations
    stay there, for the c-map has no negative coefficient (THEORY section 4).
    """

    def next_q(q, _):
        return layer.variance_map(q), q

    q = jax.lax.map(lambda q: jax.lax.scan(next_q, q, length=DEPTH + 1)[1], jnp.asarray(STARTS_Q))
    path = q[STARTS_Q.index(1.0)]

    def next_c(gap, q):
        theta = 2 * jnp.arcsin(jnp.sqrt(gap / 2))
        apart = gap * layer.pair_gain(q, theta) if layer.keeps_one else layer.separation_map(q, gap) / q
        return jnp.clip(apart * q / layer.variance_map(q), 0, 1), gap

    gaps = jax.lax.map(lambda c: jax.lax.scan(next_c, 1 - c, path)[1], jnp.asarray(STARTS_C))
    usable = jnp.isfinite(q_star) & (q_star > 0)
    map_q = jnp.where(usable, q_star, path[-1])
    noise = layer.gap(map_q)

    def kept(theta):
        return layer.pair_gain(map_q, theta) - noise / (2 * map_q * jnp.sin(theta / 2) ** 2)

    chord = jax.lax.map(kept, jnp.asarray(_THETA))
    after = layer.variance_map(map_q)
    return q, 1 - gaps, map_q, chord * map_q / after, noise / after


def _c_map(chord, c) -> np.ndarray:
    """C(c) = C(1) - (1 - c) chord(theta), the chord interpolated between its Chebyshev points."""
    chord, parted = chord
    position = 4 / np.pi * np.arccos(np.clip(c, 0, 1)) - 1
    basis = np.cos(np.outer(np.arccos(np.clip(position, -1, 1)), np.arange(_ANGLES)))
    nodes = np.cos(np.outer(np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES, np.arange(_ANGLES)))
    coefficients = 2 / _ANGLES * nodes.T @ chord
    coefficients[0] /= 2
    return 1 - parted - (1 - np.asarray(c)) * (basis @ coefficients)


def _web(chord) -> np.ndarray:
    """Corners (c, C(c)), (C(c), C(c)), ... of the cobweb that starts on the axis at c = 0."""
    corners, c = [(0.0, 0.0)], 0.0
    for _ in range(_STEPS):
        following = float(_c_map(chord, [c])[0])
        corners += [(c, following), (following, following)]
        if not abs(following - c) > 1e-4:
            break
        c = following
    return np.array(corners).T
