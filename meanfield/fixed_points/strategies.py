"""Fixed points of many layers at once: one solver for each kind of moments, fed in chunks.

A chunk's result depends on its own values and shape alone, so that it does not matter who computes it.
"""

import dataclasses
import functools
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from meanfield.dual import panel_of, tables_of
from meanfield.dual.choice import TOLERANCE, rule_errors
from meanfield.dual.tables.build import SHIPPED, DualTables, is_shipped
from meanfield.dual.tables.cells import panel_on_host
from meanfield.dual.tables.lookup import TabulatedDual
from meanfield.fixed_points.correlation import (
    at_limit,
    correlation_reached,
    may_be_opposite,
    solve,
    variance_reached,
)
from meanfield.fixed_points.one_by_one import MOST_POINTS, OneByOne
from meanfield.fixed_points.regular import may_drift, regular_drift, regular_point, regular_variance
from meanfield.fixed_points.result import FixedPoint, raise_errors
from meanfield.layers import Layer
from meanfield.layers.families import Family
from meanfield.numerics.broadcasting import chosen, count_points, pointwise
from meanfield.numerics.compiling import optimization_for
from meanfield.status import Status
from meanfield.support import validation

ALL_FIELDS = tuple(f.name for f in dataclasses.fields(FixedPoint))
FIELDS = tuple(name for name in ALL_FIELDS if name not in ("q_error", "c_error"))
"""What is kept of the points of a grid."""
INTEGERS = ("status", "phase")
_FEWEST_FOR_TABLE = 400  # building a table costs about as much as a few hundred points by quadrature
_FEW: tuple[int, ...] = (256, 2048)  # shapes in which points that need a solver of their own are gathered
_MANY = (256, 2048, 1 << 16)  # the same on accelerators

Columns = list[np.ndarray]
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Points:
    """Where fixed points are wanted.

    at: from columns, arrays of shape (n,), to a layer, q0 and c0, whose leaves are columns or numbers.
    may_be_opposite: whether some c0 may be -1.
    """

    at: Callable[[Columns], tuple[Layer, Any, Any]]
    may_be_opposite: bool

    @classmethod
    def of_family(cls, family: Family, q0: float, c0: float) -> "Points":
        """A column for every parameter of a family."""
        return cls(lambda columns: (family.layers(columns), q0, c0), may_be_opposite(c0))


def solve_in_chunks(
    solver: "PointSolver",
    size: int,
    columns_of: Callable,
    advance=lambda done: None,
    mesh: Mesh | None = None,
    fields: tuple[str, ...] = FIELDS,
) -> Values:
    """Fields at ``size`` priors, of which ``columns_of(start, stop)`` gives the parameters.

    Every device of the mesh takes the next chunk when it has done its last one, by the same program
    that one device alone would run: which of them it was does not show in a single bit.
    """
    result = {name: np.empty(size, np.int8 if name in INTEGERS else np.float64) for name in fields}
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
                solved = solver.solve([padded(c, chunk) for c in columns_of(start, stop)], device)
        finally:
            free.put(device)
        store(result, slice(start, stop), solved, stop - start)
        return stop - start

    ahead = solver.ahead([padded(c, chunk) for c in columns_of(0, 1)]) if mesh is None else None
    if size <= chunk and ahead is None:
        advance(solve(0))
        return result
    with ThreadPoolExecutor(len(devices)) as pool:
        if ahead is not None:
            pool.submit(ahead)  # what goes wrong in it goes wrong where it is needed, too
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


def point_solver(points: "Points", size: int, first: Columns) -> "PointSolver":
    """The solver for ``size`` points; ``first`` is one of them."""
    layer, _, _ = points.at(first)
    if tables := tables_for(layer, size):
        return TabulatedSolver(points, layer, tables, size)
    return DirectSolver(points, layer)


def tables_for(layer: Layer, size: int) -> "list[DualTables]":
    """The tables by which ``size`` points of layers of this kind are solved faster: decided here alone.

    Few points take those that come with the package, as they come; many are worth new ones.
    """
    moments = layer.moments()
    if not all(dual.is_tabulable for _, dual in moments) or layer.traced:
        return []
    # A table belongs to one value of the activation's parameters.
    if any(np.ndim(p) > 0 or validation.is_traced(p) for a, _ in moments for p in a.params):
        return []
    if size < _FEWEST_FOR_TABLE and not is_at_hand(layer):
        return []
    return [tables_of(dual, activation) for activation, dual in moments]


def is_at_hand(layer: Layer) -> bool:
    """Whether all tables come with the package."""
    return all(is_shipped(activation) and not dual.is_closed_form for activation, dual in layer.moments())


def padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), mode="edge") if len(values) < size else values


def store(result: Values, where, solved: Values, count: int) -> None:
    """Put the fields of ``count`` points in their place, without what pads them."""
    for name, values in result.items():
        values[where] = solved[name][:count]


class PointSolver(ABC):
    """Fixed points of chunks of priors."""

    most: int
    """Points a chunk, at most."""

    @abstractmethod
    def solve(self, columns: Columns, device=None) -> Values:
        """All fields at priors given by three arrays of one shape (n,), on a device or the default one."""

    def ahead(self, columns: Columns) -> Callable[[], None] | None:
        """What compiles, beside the first chunk, what is needed behind it; None where nothing is known."""
        return None


class DirectSolver(PointSolver):
    """By the moments' own source: a closed form, or a quadrature for few points."""

    def __init__(self, points: Points, example: Layer):
        self.most = example.points_at_once or 1 << 17
        self._points = points

    def solve(self, columns, device=None):
        return self.solve_layers(*self._points.at(columns), device=device)

    def solve_layers(self, layer: Layer, q0, c0, device=None) -> Values:
        values = on_host(run_job(device, _solve, layer, q0, c0, opposite=self._points.may_be_opposite))
        claimed = values["status"] == Status.CONVERGED
        raise_errors(values, _errors_found(functools.partial(run_job, device), layer, values["q"], claimed))
        return values


class TabulatedSolver(PointSolver):
    """By tables: regular points in bulk, unbounded and vanishing ones by their limit, others one by one."""

    def __init__(self, points: Points, example: Layer, tables: list[DualTables], size: int):
        self.most, self._shapes = (1 << 14, _FEW) if jax.default_backend() == "cpu" else (1 << 20, _MANY)
        self._points, self._opposite, self._tables = points, points.may_be_opposite, tables
        self._exact = DirectSolver(points, example)
        self._optimization = optimization_for(size)
        # Of many, some are irregular in every chunk: a program for them is then worth compiling.
        one_by_one = self._optimization is not None and can_be_surveyed(example) and example.is_sum_of_moments
        self._one_by_one = OneByOne(example) if one_by_one else None
        self._as_shipped = size < _FEWEST_FOR_TABLE
        self._some_drift: bool | None = None  # until a chunk tells
        self._lock = threading.Lock()
        self._lines = _OnDevices([table.lines_alone.alone() for table in self._tables])
        self._ready: _OnDevices | None = None

    def solve(self, columns, device=None):
        plain, q0, c0 = self._points.at(columns)
        run = functools.partial(run_job, device, optimization=self._optimization)
        rare = functools.partial(self._run_rare, device)
        few = len(columns[0]) <= _FEW[0]
        shapes = (len(columns[0]),) if few else self._shapes
        layer = plain.with_moments(self._lines.on(device))
        found = variances_reached(run, layer, q0, shapes, rare, functools.partial(self._settled, plain, q0))
        q, status = found.pop("q"), found.pop("status")
        finite = status == Status.CONVERGED
        panels = np.array([found[f"panel {i}"] for i in range(len(found))])
        beyond = finite & ~self._serves(panels)
        tabulated = finite & ~beyond
        layer = plain.with_moments(self._with_panels(panels[:, tabulated]).on(device))
        values, solved, limits = blank(q.size), np.zeros(q.shape, bool), is_limit(status)
        # Mostly all of a chunk are limits or none. First, while another chunk waits for the larger program.
        drifting = self._drifting(run, layer, values, status, c0)
        job = functools.partial(rare, limit_job, opposite=self._opposite)
        fill(values, limits & ~drifting, job, layer, q, status, c0, shapes=(q.size,))
        if layer.has_section and tabulated.any():
            here = on_host(run(_regular_point, layer, q, c0))
            solved = here.pop("sure")
            values = {name: np.where(limits, values[name], x) for name, x in here.items()}
        others = ~np.where(finite, solved | beyond, limits)
        job = functools.partial(rare, _correlation, opposite=self._opposite)
        fill(values, others, job, layer, q, status, c0, shapes=shapes)
        poor = ~beyond & (values["status"] == Status.INACCURATE)
        if poor.any():  # of the table, or of the source as well, which then need not be asked
            some_q = np.where(finite, q, 1.0)
            poor &= np.asarray(run(_is_resolved, plain, some_q))
            poor &= np.isfinite(_errors_found(run, plain, some_q, poor))
        exact = functools.partial(self._exact.solve_layers, device=device)
        most = self._exact.most
        fill(values, poor | beyond, exact, plain, q0, c0, shapes=(1, min(most, q.size)) if few else (most,))
        return values

    def ahead(self, columns):
        plain, _, c0 = self._points.at(columns)
        layer = plain.with_moments(iter(self._alone([table.expected() for table in self._tables])))
        number = len(columns[0])
        key = jax.tree.structure(layer), number, self._optimization
        if not layer.has_section or key in _MADE_AHEAD:
            return None
        _MADE_AHEAD.add(key)
        drifting = drifts(layer)
        job = _regular_drift if drifting else _regular_point
        given = np.full(number, Status.UNBOUNDED, np.int8) if drifting else np.ones(number)

        def compile_it():
            with jax.enable_x64(True):
                run_job(None, job, layer, given, c0, optimization=self._optimization)

        return compile_it

    def _settled(self, layer, q0, found: Values, unsure: np.ndarray) -> np.ndarray:
        """Which of the points that are not regular are settled one by one on the host: if they are few."""
        settled = np.zeros(unsure.shape, bool)
        if self._one_by_one is None or unsure.sum() > MOST_POINTS:
            return settled
        once = functools.cache(self._one_by_one.reached)  # what pads a chunk is one point
        starts = np.broadcast_to(q0, unsure.shape)
        for i in np.flatnonzero(unsure):
            reached = once(self._one_by_one.leaves(layer, i), float(starts[i]))
            if reached.status in (Status.CONVERGED, Status.UNBOUNDED, Status.VANISHING):
                settled[i] = True
                q = reached.q if reached.status == Status.CONVERGED else 1.0
                found["q"][i], found["status"][i] = q, reached.status
                for k, x in enumerate(layer.variances_met(q)):
                    found[f"panel {k}"][i] = panel_on_host(x)
        return settled

    def _drifting(self, run, layer, values: Values, status, c0) -> np.ndarray:
        """Which points drift, and are regular; their fields are put in their place."""
        drifting = status == Status.UNBOUNDED
        if not drifting.any() or not self._may_drift(layer):
            return np.zeros(status.shape, bool)
        here = on_host(run(_regular_drift, layer, status, c0))
        drifting &= here.pop("sure")
        for name, x in here.items():
            values[name] = np.where(drifting, x, values[name])
        return drifting

    def _may_drift(self, layer) -> bool:
        if self._some_drift is None:
            self._some_drift = drifts(layer) is not None
        return self._some_drift

    def _run_rare(self, device, job, *trees, **static) -> Any:
        """A job that only some points need: for few of them, in little time compiled and slow to run."""
        few = count_points(trees) <= _FEW[0] or job is limit_job  # which has next to nothing to do
        optimization = 0 if few and self._optimization is not None else self._optimization
        return run_job(device, job, *trees, optimization=optimization, **static)

    def _serves(self, panels) -> np.ndarray:
        """Whether there is a table, or will be, at the panels of each point."""
        return (
            np.all(np.isin(panels, SHIPPED), axis=0) if self._as_shipped else np.ones(panels.shape[1:], bool)
        )

    def _with_panels(self, panels) -> "_OnDevices":
        """The tables with what they need for these panels of each."""
        with self._lock:
            built = [table.build(np.unique(p)) for table, p in zip(self._tables, panels, strict=True)]
            if any(built) or self._ready is None:
                self._ready = _OnDevices(self._alone([table.dual() for table in self._tables]))
            return self._ready

    def _alone(self, tables: list[TabulatedDual]) -> list[TabulatedDual]:
        """Without their source, where nobody asks it: programs then serve every activation."""
        return tables if self._opposite else [table.alone() for table in tables]


_MADE_AHEAD: set = set()  # for what kinds of layers the program behind the variance was compiled


def drifts(layer: Layer) -> bool | None:
    """Whether signals drift at the first point of a tabulated layer; None where none drift regularly."""
    (point,) = chosen(0, layer)
    return bool(may_drift(point)[1]) if jax.eval_shape(may_drift, point) is not None else None


def can_be_surveyed(layer: Layer) -> bool:
    """Whether every activation of a layer can be looked at: a quadrature, at one value of its parameters."""
    moments = layer.moments()
    if layer.traced or not all(dual.is_surveyable for _, dual in moments):
        return False
    params = [p for activation, _ in moments for p in activation.params]
    return bool(moments) and not any(np.ndim(p) or validation.is_traced(p) for p in params)


def _errors_found(run, layer: Layer, q: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Errors of a layer's moments at the wanted variances, relative, as an independent look tells.

    Infinite where they are larger than any rule may be wrong; 0 where nobody looks.
    """
    found = np.zeros(q.shape)
    if not (wanted.any() and can_be_surveyed(layer)):
        return found
    met = on_host(run(_variances_met, layer, np.where(wanted, q, 1.0)))
    for (_, dual), x in zip(layer.moments(), met.values(), strict=True):
        panels, which = np.unique(np.asarray(panel_of(x[wanted])), return_inverse=True)
        for end in (np.min, np.max):
            errors = rule_errors(dual, np.array([end(x[wanted][which == k]) for k in range(panels.size)]))
            errors = np.where(errors <= TOLERANCE, errors, np.inf)
            found[wanted] = np.maximum(found[wanted], errors[which])
    return found


class _OnDevices:
    """What all chunks share, brought to every device once."""

    def __init__(self, shared):
        self._copies = {None: shared}

    def on(self, device):
        if device not in self._copies:
            self._copies[device] = jax.device_put(self._copies[None], device)
        return iter(self._copies[device])


# --- the jobs: functions of a layer and numbers, to dictionaries ------------------------


def run_job(device, job: Callable, layer: Layer, *arrays, optimization=None, **static) -> Any:
    """A job for every layer of a chunk, on a device or the default one."""
    if device is not None:
        layer, arrays = jax.device_put((layer, arrays), device)
    whole = _WHOLE_CHUNK if layer.is_tabulated else None
    return pointwise(
        job, layer, *arrays, static=tuple(static.values()), at_once=whole, optimization=optimization
    )


_WHOLE_CHUNK = 1 << 30


def variances_reached(run, lines, q0, shapes, rare=None, settled=None) -> Values:
    """What ``_met`` tells, the points that are not regular by the solver that knows every case.

    rare: what runs that one, ``run`` if left out. settled: tells which points it has settled before.
    """
    found = on_host(run(_regular_variance, lines, q0))
    unsure = ~found.pop("sure")
    if settled is not None:
        unsure &= ~settled(found, unsure)
    fill(found, unsure, functools.partial(rare or run, _variance), lines, q0, shapes=shapes)
    return found


def is_limit(status) -> np.ndarray:
    return (status == Status.UNBOUNDED) | (status == Status.VANISHING)


def _regular_variance(layer, q0):
    q, status, sure = regular_variance(layer, q0)
    return {"sure": sure} | _met(layer, q, status)


def _variance(layer, q0):
    q, status = variance_reached(layer, q0)
    return _met(layer, q, jnp.where(layer.is_valid(), status, Status.INVALID))


def _met(layer, q, status):
    """What is known of the variance, and in which panels of the tables it lies."""
    panels = {f"panel {i}": panel_of(x) for i, x in enumerate(layer.variances_met(q))}
    return {"q": q, "status": status.astype(jnp.int8)} | panels


def _variances_met(layer, q):
    return {f"variance {i}": x for i, x in enumerate(layer.variances_met(q))}


def _regular_point(layer, q, c0):
    point, sure = regular_point(layer, q, c0)
    return {"sure": sure} | vars(point)


def _regular_drift(layer, status, c0):
    point, sure = regular_drift(layer, status, c0)
    return {"sure": sure} | vars(point)


def limit_job(layer, q, status, c0, opposite):
    return vars(at_limit(layer, status, c0, opposite))


def _correlation(layer, q, status, c0, opposite):
    return vars(correlation_reached(layer, q, status, c0, opposite))


def _solve(layer, q0, c0, opposite):
    return vars(solve(layer, q0, c0, opposite))


def _is_resolved(layer, q):
    """Where a layer's moments are as accurate as they have to be."""
    return layer.error(q) <= jnp.finfo(q.dtype).eps ** 0.65


# --- arrays on the host ------------------------------------------------------------------


def on_host(values: dict) -> Values:
    """Writable."""
    return {name: np.array(x) for name, x in jax.device_get(values).items()}


def blank(size: int) -> Values:
    return {name: np.empty(size, np.int32 if name in INTEGERS else float) for name in ALL_FIELDS}


def fill(values: Values, where, job: Callable, layer: Layer, *columns, shapes=_FEW) -> None:
    """Do a job for some points of a chunk, in batches of few distinct shapes."""
    (index,) = np.nonzero(where)
    if index.size == len(where) in shapes:
        store(values, slice(None), on_host(job(layer, *columns)), len(where))
        return
    while index.size:
        shape = next((n for n in shapes if n >= index.size), shapes[-1])
        some, index = index[:shape], index[shape:]
        place = np.pad(some, (0, shape - some.size), mode="edge")
        store(values, some, on_host(job(*chosen(place, layer, *columns))), len(some))
