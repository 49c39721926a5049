"""A grid of parameters, cut into chunks that are known by their number alone."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from meanfield.layers.families import Family

Block = tuple[slice, ...]
Place = tuple[int | slice, ...]


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes and fixed values of a sweep.

    family: makes the layers' ``Family``, called with its ``parameters`` by name.
    columns: the parameters of that family.
    axes: what varies, name to values, shape (n,), slowest first: parameters of the
        activation, q0 and c0, then the columns.
    fixed: name to number, all that does not vary.
    chunk: points of a chunk along each axis; the last chunk of an axis may be shorter.
    """

    family: Callable[..., Family]
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    axes: dict[str, np.ndarray]
    fixed: dict[str, float]
    chunk: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(values.size for values in self.axes.values())

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-n // length) for n, length in zip(self.shape, self.chunk, strict=True))

    def position(self, number: int) -> tuple[int, ...]:
        """Where chunk ``number`` stands among the chunks of each axis."""
        return tuple(int(i) for i in np.unravel_index(number, self.chunks))

    def block(self, number: int) -> Block:
        """The part of the grid that chunk ``number`` covers."""
        places = zip(self.position(number), self.chunk, self.shape, strict=True)
        return tuple(slice(i * length, min((i + 1) * length, n)) for i, length, n in places)

    def family_at(self, values: dict[str, float]) -> Family:
        return self.family(**{name: values[name] for name in self.parameters})

    def pieces(self, number: int) -> Iterator[tuple[Place, dict[str, float], dict[str, np.ndarray]]]:
        """What one call of the solver covers: (place in the chunk, numbers, columns).

        The columns of every piece of every chunk have one length: at the end of an axis the
        last value repeats. So the solver does the same for a chunk whatever the others are.
        """
        axes = dict(zip(self.axes, self.block(number), strict=True))
        lengths = dict(zip(self.axes, self.chunk, strict=True))
        outer = [name for name in self.axes if name not in self.columns]
        mesh = np.meshgrid(
            *(self._padded(name, axes, lengths) for name in self.columns), indexing="ij", copy=False
        )
        columns = {name: column.ravel() for name, column in zip(self.columns, mesh, strict=True)}
        inner = tuple(slice(None) for name in self.axes if name in self.columns)
        for place in itertools.product(*(range(axes[n].stop - axes[n].start) for n in outer)):
            chosen = {n: float(self.axes[n][axes[n].start + i]) for n, i in zip(outer, place, strict=True)}
            yield (*place, *inner), {**self.fixed, **chosen}, columns

    def inner_shape(self) -> tuple[int, ...]:
        """Points of a piece along each axis of the columns."""
        return tuple(n for name, n in zip(self.axes, self.chunk, strict=True) if name in self.columns)

    def _padded(self, name, axes, lengths) -> np.ndarray:
        if name in self.fixed:
            return np.array([self.fixed[name]])
        values = self.axes[name][axes[name]]
        return np.pad(values, (0, lengths[name] - values.size), mode="edge")

    def description(self) -> dict[str, str]:
        """What tells this grid's axes from others, in words and a digest."""
        return {name: _in_words(values) for name, values in self.axes.items()}


def chunk_shape(shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Lengths of about equal chunks of at most ``limit`` points: whole along the last axes."""
    lengths = []
    for n in reversed(shape):
        parts = -(-n // max(1, limit))
        lengths.append(-(-n // parts))
        limit //= lengths[-1]
    return tuple(reversed(lengths))


def with_chunk(grid: Grid, limit: int) -> Grid:
    return dataclasses.replace(grid, chunk=chunk_shape(grid.shape, limit))


def _in_words(values: np.ndarray) -> str:
    digest = hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]
    return f"{values.size} values from {values[0]:.6g} to {values[-1]:.6g} (digest {digest})"
