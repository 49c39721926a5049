"""Make the table of an activation, so that fixed points are fast inside ``jit`` and ``grad`` too."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.activation import Activation, rebuilt, static_fields
from meanfield.activations.names import as_activation
from meanfield.dual import Dual, QuadratureDual, dual_of, is_tabulable, panel_of, tables_of
from meanfield.dual.hermite import HermiteDual
from meanfield.dual.tables.activation import from_parts
from meanfield.dual.tables.build import (
    ChordSource,
    DualTables,
    chord_series,
    cut_lines,
    cut_panel,
    line_series,
)
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import validation


def tabulate(activation, *, q=(1e-4, 1e2), tolerance=1e-12, cache=None) -> Any:
    """Build the table of an activation's Gaussian moments for variances in a range.

    activation: as for ``fixed_point``, its parameters concrete; or a layer, which is given back with
    tables for all its activations that are not in closed form, at the variances that arrive there.
    q: lowest and highest variance that fixed points are looked up at; beyond, and wherever a point is not
    regular, the quadrature (or closed form) is used as for the activation itself. Inside a trace nobody can
    choose: there such points are NaN and ``Status.INACCURATE``. tolerance: the largest relative error
    accepted, held at random points against the quadrature. cache: a directory to keep tables in (default:
    that of the environment variable MEANFIELD_CACHE, if set), under a key of what the activation computes.

    Returns an activation for ``fixed_point``, ``lyapunov_exponents`` and ``depth_scales``, which solve
    many points some hundred times as fast with it, under jit and grad too. (``phase_diagram`` makes
    its own.) Derivatives exist with respect to everything, the activation's parameters included
    (``with_params``).

    Raises TypeError or ValueError for a wrong argument, and ValueError where the tolerance is not
    met, or where the activation has its fixed points in closed form and a table would have no use.
    """
    if hasattr(activation, "with_moments"):
        return _with_tables(activation, dict(q=q, tolerance=tolerance, cache=cache))
    activation = as_activation(activation)
    if activation.traced or validation.is_traced(activation.params):
        raise TypeError(f"{activation.name} must not depend on traced values: its table is built now")
    low, high = (float(validation.real("q", x, low=0.0, low_open=True)) for x in _pair(q))
    if not low < high:
        raise ValueError(f"q must be a range (low, high), got {q!r}")
    tolerance = float(validation.real("tolerance", tolerance, low=0.0, low_open=True))
    source = dual_of(activation)
    if isinstance(source, HermiteDual):
        raise ValueError(f"{activation.name} varies too quickly for a table: it is solved without one")
    if not is_tabulable(source):
        raise ValueError(f"{activation.name} has its fixed points in closed form: no table is needed")
    with jax.enable_x64(True):
        tables = tables_of(source, activation, cache)
        panels = range(int(panel_of(jnp.asarray(low))), int(panel_of(jnp.asarray(high))) + 1)
        tables.build(panels)
        worst = max(tables.errors[panel] for panel in panels)
        if worst > tolerance:
            raise ValueError(
                f"the table of {activation.name} has a relative error of {worst:.0e} between q = {low:g} and "
                f"{high:g}, above the tolerance {tolerance:g}; declare its kinks, or choose another range"
            )
        # The activation itself says what it looks like far out: that has derivatives.
        dual = dataclasses.replace(tables.dual(panels), asymptotes=None)
        table = jax.device_get(dual)
        slopes = tuple(_slopes(activation, i, tables, panels, table) for i in range(len(activation.params)))
    built_for = tuple(float(p) for p in activation.params)
    return from_parts((static_fields(activation), built_for), (activation.params, table, slopes))


def _with_tables(layer, options):
    """The layer, its moments looked up in tables wherever that is faster."""
    sources = [(activation, dual.exact()) for activation, dual in layer.moments()]
    if not any(is_tabulable(dual) for _, dual in sources):
        raise ValueError(f"{layer!r} has its moments in closed form: no table is needed")
    tables = (tabulate(a, **options).dual if is_tabulable(dual) else dual for a, dual in sources)
    return layer.with_moments(tables)


def _pair(q):
    try:
        low, high = q
    except (TypeError, ValueError):
        raise ValueError(f"q must be a range (low, high), got {q!r}") from None
    return low, high


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class _Sensitivity:
    """Derivatives of an activation's moments with respect to one of its parameters, in place of them."""

    activation: Activation
    source: Dual
    which: int = dataclasses.field(metadata={"static": True})

    def _slope(self, moment):
        def at(p):
            params = list(self.activation.params)
            params[self.which] = p
            activation = _with_params(self.activation, params)
            if isinstance(self.source, QuadratureDual):  # by the same rule
                return moment(dataclasses.replace(self.source, activation=activation))
            return moment(dual_of(activation))

        p = jnp.asarray(self.activation.params[self.which], float)
        return jax.jvp(at, (p,), (jnp.ones_like(p),))[1]

    def mean_shift(self, q):
        return self._slope(lambda dual: dual.mean_shift(q))

    def variance(self, q):
        return self._slope(lambda dual: dual.variance(q))

    def error(self, q):
        return jnp.zeros_like(q)

    def line_error(self, q):
        return jnp.zeros_like(q)

    def chord(self, q, theta):
        return self._slope(lambda dual: dual.chord(q, theta))


def _with_params(activation, params) -> Activation:
    return rebuilt(Activation, static_fields(activation), params=tuple(params))


def _slopes(activation, which: int, tables: DualTables, panels, table) -> dict[str, Any]:
    """Derivatives of the table's coefficients with respect to one parameter, in its layout."""
    source = _Sensitivity(activation, tables.source, which)
    lines, _ = line_series(source)
    chords = ChordSource(source)
    pieces = [cut_panel(p, chord_series(chords, p, len(tables.chords[p]))[0]) for p in sorted(panels)]
    patches, ends = (np.concatenate([x[i].ravel() for x in pieces]) for i in (0, 2))

    def at_origin(p):
        params = list(activation.params)
        params[which] = p
        return _with_params(activation, params)(jnp.zeros(()))

    origin = jax.jacfwd(at_origin)(jnp.asarray(activation.params[which], float))

    def like(values, array):
        return np.pad(values, (0, array.size - values.size)).reshape(array.shape)

    return {
        "origin": np.asarray(origin),
        "lines": cut_lines(lines),
        "patches": like(patches, table.patches),
        "ends": like(ends, table.ends),
    }
