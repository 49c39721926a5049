"""Gaussian moments looked up in tables (see ``cells`` for their layout, ``tables`` for how they are made)."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from meanfield.activations.asymptotes import Asymptote
from meanfield.dual.base import Dual
from meanfield.dual.tables.cells import (
    ANGLE_TERMS,
    CELLS,
    Q_TERMS,
    cell_of,
    horner,
    place_in,
    stretch_of,
    whole,
)
from meanfield.numerics.pytrees import register_dataclass, replaced

STARTS = 128  # bins of the table of first guesses


@register_dataclass
@dataclass(frozen=True, eq=False)
class TabulatedDual(Dual):
    """Moments from tables. ``DualTables`` makes them.

    source: what they were made from; None where it will not be asked. origin: phi(0). lines, patches:
    polynomials of mean and variance in the cells of log q, and of the chord in those of log q and angle,
    flat. ends: of the chord at theta = 0 and pi/2, shape (slots, cells, 2, terms). starts: shape (slots,
    cells + 1, bins + 1). slots: which slot holds a panel. offsets, columns: where in ``patches`` a slot
    begins, and its number of cells in the angle.
    line_errors: relative, of mean and variance, by panel. errors: of all moments; infinite where there is
    no table of the chord. asymptotes: what phi looks like to vanishing and to unbounded signals; None
    where the activation says so itself. may_be_quadratic: whether one of them has degree 2.
    """

    source: Dual
    origin: jax.Array
    lines: jax.Array
    patches: jax.Array
    ends: jax.Array
    starts: jax.Array
    slots: jax.Array
    offsets: jax.Array
    columns: jax.Array
    line_errors: jax.Array
    errors: jax.Array
    asymptotes: tuple[Asymptote, Asymptote] | None
    may_be_quadratic: bool = field(default=True, metadata={"static": True})

    is_tabulable = True
    is_table = True
    is_closed_form = False

    def exact(self):
        return self.source

    def alone(self) -> "TabulatedDual":
        """The table without what is peculiar to its activation: programs compiled for one serve all.

        It has no covariances and no derivatives with respect to the activation's parameters.
        """
        return replaced(self, source=None)

    def line_coefficients(self, cell):
        """Of (mean - phi(0)) / sqrt(q) and variance / q in a cell, in the position from -1 to 1."""
        start = 2 * cell * Q_TERMS
        both = [_at(self.lines, start + k) for k in range(2 * Q_TERMS)]
        return both[:Q_TERMS], both[Q_TERMS:]

    def _line(self, q, which):
        cell, place = cell_of(q)
        return _polynomial(self.lines, (2 * cell + which) * Q_TERMS, place)

    def mean_shift(self, q):
        return jnp.sqrt(q) * self._line(q, 0)

    def mean(self, q):
        return self.origin + self.mean_shift(q)

    def variance(self, q):
        return q * self._line(q, 1)

    def covariance(self, q1, q2, c):
        return self.source.covariance(q1, q2, c)

    def separation(self, q, one_minus_c):
        return self.source.separation(q, one_minus_c)

    def slope_excess(self, q):
        return self.source.slope_excess(q)

    def reflected_covariance(self, q):
        return self.source.reflected_covariance(q)

    def near(self, q) -> "CellDual":
        """Mean and variance by the polynomials of the one cell that holds q."""
        cell, _ = cell_of(q)
        return CellDual(self.origin, cell, *self.line_coefficients(cell))

    def angle_section(self, q, chord) -> "AngleSection":
        """The chord at one variance about the angle at which it takes a value."""
        section = self.section(q)
        return section.about(section.start(chord))

    def section(self, q) -> "Section":
        """The table at one variance."""
        cell, place = cell_of(q)
        panel, row = cell // CELLS, cell % CELLS
        slot = _at(self.slots, panel)
        place = jnp.where(slot < 0, jnp.nan, place)  # no table there, and no number
        slot = jnp.maximum(slot, 0)
        return Section(self, slot, row, place, *stretch_of(panel.astype(q.dtype)))

    def chord_at(self, q):
        return self.section(q).chord

    def chord(self, q, theta):
        return self.section(q).chord(theta)

    def slope_moment(self, q):
        return self.section(q).end(0)

    def error(self, q):
        return _at(self.errors, cell_of(q)[0] // CELLS)

    def line_error(self, q):
        # A few random points do not see the worst of the rounding.
        return jnp.maximum(_at(self.line_errors, cell_of(q)[0] // CELLS), 128 * jnp.finfo(q.dtype).eps)


@register_dataclass
@dataclass(frozen=True, eq=False)
class CellDual:
    """Mean and variance of a ``TabulatedDual`` in one cell of log q: what Newton's method needs."""

    origin: jax.Array
    cell: jax.Array
    mean_line: list
    variance_line: list

    def mean(self, q):
        return self.origin + jnp.sqrt(q) * horner(self.mean_line, place_in(self.cell, q))[0]

    def variance(self, q):
        return q * horner(self.variance_line, place_in(self.cell, q))[0]


@register_dataclass
@dataclass(frozen=True, eq=False)
class AngleSection:
    """offset + factor chord as a function of the angle, in one cell of it.

    column, coefficients: the cell. start: first guess of the position in it, from -1 to 1.
    """

    section: "Section"
    column: jax.Array
    coefficients: list
    start: jax.Array
    offset: jax.Array | float
    factor: jax.Array | float

    def scaled(self, offset, factor) -> "AngleSection":
        """offset + factor times this."""
        return replaced(self, offset=offset + factor * self.offset, factor=factor * self.factor)

    def lowest(self):
        """Position below which there is no angle in this cell."""
        return jnp.where(self.column == 0, -1.0, -1.3)  # theta > 0

    def gain_of_place(self, place):
        """(value, derivative) at a position in the cell."""
        value, slope = horner(self.coefficients, place)
        return self.offset + self.factor * value, self.factor * slope

    def angle_of_place(self, place):
        return self.section.angle((self.column + (place + 1) / 2) / self.section.columns())

    def angle_rate(self, angle):
        """d angle / d place at an angle."""
        return self.section.reach * jnp.sqrt(self.section.scale**2 + angle**2) / (2 * self.section.columns())

    def gain_and_slope(self, theta):
        """(value, derivative) at an angle."""
        value, slope = self.section.chord_and_slope(theta, self.column, self.coefficients)
        return self.offset + self.factor * value, self.factor * slope


@register_dataclass
@dataclass(frozen=True, eq=False)
class Section:
    """The chord as a function of the angle, at one variance.

    slot, row, place: cell in log q and position in it. scale, reach: theta = scale sinh(reach s).
    """

    table: TabulatedDual
    slot: jax.Array
    row: jax.Array
    place: jax.Array
    scale: jax.Array
    reach: jax.Array

    def end(self, which):
        """The chord at theta = 0 (``which`` 0) or pi/2 (1)."""
        start = ((self.slot * CELLS + self.row) * 2 + which) * Q_TERMS
        return _polynomial(self.table.ends.reshape(-1), start, self.place)

    def columns(self):
        """Number of cells in the angle."""
        return _at(self.table.columns, self.slot)

    def cell(self, column):
        """Coefficients, in the position from -1 to 1, of the chord in one cell of the angle."""
        table = self.table
        patch = self.row * _at(table.columns, self.slot) + column
        start = _at(table.offsets, self.slot) + patch * (ANGLE_TERMS * Q_TERMS)
        return [_polynomial(table.patches, start + k * Q_TERMS, self.place) for k in range(ANGLE_TERMS)]

    def angle(self, s):
        """theta at s from 0 to 1."""
        return self.scale * jnp.sinh(self.reach * s)

    def chord_and_slope(self, theta, column, coefficients):
        """The chord and its derivative over theta, by the polynomial of one ``cell`` of the angle."""
        columns = self.columns()
        s = jnp.arcsinh(theta / self.scale) / self.reach * columns
        value, slope = horner(coefficients, 2 * (s - column) - 1)
        return value, slope * 2 * columns / (self.reach * jnp.sqrt(self.scale**2 + theta**2))

    def chord(self, theta):
        s = jnp.arcsinh(theta / self.scale) / self.reach * self.columns()
        column = jnp.clip(whole(s), 0, self.columns() - 1)
        return self.chord_and_slope(theta, column, self.cell(column))[0]

    def about(self, s) -> "AngleSection":
        """The chord about an angle, s in cells."""
        s = jax.lax.stop_gradient(s)
        column = jnp.clip(whole(s), 0, self.columns() - 1)
        return AngleSection(self, column, self.cell(column), 2 * (s - column) - 1, 0.0, 1.0)

    def start(self, chord):
        """A first guess of s (in cells) where the chord takes a value: within a few hundredths of a cell."""
        top, bottom = self.end(0), self.end(1)
        return self.fallen(jnp.sqrt(jnp.clip((top - chord) / jnp.maximum(top - bottom, 1e-300), 0.0, 1.0)))

    def fallen(self, root):
        """The same where the chord has fallen from that at theta = 0 by the square of ``root`` of its way."""
        w = root * STARTS
        bin_ = jnp.minimum(whole(w), STARTS - 1)
        starts = self.table.starts.reshape(-1)
        low = (self.slot * (CELLS + 1) + self.row) * (STARTS + 1) + bin_
        high = low + (STARTS + 1)
        mix, rest = (self.place + 1) / 2, w - bin_

        def between(i):
            return _at(starts, i) * (1 - rest) + _at(starts, i + 1) * rest

        return (between(low) * (1 - mix) + between(high) * mix) * self.columns()


_SCALAR = jax.lax.GatherDimensionNumbers((), (0,), (0,))


def _at(array, index):
    """One entry of a flat array, known to be inside: ``array[index]`` in a fourth of the time to trace."""
    inside = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return jax.lax.gather(array, index[None], _SCALAR, (1,), mode=inside)


@jax.jit
def _polynomial(coefficients, start, x):
    """The polynomial whose Q_TERMS coefficients begin at ``start``."""
    value = _at(coefficients, start + (Q_TERMS - 1))
    for k in range(Q_TERMS - 2, -1, -1):
        value = value * x + _at(coefficients, start + k)
    return value
