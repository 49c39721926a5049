"""The Zarr store of a sweep, written through TensorStore.

Version 3 of the format: an array for every field and every axis, each with named
dimensions, and the array ``done``, one element a chunk. A chunk's element of ``done`` is
written once all its fields are on disk, each a file that is written beside its place,
synced and renamed. So a chunk counts only if it is whole, whenever a process is killed,
and nothing in the store says when, by whom or in which order it was written.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from meanfield.fixed_points.strategies import FIELDS, INTEGERS
from meanfield.grids.sweeps.grid import Grid
from meanfield.status import Phase, Status

_GROUP = "zarr.json"
_LOCK = ".__lock"  # TensorStore's name for a file that is being written
_OWN = "meanfield"  # the attribute that says what the store was made for
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_MEANINGS = {
    "q": "variance q*",
    "c": "correlation c*",
    "one_minus_c": "1 - c*",
    "chi_q": "slope of the q-map at q*",
    "chi_c": "slope of the c-map at c*",
    "chi_1": "slope of the c-map at 1",
    "chi_perp": "growth of a transverse perturbation",
    "status": "what became of the fixed point",
    "phase": "ordered, critical or chaotic",
}
_CODES = {"status": Status, "phase": Phase}


class SweepStore:
    """A directory that holds the results of one grid, made or taken up again.

    path: a directory that is not there, empty, or the store of the same sweep.
    attributes: name to text or number, shown with the data. own: what, besides the axes,
        must be as it was for a store to be taken up again.

    Raises ValueError if it holds something else, OSError if it cannot be written; both
    before anything there is changed.
    """

    def __init__(self, path, grid: Grid, attributes: dict[str, Any], own: dict[str, Any]):
        self.path, self.grid = Path(path), grid
        metadata = _metadata(grid)
        _make_directory(self.path)
        self._absolute = os.path.abspath(self.path)
        with _explained(self.path):
            self._files = ts.KvStore.open({"driver": "file", "path": f"{self._absolute}/"}).result()
            own = {"axes": grid.description(), "chunk": list(grid.chunk), **own}
            self._claim({**attributes, _OWN: own}, metadata)
            self.clear()
            self._arrays = {name: self._opened(name, array) for name, array in metadata.items()}
            for name, values in grid.axes.items():
                self._arrays[name].write(values).result()
        for directory in (self.path, *(self.path / name for name in metadata)):
            _sync(directory)

    def is_done(self, number: int) -> bool:
        """Whether all of a chunk is on disk."""
        name = ".".join(map(str, ("c", *self.grid.position(number))))
        return (self.path / "done" / name).exists()

    def write(self, number: int, fields: dict[str, np.ndarray]) -> Callable[[], None]:
        """Begin to write a chunk; call what is returned to wait for it and to mark it done.

        That raises OSError where it cannot be written.
        """
        block = self.grid.block(number)
        with _explained(self.path):
            begun = [self._arrays[name][block].write(values) for name, values in fields.items()]

        def finish() -> None:
            with _explained(self.path):
                for future in begun:
                    future.result()
                self._arrays["done"][self.grid.position(number)].write(np.bool_(True)).result()

        return finish

    def read(self, name: str) -> Iterator[np.ndarray]:
        """A field, chunk by chunk. Raises OSError."""
        for number in range(math.prod(self.grid.chunks)):
            with _explained(self.path, "read"):
                yield np.asarray(self._arrays[name][self.grid.block(number)].read().result())

    def clear(self) -> None:
        """Remove the unfinished files of processes that were killed.

        TensorStore would write over them without making them shorter first.
        """
        for left in self.path.glob("*/*" + _LOCK):
            _remove_unless_held(left)

    def _claim(self, attributes, metadata) -> None:
        """Write the group's metadata, or find that they are those of the same sweep."""
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        everything = {"kind": "inline", "must_understand": False, "metadata": metadata}
        text = json.dumps({**group, "consolidated_metadata": everything}, indent=1, sort_keys=True).encode()
        # Listed first: another process, begun at the same time, writes the group before all else.
        before = [p.name for p in self.path.iterdir()]
        found = self._files.read(_GROUP).result()
        if found.state != "value":
            if any(name != _GROUP + _LOCK for name in before):
                raise _OtherSweep(f"{self.path} is not empty and holds no sweep of meanfield")
            _remove_unless_held(self.path / (_GROUP + _LOCK))
            self._files.write(_GROUP, text, if_equal=found.stamp.generation).result()
            found = self._files.read(_GROUP).result()
        if found.value != text:
            raise _OtherSweep(f"{self.path} {_difference(found.value, attributes)}")

    def _opened(self, name: str, metadata: dict):
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{self._absolute}/{name}/"},
            "metadata": metadata,
            "store_data_equal_to_fill_value": True,
        }
        return ts.open(spec, create=True, open=True).result()


class _OtherSweep(ValueError):
    """Not an error of TensorStore's, whose own are ValueErrors too."""


@contextmanager
def _explained(path: Path, attempt: str = "write") -> Iterator[None]:
    """TensorStore's errors as OSError, in the words of the system."""
    try:
        yield
    except _OtherSweep as error:
        raise ValueError(str(error)) from None
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        number = re.search(r"os.error\D*(\d+)", str(error), re.IGNORECASE)
        reason = os.strerror(int(number[1])) if number else str(error).splitlines()[0]
        raise OSError(f"cannot {attempt} {path}: {reason}") from error


def _metadata(grid: Grid) -> dict[str, dict]:
    """Name to what its zarr.json says, for every array."""
    dimensions = tuple(grid.axes)
    arrays = {}
    for name in FIELDS:
        dtype, fill = ("int8", -1) if name in INTEGERS else ("float64", "NaN")
        attributes: dict[str, Any] = {"long_name": _MEANINGS.get(name, name)}
        if name in _CODES:
            attributes["flag_values"] = [int(code) for code in _CODES[name]]
            attributes["flag_meanings"] = " ".join(code.name.lower() for code in _CODES[name])
        arrays[name] = _array(grid.shape, grid.chunk, dtype, fill, dimensions, attributes)
    for name, values in grid.axes.items():
        arrays[name] = _array(values.shape, values.shape, "float64", "NaN", (name,), {})
    chunks = grid.chunks
    names = tuple(f"{name}_chunk" for name in dimensions)
    attributes = {"long_name": "whether a chunk is on disk"}
    arrays["done"] = _array(chunks, (1,) * len(chunks), "bool", False, names, attributes)
    return arrays


def _array(shape, chunk, dtype: str, fill, dimensions, attributes) -> dict:
    size = np.dtype(dtype).itemsize
    shuffle = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": size, "blocksize": 0}
    compression = [] if dtype == "bool" else [{"name": "blosc", "configuration": shuffle}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": [_BYTES if size > 1 else {"name": "bytes"}, *compression],
        "dimension_names": list(dimensions),
        "attributes": attributes,
    }


def _difference(found: bytes, attributes: dict) -> str:
    """What the sweep in a store has that this one has not."""
    try:
        there = json.loads(found)["attributes"]
        flat_there, flat_here = _flat(there), _flat(json.loads(json.dumps(attributes)))
        there[_OWN]
    except (ValueError, KeyError, TypeError):
        return "holds no sweep of meanfield"
    for name in {**flat_here, **flat_there}:
        was, now = flat_there.get(name, "not given"), flat_here.get(name, "not given")
        if was != now:
            return f"holds another sweep: {name} was {was} and is now {now}"
    return "holds a sweep in another form"


def _flat(attributes: dict) -> dict[str, Any]:
    own = dict(attributes[_OWN])
    shown = {name: value for name, value in attributes.items() if name != _OWN}
    return {**own.pop("axes"), **shown, **own}


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except FileExistsError:
        raise OSError(f"cannot write {path}: it is a file") from None
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def _remove_unless_held(path: Path) -> None:
    """Remove a file that no living process, on any machine, holds a lock on."""
    try:
        import fcntl
    except ImportError:  # where there are no such locks, the system removes the files
        return
    try:
        with open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (FileNotFoundError, BlockingIOError):
        pass  # its writer lives, and has renamed it meanwhile or holds it
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def _sync(directory: Path) -> None:
    """Make the names in a directory outlast a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
