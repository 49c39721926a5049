"""The grid of a phase diagram as a picture sees it: ascending axes, and cells around its points."""

from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_CELLS = 2048  # along an axis
VARIANCES = ("weight_var", "bias_var")


@dataclass(frozen=True)
class Grid:
    """A diagram with ascending, distinct axes, and the edges of its cells.

    deviations: whether variances are shown by their roots.
    """

    diagram: Any  # a PhaseDiagram
    x: np.ndarray
    y: np.ndarray
    order: tuple[np.ndarray, np.ndarray]
    deviations: bool = False

    @classmethod
    def of(cls, diagram, deviations: bool = False) -> "Grid":
        (x, i), (y, j) = (_thinned(*_distinct(getattr(diagram, name))) for name in diagram.axes)
        x, y = (
            np.sqrt(values) if deviations and name in VARIANCES else values
            for name, values in zip(diagram.axes, (x, y), strict=True)
        )
        return cls(diagram, x, y, (i, j), deviations)

    def field(self, name: str) -> np.ndarray:
        """A field of shape (y, x), as Matplotlib wants it."""
        return getattr(self.diagram, name)[np.ix_(*self.order)].T

    def has(self, *statuses) -> np.ndarray:
        return np.isin(self.field("status"), statuses)

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        return cell_edges(self.x), cell_edges(self.y)

    def framed(self, values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and values for contours that reach the outer edges of the outermost cells.

        Points on an axis of length one become three, so that contours exist there too.
        """
        x, y = (np.concatenate([e[:1], a, e[-1:]]) for e, a in zip(self.edges, (self.x, self.y), strict=True))
        return x, y, np.pad(values, 1, mode="edge")


def _distinct(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, index = np.unique(axis, return_index=True)
    return values, index


def _thinned(values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most as many points as a page has dots: a picture of 10^7 costs gigabytes and shows no more."""
    if values.size <= _MOST_CELLS:
        return values, index
    kept = np.linspace(0, values.size - 1, _MOST_CELLS).round().astype(int)
    return values[kept], index[kept]


def cell_edges(centres: np.ndarray) -> np.ndarray:
    """Halfway between neighbours, and as far beyond the ends."""
    if centres.size == 1:
        half = 0.05 * abs(centres[0]) or 0.5
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
