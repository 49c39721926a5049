"""Phase diagrams: fixed points over a grid of priors, in bounded memory."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import validation
from meanfield.activations import as_activation
from meanfield.dual import QuadratureDual, dual_of, panel_of, tables_of
from meanfield.files import save_npz
from meanfield.fixedpoint import FixedPoint, at_variance, shared_scan, solve
from meanfield.layers import DenseLayer
from meanfield.priors import AsymmetricPrior, NormalPrior
from meanfield.progress import progress_bar
from meanfield.special_weights import as_special_weight
from meanfield.status import Status
from meanfield.variance import variance_fixed_point

PARAMETERS = ("weight_var", "bias_var", "anticorrelation")
FIELDS = tuple(f.name for f in dataclasses.fields(FixedPoint))
_INTEGERS = ("status", "phase")
_CHUNK_CLOSED_FORM = 1 << 17
_CHUNK = 1 << 13
_CHUNK_QUADRATURE = 1 << 8
_CHUNK_ASYMMETRIC = 1 << 12
_FEWEST_FOR_TABLE = 400


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Fixed points over two parameters of a prior, NumPy arrays throughout.

    weight_var, bias_var, anticorrelation: two are axes (1-d arrays), one a number.
    q, c, one_minus_c, chi_q, chi_c, chi_1, chi_perp, status, phase: as in
        ``FixedPoint``, shape (first axis, second axis), axes in the order above.
    q0, c0: the start. activation: its name. special_weight: its law's name, empty
        where there is none.
    """

    weight_var: np.ndarray
    bias_var: np.ndarray
    anticorrelation: np.ndarray
    q: np.ndarray
    c: np.ndarray
    one_minus_c: np.ndarray
    chi_q: np.ndarray
    chi_c: np.ndarray
    chi_1: np.ndarray
    chi_perp: np.ndarray
    status: np.ndarray
    phase: np.ndarray
    q0: np.ndarray
    c0: np.ndarray
    activation: str = dataclasses.field(metadata={"static": True})
    special_weight: str = dataclasses.field(default="", metadata={"static": True})

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the two parameters that vary, in the order of the arrays' axes."""
        first, second = (name for name in PARAMETERS if np.ndim(getattr(self, name)) == 1)
        return first, second

    @property
    def fixed(self) -> tuple[str, float]:
        """Name and value of the third parameter."""
        (name,) = (name for name in PARAMETERS if np.ndim(getattr(self, name)) == 0)
        return name, float(getattr(self, name))

    def plot(self, quantity: str = "phase", ax=None):
        """Draw one field over the two axes; returns the Matplotlib axes.

        quantity: "phase", a field's name, or "xi_q", "xi_c" (depth scales).
        """
        from meanfield.plotting import plot_phase_diagram

        return plot_phase_diagram(self, quantity, ax)

    def save(self, path) -> Path:
        """Write an .npz file, whole or not at all; ``load`` gives back the same bits.

        Raises OSError, naming the path, where it cannot be written.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        save_npz(path, arrays)
        return path

    @classmethod
    def load(cls, path) -> "PhaseDiagram":
        """Read what ``save`` wrote. Raises OSError, or ValueError for another kind of file."""
        names = [f.name for f in dataclasses.fields(cls)]
        texts = ("activation", "special_weight")
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for name in names}
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a phase diagram saved by meanfield: {error}") from error
        return cls(**values | {name: str(values[name]) for name in texts})

    def to_xarray(self):
        """An ``xarray.Dataset`` with the two axes as coordinates. Needs xarray."""
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs the package xarray: pip install xarray") from error
        fixed, value = self.fixed
        return xarray.Dataset(
            {name: (self.axes, getattr(self, name)) for name in FIELDS},
            coords={name: getattr(self, name) for name in self.axes},
            attrs={
                "activation": self.activation,
                "special_weight": self.special_weight,
                fixed: value,
                "q0": float(self.q0),
                "c0": float(self.c0),
            },
        )


def phase_diagram(
    activation, *, weight_var=None, bias_var=None, anticorrelation=None, q0=1.0, c0=0.0, special_weight=None
) -> PhaseDiagram:
    """Fixed points over any two of weight_var, bias_var, anticorrelation, the third fixed.

    special_weight: None for a ``NormalPrior``; a law, as for ``AsymmetricPrior``, for
        that prior. Then c and chi_c are NaN where signals part (chi_1 > 1): they take
        sampling, for which see ``fixed_point``. All else is deterministic.

    Give two of them as 1-d arrays and at most one as a number (bias_var and
    anticorrelation are 0 if left out). Computes in float64 whatever JAX's default
    is, in chunks: memory beyond the result does not grow with the grid. In a
    terminal, a progress bar shows for what takes more than two seconds.

    Raises TypeError or ValueError for arguments out of range or of the wrong shape.
    """
    activation = as_activation(activation)
    axes = _checked_axes(weight_var, bias_var, anticorrelation)
    q0 = float(validation.real("q0", _scalar("q0", q0), low=0.0))
    c0 = float(validation.real("c0", _scalar("c0", c0), low=-1.0, high=1.0))
    law = None if special_weight is None else as_special_weight(special_weight)
    if law is not None and q0 == 0:
        raise ValueError("q0 must be greater than 0 where there is a special weight")
    grids = [np.atleast_1d(axes[name]) for name in PARAMETERS]
    sizes = tuple(g.size for g in grids)
    size = int(np.prod(sizes))
    result = {name: np.empty(size, np.int8 if name in _INTEGERS else np.float64) for name in FIELDS}

    def points(start: int, stop: int) -> list[np.ndarray]:
        index = np.unravel_index(np.arange(start, stop), sizes)
        return [grid[i] for grid, i in zip(grids, index, strict=True)]

    with jax.enable_x64(True), progress_bar(size, "phase diagram") as advance:
        solve_grid: Callable = _solve_tabulated if _worth_a_table(activation, size) else _solve_directly
        if law is not None:
            solve_grid = functools.partial(_solve_asymmetric, law)
        solve_grid(activation, points, size, q0, c0, result, advance)
    shape = tuple(n for n, name in zip(sizes, PARAMETERS, strict=True) if np.ndim(axes[name]) == 1)
    fields = {name: array.reshape(shape) for name, array in result.items()}
    return PhaseDiagram(
        **axes,
        **fields,
        q0=np.asarray(q0),
        c0=np.asarray(c0),
        activation=repr(activation),
        special_weight="" if law is None else repr(law),
    )


def _worth_a_table(activation, size: int) -> bool:
    """Building a table costs about as much as a few hundred points by quadrature."""
    return size >= _FEWEST_FOR_TABLE and isinstance(dual_of(activation), QuadratureDual)


def _solve_directly(activation, points, size, q0, c0, result, advance) -> None:
    dual = dual_of(activation)
    limit = _CHUNK_QUADRATURE if isinstance(dual, QuadratureDual) else _CHUNK_CLOSED_FORM
    scan = shared_scan(DenseLayer(activation, NormalPrior(1.0), dual), jnp.float64)
    for start, stop, values in _chunks(points, size, limit):
        solved = jax.device_get(_solve(activation, dual, scan, *values, q0, c0))
        _store(result, slice(start, stop), solved, stop - start)
        advance(stop - start)


def _solve_tabulated(activation, points, size, q0, c0, result, advance) -> None:
    """Variances first: they show which panels of the table the correlations need."""
    source = dual_of(activation)
    assert isinstance(source, QuadratureDual)
    tables = tables_of(source)
    dual = tables.one_variable_dual()
    scan = shared_scan(DenseLayer(activation, NormalPrior(1.0), dual), jnp.float64)
    needed: set[int] = set()
    for start, stop, values in _chunks(points, size, _CHUNK):
        q, status, panels = jax.device_get(_solve_variance(activation, dual, scan, *values, q0))
        result["q"][start:stop], result["status"][start:stop] = q[: stop - start], status[: stop - start]
        needed |= set(np.unique(panels[: stop - start]))
    tables.build(needed)
    dual = tables.dual()
    for start, stop, values in _chunks(points, size, _CHUNK):
        done = slice(start, stop)
        known = [_padded(result[name][done], len(values[0])) for name in ("q", "status")]
        solved = jax.device_get(_solve_correlation(activation, dual, *values, *known, c0))
        _store(result, done, solved, stop - start)
        advance(stop - start)
    _solve_again(activation, points, size, q0, c0, result)


def _solve_again(activation, points, size, q0, c0, result) -> None:
    """By quadrature, the points where the table is not as good as that."""
    (poor,) = np.nonzero(result["status"] == Status.INACCURATE)
    if not poor.size:
        return
    everything = points(0, size)
    dual = dual_of(activation)
    scan = shared_scan(DenseLayer(activation, NormalPrior(1.0), dual), jnp.float64)
    some = lambda start, stop: [v[poor[start:stop]] for v in everything]  # noqa: E731
    for start, stop, values in _chunks(some, poor.size, _CHUNK_QUADRATURE):
        solved = jax.device_get(_solve(activation, dual, scan, *values, q0, c0))
        _store(result, poor[start:stop], solved, stop - start)


def _asymmetric(law, values) -> AsymmetricPrior:
    return AsymmetricPrior(**dict(zip(PARAMETERS, values, strict=True)), special_weight=law)


def _solve_asymmetric(law, activation, points, size, q0, c0, result, advance) -> None:
    """From tables of stationary laws; where the start matters, layer by layer."""
    from meanfield.density.fixed_point import settled_fixed_point, settled_grid

    several = np.zeros(size, bool)
    for start, stop, values in _chunks(points, size, _CHUNK_ASYMMETRIC):
        solved, unsure = jax.device_get(settled_grid(activation, _asymmetric(law, values), q0, c0))
        _store(result, slice(start, stop), solved, stop - start)
        several[start:stop] = unsure[: stop - start]
        advance(stop - start)
    (open_points,) = np.nonzero(several)
    if open_points.size:
        values = [v[open_points] for v in points(0, size)]
        solved = settled_fixed_point(activation, _asymmetric(law, values), q0=q0, c0=c0)
        _store(result, open_points, jax.device_get(solved), open_points.size)


def _chunks(points, size: int, limit: int) -> Iterator[tuple[int, int, list[np.ndarray]]]:
    """(start, stop, parameters) of successive chunks, all padded to one shape."""
    parts = -(-size // limit)
    rounding = 256 if size > 256 else 16  # grids of nearly one size share what is compiled
    chunk = -(-size // (parts * rounding)) * rounding
    for start in range(0, size, chunk):
        stop = min(start + chunk, size)
        yield start, stop, [_padded(v, chunk) for v in points(start, stop)]


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), mode="edge")


def _store(result, where, solved: FixedPoint, count: int) -> None:
    for name in FIELDS:
        result[name][where] = getattr(solved, name)[:count]


def _layer(activation, dual, weight_var, bias_var, anticorrelation) -> DenseLayer:
    return DenseLayer(activation, NormalPrior(weight_var, bias_var, anticorrelation), dual)


@jax.jit
def _solve(activation, dual, scan, weight_var, bias_var, anticorrelation, q0, c0) -> FixedPoint:
    def at(*prior):
        start = (jnp.asarray(x, weight_var.dtype) for x in (q0, c0))
        return solve(_layer(activation, dual, *prior), scan, *start)

    return jax.vmap(at)(weight_var, bias_var, anticorrelation)


@jax.jit
def _solve_variance(activation, dual, scan, weight_var, bias_var, anticorrelation, q0):
    def at(*prior):
        start = jnp.asarray(q0, weight_var.dtype)
        q, status = variance_fixed_point(_layer(activation, dual, *prior), scan, start)
        return q, status.astype(jnp.int8), panel_of(q)

    return jax.vmap(at)(weight_var, bias_var, anticorrelation)


@jax.jit
def _solve_correlation(activation, dual, weight_var, bias_var, anticorrelation, q, status, c0) -> FixedPoint:
    def at(weight_var, bias_var, anticorrelation, q, status):
        layer = _layer(activation, dual, weight_var, bias_var, anticorrelation)
        return at_variance(layer, q, status, jnp.asarray(c0, q.dtype))

    return jax.vmap(at)(weight_var, bias_var, anticorrelation, q, status)


def _scalar(name, value):
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be one number in a phase diagram, got shape {np.shape(value)}")
    return value


def _checked_axes(weight_var, bias_var, anticorrelation) -> dict[str, np.ndarray]:
    given = dict(weight_var=weight_var, bias_var=bias_var, anticorrelation=anticorrelation)
    if weight_var is None:
        raise TypeError("weight_var is missing: give an array of values, or a number")
    bounds = {"weight_var": (0.0, np.inf), "bias_var": (0.0, np.inf), "anticorrelation": (-np.inf, 1.0)}
    axes = {}
    for name, value in given.items():
        value = 0.0 if value is None else value
        low, high = bounds[name]
        checked = np.asarray(validation.real(name, value, low=low, high=high), np.float64)
        if checked.ndim > 1:
            raise ValueError(f"{name} must be a number or a 1-d array, got shape {checked.shape}")
        axes[name] = checked
    varying = [name for name, value in axes.items() if value.ndim == 1]
    if len(varying) != 2:
        raise ValueError(
            f"two of {', '.join(PARAMETERS)} must be 1-d arrays and the third a number; "
            f"arrays were given for {', '.join(varying) or 'none'}"
        )
    return axes
