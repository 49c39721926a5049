r"""Where the tables of Gaussian moments keep what: panels, cells and positions.

The tables lie over log q and an angle stretched about theta ~ 1/sqrt(q), where a smooth
activation of large variance begins to look kinked. A *panel* is a factor 4 of q; on it the
moments are known as Chebyshev series, as they come from the quadrature. For looking up, a
panel is cut into *cells* so small that a short polynomial does: whatever the activation, a
point then costs one look-up of contiguous coefficients and some hundred operations.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

LOWEST, PANELS = -100, 100  # panels of two octaves from 2^-100
ROWS = 20  # Chebyshev coefficients in log q on a panel
CELLS = 16  # cells of a panel in log q: an eighth of an octave each
Q_TERMS, ANGLE_TERMS = 8, 10  # coefficients of a cell's polynomials
_PER_OCTAVE = CELLS // 2


@jax.jit
def cell_of(q):
    """Index of the cell in log q, and the position in it from -1 to 1.

    Beyond the table that of its end: scaled moments are constant there, as in the limits.
    """
    eighths = _PER_OCTAVE * jnp.clip(jnp.log2(q), LOWEST, LOWEST + 2.0 * PANELS)
    first = LOWEST * _PER_OCTAVE
    cell = whole(jnp.minimum(eighths, first + PANELS * CELLS - 0.5)) - first
    return cell, 2 * (eighths - (cell + first)) - 1


def place_in(cell, q):
    """The position of q in a cell, from -1 to 1 inside it."""
    return 2 * (_PER_OCTAVE * jnp.log2(q) - (cell + LOWEST * _PER_OCTAVE)) - 1


def whole(x):
    """The integer below x, made once.

    XLA computes cheap values again wherever they are used, and not always to the same bit: beside
    an integer, coefficients would come from one cell and the position from another.
    """
    return jax.lax.optimization_barrier(jnp.floor(jax.lax.stop_gradient(x)).astype(jnp.int32))


slope_of_place = 2 * _PER_OCTAVE / np.log(2)  # of the position in a cell, over log q


def panel_of(q):
    """Index of the panel that holds q."""
    return cell_of(q)[0] // CELLS


def panel_on_host(q: float) -> int:
    """The same of a number, with nothing compiled."""
    octave = min(max(math.log2(q), LOWEST), LOWEST + 2 * PANELS - 0.5 / _PER_OCTAVE)
    return int((octave - LOWEST) // 2)


def q_of(panel, position):
    """q at a position from -1 to 1 in a panel."""
    return np.exp2(LOWEST + 2.0 * panel + 1 + position)


def stretch_of(panel, xp=jnp):
    """(scale, reach): theta = scale sinh(reach s) for 0 <= s <= 1.

    scale is the angle below which the panel's activation looks smooth; s = 1 is theta = pi/2.
    """
    scale = 1 / xp.sqrt(1 + xp.exp2(LOWEST + 2.0 * panel + 1))
    return scale, xp.arcsinh(np.pi / 2 / scale)


def theta_of(panel: int, position):
    """theta at a position from -1 to 1 in a panel."""
    scale, reach = stretch_of(panel, np)
    return scale * np.sinh(reach * (position + 1) / 2)


def chebyshev_points(n: int) -> np.ndarray:
    """The n roots of T_n."""
    return np.cos(np.pi * (np.arange(n) + 0.5) / n)


@functools.cache
def to_series(n: int) -> np.ndarray:
    """Matrix from values at the Chebyshev points to Chebyshev coefficients."""
    k, x = np.arange(n), np.pi * (np.arange(n) + 0.5) / n
    return np.where(k == 0, 1, 2)[:, None] * np.cos(np.outer(k, x)) / n


@functools.cache
def to_cells(n: int, cells: int, terms: int) -> np.ndarray:
    """From n Chebyshev coefficients to monomial ones on each of equal cells, shape (cells, terms, n)."""
    local = chebyshev_points(terms)
    centres = (2 * np.arange(cells) + 1) / cells - 1
    values = np.polynomial.chebyshev.chebvander(centres[:, None] + local / cells, n - 1)
    return np.linalg.inv(np.vander(local, increasing=True)) @ values


@jax.jit
def horner(coefficients, x):
    """(value, derivative) of a polynomial with coefficients in ascending order."""
    value, slope = coefficients[-1], 0.0 * x
    for coefficient in coefficients[-2::-1]:
        slope = slope * x + value
        value = value * x + coefficient
    return value, slope
