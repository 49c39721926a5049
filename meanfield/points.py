"""Fixed points of many priors at once: one solver for each kind of activation, fed in chunks.

A chunk's result depends on its own values and shape alone, so that it does not matter who computes it.
"""

import dataclasses
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from meanfield.activations import as_activation
from meanfield.dual import (
    Dual,
    QuadratureDual,
    dual_of,
    is_tabulable,
    panel_of,
    tables_of,
)
from meanfield.fixedpoint import FixedPoint, at_limit, shared_scan, solve
from meanfield.layers import DenseLayer
from meanfield.priors import AsymmetricPrior, NormalPrior
from meanfield.regular_points import regular_point, regular_variance
from meanfield.special_weights import as_special_weight
from meanfield.status import Status
from meanfield.variance import growth_scan

PARAMETERS = ("weight_var", "bias_var", "anticorrelation")
FIELDS = tuple(f.name for f in dataclasses.fields(FixedPoint))
INTEGERS = ("status", "phase")
_FEWEST_FOR_TABLE = 400  # building a table costs about as much as a few hundred points by quadrature
_FEW = (256, 2048)  # shapes in which points that need a solver of their own are gathered

Columns = list[np.ndarray]
Values = dict[str, np.ndarray]


def solve_points(
    activation, columns: dict[str, np.ndarray], *, q0=1.0, c0=0.0, special_weight=None
) -> Values:
    """The fields of ``FixedPoint`` at n priors, NumPy arrays of shape (n,).

    columns: "weight_var", "bias_var", "anticorrelation", valid arrays of shape (n,). Computes in float64
    whatever JAX's default is. The result is a function of these arguments to the bit: what was solved
    before in this process changes nothing.
    """
    values = [np.asarray(columns[name], np.float64) for name in PARAMETERS]
    size = len(values[0])
    with jax.enable_x64(True):
        solver = point_solver(as_activation(activation), special_weight, float(q0), float(c0), size)
        return solve_in_chunks(solver, size, lambda start, stop: [v[start:stop] for v in values])


def solve_in_chunks(
    solver: "PointSolver",
    size: int,
    columns_of: Callable,
    advance=lambda done: None,
    mesh: Mesh | None = None,
) -> Values:
    """All fields at ``size`` priors, of which ``columns_of(start, stop)`` gives the parameters.

    Every device of the mesh takes the next chunk when it has done its last one, by the same program
    that one device alone would run: which of them it was does not show in a single bit.
    """
    result = {name: np.empty(size, np.int8 if name in INTEGERS else np.float64) for name in FIELDS}
    chunk = chunk_size(size, solver.most)
    free: SimpleQueue = SimpleQueue()
    # Without a mesh two chunks are under way: one is on the host while the other computes.
    devices = [None, None] if mesh is None else list(mesh.devices.flat)
    for device in devices:
        free.put(device)

    def solve(start: int) -> int:
        stop = min(start + chunk, size)
        device = free.get()
        try:
            with jax.enable_x64(True):  # a setting of the thread
                solved = solver.solve([_padded(c, chunk) for c in columns_of(start, stop)], device)
        finally:
            free.put(device)
        _store(result, slice(start, stop), solved, stop - start)
        return stop - start

    with ThreadPoolExecutor(len(devices)) as pool:
        waiting: deque = deque()
        try:
            for start in range(0, size, chunk):
                waiting.append(pool.submit(solve, start))
                if len(waiting) > len(devices):
                    advance(waiting.popleft().result())
            while waiting:
                advance(waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
    return result


def chunk_size(size: int, most: int) -> int:
    """Points a chunk, the last one padded; few distinct values, for each is compiled anew."""
    if size <= 256:
        return -(-size // 16) * 16
    return min(most, 1 << (size - 1).bit_length())


def point_solver(activation, special_weight, q0: float, c0: float, size: int) -> "PointSolver":
    """The solver for ``size`` points of one activation (and special weight, if any)."""
    if special_weight is not None:
        return AsymmetricSolver(activation, as_special_weight(special_weight), q0, c0)
    dual = dual_of(activation)
    if is_tabulable(dual) and size >= _FEWEST_FOR_TABLE:
        return TabulatedSolver(activation, dual, q0, c0)
    return DirectSolver(activation, dual, q0, c0)


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), mode="edge") if len(values) < size else values


def _store(result: Values, where, solved: Values, count: int) -> None:
    """Put the fields of ``count`` points in their place, without what pads them."""
    for name in FIELDS:
        result[name][where] = solved[name][:count]


class PointSolver(ABC):
    """Fixed points of chunks of priors."""

    most: int
    """Points a chunk, at most."""

    @abstractmethod
    def solve(self, columns: Columns, device=None) -> Values:
        """All fields at priors given by three arrays of one shape (n,), on a device or the default one."""


class DirectSolver(PointSolver):
    """By the dual itself: a closed form, or a quadrature for few points."""

    def __init__(self, activation, dual: Dual, q0: float, c0: float):
        self.most = 1 << 8 if isinstance(dual, QuadratureDual) else 1 << 17
        layer = DenseLayer(activation, NormalPrior(1.0), dual)
        self._job = _Job(_solve, (activation, dual, shared_scan(layer, jnp.float64)), q0, c0)

    def solve(self, columns, device=None):
        return _fields(self._job(device, *columns))


class TabulatedSolver(PointSolver):
    """By tables: regular points in bulk, unbounded and vanishing ones by their limit, others one by one."""

    def __init__(self, activation, dual: Dual, q0: float, c0: float):
        self.most = 1 << 14 if jax.default_backend() == "cpu" else 1 << 20
        self._activation, self._source, self._start = activation, dual, (q0, c0)
        self._tables = tables_of(dual, activation)
        self._lock = threading.Lock()
        table = self._tables.dual()
        self._scan = growth_scan(DenseLayer(activation, NormalPrior(1.0), table))
        self._variances = _Job(_regular_variances, (activation, table, self._scan), q0)
        self._ready: dict[str, _Job] = {}

    def solve(self, columns, device=None):
        q, status, sure, panels = jax.device_get(self._variances(device, *columns))
        finite = status == Status.CONVERGED
        ready = self._with_panels(panels[finite])
        point, solved = ready["regular"](device, *columns, q)
        values = _fields(point)
        self._fill(values, sure & ~finite, ready["limits"], device, [*columns, status])
        others = np.where(finite, ~(sure & np.asarray(solved)), ~sure)
        self._fill(values, others, ready["others"], device, columns)
        poor = values["status"] == Status.INACCURATE
        if poor.any():
            exact = DirectSolver(self._activation, self._source, *self._start)
            self._fill(values, poor, exact._job, device, columns, (exact.most,))
        return values

    def _with_panels(self, panels) -> "dict[str, _Job]":
        """What solves points with a table that has these panels."""
        with self._lock:
            if self._tables.build(np.unique(panels)) or not self._ready:
                shared = self._activation, self._tables.dual()
                q0, c0 = self._start
                self._ready = {
                    "regular": _Job(_regular_points, shared, c0),
                    "limits": _Job(_limits, shared, c0),
                    "others": _Job(_solve, (*shared, self._scan), q0, c0),
                }
            return self._ready

    @staticmethod
    def _fill(values: Values, where, job: "_Job", device, columns: Columns, shapes=_FEW) -> None:
        """Solve some points of a chunk in batches of few distinct shapes."""
        (index,) = np.nonzero(where)
        while index.size:
            shape = next((n for n in shapes if n >= index.size), shapes[-1])
            some, index = index[:shape], index[shape:]
            solved = job(device, *(_padded(c[some], shape) for c in columns))
            _store(values, some, _fields(solved), len(some))


class AsymmetricSolver(PointSolver):
    """From tables of stationary laws; where the start matters, layer by layer."""

    most = 1 << 12

    def __init__(self, activation, law, q0: float, c0: float):
        self._activation, self._law, self._start = activation, law, (q0, c0)

    def _prior(self, columns) -> AsymmetricPrior:
        return AsymmetricPrior(**dict(zip(PARAMETERS, columns, strict=True)), special_weight=self._law)

    def solve(self, columns, device=None):
        from meanfield.density.fixed_point import deterministic_points, settled_fixed_point

        solved, several = jax.device_get(
            deterministic_points(self._activation, self._prior(columns), *self._start)
        )
        values = _fields(solved)
        (unsure,) = np.nonzero(several)
        if unsure.size:
            q0, c0 = self._start
            some = settled_fixed_point(
                self._activation, self._prior([c[unsure] for c in columns]), q0=q0, c0=c0
            )
            _store(values, unsure, _fields(some), len(unsure))
        return values


def _fields(point: FixedPoint) -> Values:
    """On the host, writable."""
    return {name: np.array(getattr(point, name)) for name in FIELDS}


# --- compiled functions ----------------------------------------------------------------


class _Job:
    """``function(shared, columns, start)`` on any device, to which what is shared is brought once."""

    def __init__(self, function: Callable, shared, *start: float):
        self._function, self._start = function, start
        self._shared = {None: shared}

    def __call__(self, device, *columns):
        if device not in self._shared:
            self._shared[device] = jax.device_put(self._shared[None], device)
        columns = columns if device is None else jax.device_put(columns, device)
        return self._function(self._shared[device], columns, self._start)


def _over_priors(at, columns, start):
    """Map ``at(prior, *more columns, *start)`` over the columns."""
    start = [jnp.asarray(x, columns[0].dtype) for x in start]
    return jax.vmap(lambda w, b, k, *more: at(NormalPrior(w, b, k), *more, *start))(*columns)


@jax.jit
def _solve(shared, columns, start) -> FixedPoint:
    activation, dual, scan = shared
    return _over_priors(lambda p, *s: solve(DenseLayer(activation, p, dual), scan, *s), columns, start)


@jax.jit
def _regular_variances(shared, columns, start):
    activation, dual, scan = shared

    def at(prior, q0):
        q, status, sure = regular_variance(DenseLayer(activation, prior, dual), scan, q0)
        return q, status.astype(jnp.int8), sure, panel_of(q)

    return _over_priors(at, columns, start)


@jax.jit
def _regular_points(shared, columns, start) -> tuple[FixedPoint, jax.Array]:
    activation, dual = shared
    return _over_priors(lambda p, *s: regular_point(DenseLayer(activation, p, dual), *s), columns, start)


@jax.jit
def _limits(shared, columns, start) -> FixedPoint:
    activation, dual = shared
    return _over_priors(lambda p, *s: at_limit(DenseLayer(activation, p, dual), *s), columns, start)
