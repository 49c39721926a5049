"""``sweep``: every chunk of a grid, computed by whoever comes first."""

import difflib
import inspect
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import __version__
from meanfield.activations.activation import Activation
from meanfield.activations.names import FAMILIES, as_activation
from meanfield.fixed_points.strategies import FIELDS, INTEGERS
from meanfield.grids.arguments import BOUNDS, check_weight_var, checked_law, given_parameters, number_or_axis
from meanfield.grids.points import solve_points
from meanfield.grids.sweeps.grid import Grid, with_chunk
from meanfield.grids.sweeps.store import SweepStore
from meanfield.layers.families import Family, dense_family, is_layer_function, layer_family
from meanfield.maps import q_map
from meanfield.priors import PARAMETERS
from meanfield.status import Phase, Status
from meanfield.support import validation
from meanfield.support.progress import progress_bar

CHUNK = 1 << 18
_START = ("q0", "c0")
_SAMPLES = np.array([-3.1, -0.7, 0.4, 1.3, 2.9])


@dataclass(frozen=True, eq=False)
class Sweep:
    """A finished sweep, on disk.

    name: of the activation, and of the special weight's law if there is one. path: the
    Zarr store. axes: what varies, name to values, in the order of the arrays' dimensions.
    computed: points that this call computed; the others were there, or came from other
    processes.
    """

    name: str
    path: Path
    axes: dict[str, np.ndarray]
    computed: int
    _store: SweepStore

    @property
    def shape(self) -> tuple[int, ...]:
        return self._store.grid.shape

    @property
    def size(self) -> int:
        return self._store.grid.size

    def counts(self) -> tuple[dict[Phase, int], dict[Status, int]]:
        """How many points have each phase and each status, read chunk by chunk. Raises OSError."""
        phases, statuses = (self._counted(name, codes) for name, codes in _CODES.items())
        return phases, statuses

    def _counted(self, name, codes) -> dict[Any, int]:
        total = np.zeros(len(codes), np.int64)
        for values in self._store.read(name):
            total += np.bincount(values.ravel(), minlength=len(codes))
        return {code: int(n) for code, n in zip(codes, total, strict=True)}

    def to_xarray(self):
        """An ``xarray.Dataset`` that reads from disk what is asked of it. Needs xarray and zarr."""
        try:
            import xarray
            import zarr  # noqa: F401
        except ImportError as error:
            raise ImportError("to_xarray needs xarray and zarr: pip install xarray zarr") from error
        return xarray.open_zarr(self.path, chunks=None)


_CODES: dict[str, Any] = {"phase": Phase, "status": Status}


def sweep(
    activation,
    store,
    *,
    weight_var=None,
    bias_var=None,
    anticorrelation=None,
    q0=1.0,
    c0=0.0,
    special_weight=None,
    chunk: int = CHUNK,
    process: int | None = None,
    processes: int | None = None,
    **parameters,
) -> Sweep:
    """Fixed points over a grid of any size, written to a Zarr store that xarray opens.

    activation: as for ``phase_diagram``; or a family, "leaky_relu", "elu", "celu" or a
        function that returns an ``Activation``, with its parameters by name; or a function that makes a
        layer from parameters of any name, which are then the ones to give.
    store: path of the store, a directory; the one it lies in must be there.
    weight_var, bias_var, anticorrelation, q0, c0 and the activation's or layer's parameters: numbers
        or 1-d arrays, at least one of them an array. Arrays are the axes, in the order: the activation's
        parameters, q0, c0, then the prior's or layer's. bias_var and anticorrelation are 0 if left out.
    special_weight: None, or the law of one weight in every row, as for ``phase_diagram``.
    chunk: the most points that are computed, written and kept in memory at a time.
    process, processes: this is which (from 0) of how many that call this for the same
        store; by default what JAX says (``jax.distributed``).

    The store has the fields of ``FixedPoint``, in float64 (status and phase in int8), and
    ``done``, by chunk. A call that is interrupted or killed is taken up by the same call
    again, and the store ends with the same bytes as had it not been. Processes exchange
    nothing but files: each does its share of the chunks, then what others left. In a
    terminal a progress bar shows for what takes more than two seconds.

    Raises TypeError or ValueError for arguments out of range, of the wrong shape, or other
    than those the store was begun with, and OSError where it cannot be written.
    """
    given = given_parameters(weight_var, bias_var, anticorrelation, **parameters)
    grid = with_chunk(_grid_of(activation, given, {"q0": q0, "c0": c0}), validation.count("chunk", chunk))
    law = checked_law(special_weight, grid.columns == PARAMETERS, (grid.axes | grid.fixed)["q0"])
    mine = _place_of(process, processes)
    shown, own = _attributes(grid, law)
    files = SweepStore(_path_of(store), grid, shown, own)
    computed = 0
    for title, share in (("sweep", _own), ("what others left", _of_others)):
        computed += _work(files, grid, law, list(_missing(files, share(grid, *mine))), title)
        files.clear()
    name = ", ".join(filter(None, (shown["activation"], shown["special_weight"])))
    return Sweep(name, Path(os.path.abspath(files.path)), grid.axes, computed, files)


def _path_of(store) -> Path:
    if not isinstance(store, str | os.PathLike) or not os.fspath(store):
        raise TypeError(f"store must be the path of a directory, got {store!r}")
    return Path(store).expanduser()


def _work(files: SweepStore, grid: Grid, law, numbers: list[int], title: str) -> int:
    """Compute chunks; while one is being computed the last one is being written."""
    sizes = {number: math.prod(b.stop - b.start for b in grid.block(number)) for number in numbers}
    total = sum(sizes.values())
    computed, finish = 0, None
    with progress_bar(total, title, unit="points") as advance:
        for number in numbers:
            if files.is_done(number):  # by another process, meanwhile
                advance(sizes[number])
                continue
            fields = _solved(grid, law, number)
            if finish is not None:
                finish()
            finish = files.write(number, fields)
            computed += sizes[number]
            advance(sizes[number])
        if finish is not None:
            finish()
    return computed


def _solved(grid: Grid, law, number: int) -> dict[str, np.ndarray]:
    """All fields of one chunk."""
    shape = tuple(b.stop - b.start for b in grid.block(number))
    inner = grid.inner_shape()
    cut = tuple(slice(n) for n in shape[len(shape) - len(inner) :])
    result = {name: np.empty(shape, np.int8 if name in INTEGERS else np.float64) for name in FIELDS}
    for place, values, columns in grid.pieces(number):
        start = {name: values[name] for name in _START}
        solved = solve_points(grid.family_at(values), columns, **start, special_weight=law)
        for name in FIELDS:
            result[name][place] = solved[name].reshape(inner)[cut]
    return result


def _own(grid: Grid, process: int, processes: int) -> Iterator[int]:
    yield from range(process, math.prod(grid.chunks), processes)


def _of_others(grid: Grid, process: int, processes: int) -> Iterator[int]:
    """From the end, where the others come last, and from another place in each process."""
    total = math.prod(grid.chunks)
    first = total * (process + 1) // processes
    for step in range(1, total + 1):
        number = (first - step) % total
        if number % processes != process:
            yield number


def _missing(files: SweepStore, numbers: Iterator[int]) -> Iterator[int]:
    return (number for number in numbers if not files.is_done(number))


def _place_of(process, processes) -> tuple[int, int]:
    if (process is None) != (processes is None):
        raise TypeError("process and processes must be given together")
    if process is None:
        return jax.process_index(), jax.process_count()
    processes = validation.count("processes", processes)
    process = validation.count("process", process, low=0)
    if process >= processes:
        raise ValueError(f"process must be less than processes, got {process} of {processes}")
    return process, processes


def _grid_of(activation, given: dict, start: dict) -> Grid:
    names: tuple[str, ...] = ()
    if is_layer_function(activation, given):
        layers = layer_family(activation, given)
        family, columns = (lambda: layers), layers.names
    else:
        family, names = _family_of(activation, {n: v for n, v in given.items() if n not in PARAMETERS})
        columns = PARAMETERS
        check_weight_var(given)
        given = {"bias_var": 0.0, "anticorrelation": 0.0} | given
    checked = {name: number_or_axis(name, value) for name, value in {**given, **start}.items()}
    order = (*names, *_START, *columns)
    axes = {name: checked[name] for name in order if checked[name].ndim == 1}
    if not axes:
        raise ValueError(
            f"at least one of {', '.join((*columns, *_START))} or of the activation's parameters "
            f"must be a 1-d array; for one point there is fixed_point"
        )
    fixed = {name: float(checked[name]) for name in order if checked[name].ndim == 0}
    return Grid(family, names, columns, axes, fixed, tuple(len(values) for values in axes.values()))


def _family_of(activation, parameters: dict) -> tuple[Callable[..., Family], tuple[str, ...]]:
    """(what makes the family of dense layers, the names of the activation's parameters that are given)."""
    if not parameters:
        whole = dense_family(as_activation(activation))
        return (lambda: whole), ()
    family = FAMILIES.get(activation) if isinstance(activation, str) else activation
    wanted = ", ".join(parameters)
    if isinstance(family, Activation) or not callable(family):
        as_activation(activation)  # an unknown name says so
        raise TypeError(
            f"the activation {activation!r} has no parameters to be given by name, and the sweep none "
            f"named {wanted}; families are {', '.join(sorted(FAMILIES))}"
        )
    known = _names_of(family)
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *BOUNDS], n=1)
            raise TypeError(
                f"{name} is no parameter of the sweep or of {_name_of(family)}, whose own are "
                f"{', '.join(known) or 'none that has a name'}"
                + (f" (did you mean {near[0]}?)" if near else "")
            )

    def made(**values):
        phi = family(**values)
        if not isinstance(phi, Activation):
            raise TypeError(f"the family {_name_of(family)} must return an Activation, got {phi!r}")
        return dense_family(phi)

    return made, tuple(name for name in known if name in parameters)


def _names_of(family) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in inspect.signature(family).parameters.values() if p.kind in kinds]


def _name_of(family) -> str:
    return getattr(family, "__name__", type(family).__name__)


def _attributes(grid: Grid, law) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what is shown with the data, what else tells this sweep from another)."""
    first = {name: float(values[0]) for name, values in grid.axes.items()} | grid.fixed
    family = grid.family_at({name: first[name] for name in grid.parameters})
    phi = family.activation
    shown = {
        "activation": phi.name if phi is not None and grid.parameters else family.label,
        "special_weight": "" if law is None else repr(law),
        **grid.fixed,
    }
    # Two functions may have one name: what they are at a few points tells them apart.
    with jax.enable_x64(True):
        own = {"activation's values": phi(jnp.asarray(_SAMPLES))} if phi else _values_of(family, grid, first)
    digits = {name: ", ".join(f"{x:.6g}" for x in np.ravel(values)) for name, values in own.items()}
    return shown, {"version": __version__, **digits}


def _values_of(family: Family, grid: Grid, first) -> dict[str, Any]:
    layer = family.layers([np.full(1, first[name]) for name in grid.columns])
    return {"layer's values": q_map(layer, q=np.abs(_SAMPLES))}
