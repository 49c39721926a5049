r"""Gaussian moments of one activation from Chebyshev tables.

The moments depend on (q, theta) alone, never on the prior: tabulated once, they serve
every point of a phase diagram. The table is cut into panels, a factor 4 of q each;
on a panel mean, variance and chord are polynomials in log q, and the chord is also one
in an angle stretched about theta ~ 1/sqrt(q), where a smooth activation of large
variance begins to look kinked. Panels are built when first needed, by quadrature, and
held against it at points of their own; ``error`` reports what was found.
"""

import functools
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.quadrature import QuadratureDual

_LOWEST, _PANELS = -100, 100  # panels of two octaves from 2^-100
_ROWS = 16
_COLUMNS = (48, 112)  # tried in turn: two kinks that see each other need the second
_TOLERANCE = 2e-13
_PROBES = np.array([[-0.97, 0.013], [-0.41, 0.11], [0.05, 0.29], [0.53, 0.62], [0.88, 0.97], [-0.71, 0.4]])


def _octave(q):
    """log2 of q above the table's lowest, held within the table."""
    return jnp.clip(jnp.log2(q) - _LOWEST, 0.0, 2.0 * _PANELS)


def panel_of(q):
    """Index of the panel that holds q (the first or the last beyond the table)."""
    return jnp.minimum(jnp.floor(_octave(q) / 2), _PANELS - 1).astype(int)


def _within(q, panel):
    """Position of q in its panel, from -1 to 1."""
    return _octave(q) - 2 * panel - 1


def _stretch(panel):
    """Angle below which the panel's activation looks smooth."""
    return 1 / jnp.sqrt(1 + jnp.exp2(_LOWEST + 2.0 * panel + 1))


def _position_of_angle(theta, panel):
    scale = _stretch(panel)
    return 2 * jnp.arcsinh(theta / scale) / jnp.arcsinh(np.pi / 2 / scale) - 1


def _angle_of_position(x, panel):
    scale = _stretch(panel)
    return scale * jnp.sinh((x + 1) / 2 * jnp.arcsinh(np.pi / 2 / scale))


def _chebyshev_points(n: int) -> np.ndarray:
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


def _to_coefficients(n: int) -> np.ndarray:
    """Matrix from values at the Chebyshev points to Chebyshev coefficients."""
    k, x = np.arange(n), np.pi * (np.arange(n) + 0.5) / n
    return np.where(k == 0, 1, 2)[:, None] * np.cos(np.outer(k, x)) / n


def _chebyshev_sum(coefficients, x):
    """Sum of coefficients[k] T_k(x) by Clenshaw's recurrence, over the first axis."""

    def step(state, coefficient):
        first, second = state
        return (coefficient + 2 * x * first - second, first), None

    zero = jnp.zeros_like(coefficients[0] * x)
    state, _ = jax.lax.scan(step, (zero, zero), coefficients[:0:-1], unroll=8)
    return coefficients[0] + x * state[0] - state[1]


def _basis(x, n):
    """T_0(x) ... T_{n-1}(x), shape (n,)."""
    values = [jnp.ones_like(x), x]
    for _ in range(n - 2):
        values.append(2 * x * values[-1] - values[-2])
    return jnp.stack(values)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class TabulatedDual(Dual):
    """Moments from tables, in float64. ``DualTables`` makes them.

    moments: (mean - phi(0)) / sqrt(q) and variance / q, shape (panels, 2, rows). chords: shape (slots,
    columns, rows). slots: which slot holds a panel. errors: relative, by panel.
    """

    source: QuadratureDual
    moments: jax.Array
    chords: jax.Array
    slots: jax.Array
    errors: jax.Array

    def _moment(self, q, which):
        panel = panel_of(q)
        return _basis(_within(q, panel), _ROWS) @ self.moments[panel, which]

    def mean(self, q):
        # Beyond the table the scaled moments are constant, as they are in the limits.
        return self.source.activation(jnp.zeros_like(q)) + jnp.sqrt(q) * self._moment(q, 0)

    def variance(self, q):
        return q * self._moment(q, 1)

    def covariance(self, q1, q2, c):
        return self.source.covariance(q1, q2, c)

    def reflected_covariance(self, q):
        return self.source.reflected_covariance(q)

    def chord_at(self, q):
        panel = panel_of(q)
        section = self.chords[self.slots[panel]] @ _basis(_within(q, panel), _ROWS)
        return lambda theta: _chebyshev_sum(section, _position_of_angle(theta, panel))

    def chord(self, q, theta):
        return self.chord_at(q)(theta)

    def slope_moment(self, q):
        return self.chord_at(q)(jnp.zeros_like(q))

    def error(self, q):
        return self.errors[panel_of(q)]


def tables_of(source: QuadratureDual) -> "DualTables":
    """The tables of an activation with concrete parameters, one set in a process."""
    activation = source.activation
    key = activation.fn, activation.kinks, activation.scale, tuple(float(p) for p in activation.params)
    if key not in _TABLES:
        _TABLES[key] = DualTables(source)
    return _TABLES[key]


_TABLES: dict[tuple, "DualTables"] = {}


@dataclass
class DualTables:
    """The tables of one activation, which grow by the panels that are asked for."""

    source: QuadratureDual
    moments: np.ndarray = field(init=False)
    chords: dict[int, np.ndarray] = field(default_factory=dict)
    errors: np.ndarray = field(init=False)

    def __post_init__(self):
        self.moments, error = jax.device_get(_moment_panels(self.source, np.arange(_PANELS)))
        self.errors = np.array(error)

    def build(self, panels) -> None:
        """Tabulate the chord on the panels that are not there yet."""
        for panel in sorted({int(p) for p in panels} - self.chords.keys()):
            for columns in _COLUMNS:
                coefficients, error = jax.device_get(_chord_panel(self.source, panel, columns))
                if error <= _TOLERANCE:
                    break
            self.chords[panel] = coefficients
            self.errors[panel] = max(self.errors[panel], float(error))

    def one_variable_dual(self) -> TabulatedDual:
        """Mean and variance alone, which are tabulated everywhere."""
        return TabulatedDual(
            self.source,
            jnp.asarray(self.moments),
            jnp.zeros((1, 1, _ROWS)),
            jnp.zeros(_PANELS, int),
            jnp.asarray(self.errors),
        )

    def dual(self) -> TabulatedDual:
        """What has been tabulated so far."""
        slots = np.zeros(_PANELS, int)
        slots[list(self.chords)] = np.arange(len(self.chords))
        columns = max(len(c) for c in self.chords.values())
        padded = [np.pad(c, ((0, columns - len(c)), (0, 0))) for c in self.chords.values()]
        # Few distinct shapes: what is compiled for one table serves the next.
        chords = np.stack(padded + [padded[0]] * (-len(padded) % 8))
        return TabulatedDual(
            self.source,
            jnp.asarray(self.moments),
            jnp.asarray(chords),
            jnp.asarray(slots),
            jnp.array(self.errors),
        )


@jax.jit
def _moment_panels(source, panels):
    transform = _to_coefficients(_ROWS)
    points, probes = jnp.asarray(_chebyshev_points(_ROWS)), jnp.asarray(_PROBES[:, 0])

    def values(panel, x):
        q = jnp.exp2(_LOWEST + 2.0 * panel + 1 + x)
        mean, variance = source.moments(q)
        shift = mean - source.activation(jnp.zeros_like(q))
        return jnp.stack([shift / jnp.sqrt(q), variance / q]), source.error(q)

    def build(panel):
        at_points, _ = jax.vmap(lambda x: values(panel, x), out_axes=(1, 0))(points)
        coefficients = at_points @ transform.T
        expected, quadrature = jax.vmap(lambda x: values(panel, x), out_axes=(1, 0))(probes)
        found = jax.vmap(lambda x: coefficients @ _basis(x, _ROWS), out_axes=1)(probes)
        # The mean enters squared, beside the variance.
        size = jnp.stack([jnp.abs(expected[0]) + jnp.sqrt(expected[1]), expected[1]])
        return coefficients, jnp.maximum(jnp.max(jnp.abs(found - expected) / size), jnp.max(quadrature))

    return jax.lax.map(build, panels)


@functools.partial(jax.jit, static_argnums=2)
def _chord_panel(source, panel, n):
    rows, columns = _to_coefficients(_ROWS), _to_coefficients(n)
    low = _LOWEST + 2.0 * panel + 1

    def value(point):
        q, theta = jnp.exp2(low + point[0]), _angle_of_position(point[1], panel)
        return source.chord(q, theta)

    x, y = np.meshgrid(_chebyshev_points(_ROWS), _chebyshev_points(n))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    probes = np.stack([_PROBES[:, 0], 2 * _PROBES[:, 1] - 1], axis=1)
    values = jax.lax.map(value, jnp.asarray(np.concatenate([grid, probes])), batch_size=64)
    at_points, expected = values[: len(grid)].reshape(n, _ROWS), values[len(grid) :]
    coefficients = columns @ at_points @ rows.T

    def table(probe):
        return _chebyshev_sum(coefficients @ _basis(probe[0], _ROWS), probe[1])

    found = jax.vmap(table)(jnp.asarray(probes))
    return coefficients, jnp.max(jnp.abs(found / expected - 1))
