"""What lies over the colours of a phase diagram: hatched regions, and the lines between phases."""

from typing import Any

import numpy as np
from contourpy import contour_generator
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.lib.stride_tricks import sliding_window_view
from scipy.interpolate import RegularGridInterpolator

from meanfield.plotting.grid import Grid
from meanfield.status import Phase, Status

_UNBOUNDED = (Status.UNBOUNDED, Status.DRIFTING)
# Statuses whose values are not those of a stable fixed point: (label, statuses, hatch).
HATCHES = (
    ("unbounded variance", _UNBOUNDED, "///"),
    ("vanishing variance", (Status.VANISHING,), "..."),
    ("marginal variance", (Status.MARGINAL,), "\\\\\\"),
    ("no stable fixed point", (Status.UNSTABLE,), "xxx"),
    ("not resolved", (Status.MAX_STEPS, Status.INVALID, Status.INACCURATE), "+++"),
)
AT_ONE = (Phase.CRITICAL, Phase.NEUTRAL)
# On whose border the growth of the variance passes 1, so that it tells where between two points that is.
_BY_GROWTH = {*_UNBOUNDED, Status.VANISHING, Status.UNSTABLE}
_HATCH_COLOUR = "#303030"
_LEAST = 1e-9


_LINES_ACROSS = 80  # lines with their rims, side by side, fill the axes


def is_wider_than_a_line(inside: np.ndarray) -> bool:
    """Whether any of a region is so wide that a line drawn over it does not hide it."""
    window = tuple(-(-n // _LINES_ACROSS) for n in inside.shape)
    return bool(sliding_window_view(inside, window).all(axis=(-2, -1)).any())


def draw_hatches(ax, grid: Grid) -> list:
    """Hatch what has no stable, finite, positive q*; returns the entries of a legend."""
    legend = []
    for label, statuses, hatch in HATCHES:
        if not is_wider_than_a_line(grid.has(*statuses)):
            continue
        level = _depth_inside(grid, statuses)
        regions = ax.contourf(*grid.framed(level), levels=[0, 4], colors="none", hatches=[hatch])
        regions.set_edgecolor(_HATCH_COLOUR)
        regions.set_linewidth(0)
        regions.set_gid(label)
        legend.append(
            Patch(facecolor="white", edgecolor=_HATCH_COLOUR, hatch=hatch, label=label, linewidth=0)
        )
    return legend


def draw_lines(ax, grid: Grid) -> list:
    """Draw chi_1 = 1 and the edge of the bounded phase; returns the entries of a legend."""
    legend = []
    name, symbol = _deciding(grid)
    if _draw(ax, _critical_lines(grid), f"{name} = 1"):
        legend.append(Line2D([], [], color="black", linewidth=1.8, label=f"${symbol} = 1$"))
    known = ~grid.has(Status.INVALID, Status.INACCURATE)
    excess = np.where(known, _depth_inside(grid, _UNBOUNDED), np.nan)
    if _draw(ax, _contour(grid, excess, 0.0), "bounded", linestyles="dashed"):
        label = "edge of the bounded phase"
        legend.append(Line2D([], [], color="black", linestyle="dashed", linewidth=1.8, label=label))
    return legend


def _depth_inside(grid: Grid, statuses) -> np.ndarray:
    """Positive inside the region of some statuses, negative outside, zero on its border."""
    inside = grid.has(*statuses)
    if not set(statuses) <= _BY_GROWTH:
        return np.where(inside, 1.0, -1.0)
    distance = np.abs(np.abs(grid.field("chi_q")) - 1)
    distance = np.clip(np.nan_to_num(distance, nan=1.0, posinf=1.0), _LEAST, 1)
    return np.where(inside, distance, -distance)


def _deciding(grid: Grid) -> tuple[str, str]:
    """(name, symbol) of what is 1 between phases: chi_1, or chi_perp where layers part equal signals."""
    noisy = (grid.field("phase") == Phase.CHAOTIC) & (grid.field("chi_1") < 1)
    return ("chi_perp", r"\chi_\perp") if noisy.any() else ("chi_1", r"\chi_1")


def _critical_lines(grid: Grid) -> list[np.ndarray]:
    """Lines between phases, found for each region of the variance alone: chi_1 jumps from one to the next."""
    critical = np.isin(grid.field("phase"), AT_ONE)
    # Rounding decides on which side of 1 a critical point falls.
    chi = grid.field(_deciding(grid)[0])
    chi_1 = np.where(_interior(critical), np.nan, np.where(critical, 1.0, chi))
    unbounded, vanishing = grid.has(*_UNBOUNDED), grid.has(Status.VANISHING)
    lines = []
    for region in (unbounded, vanishing):
        lines += _contour(grid, np.where(region, chi_1, np.nan), 1.0)
    bounded = _extended(np.where(unbounded | vanishing, np.nan, chi_1))
    x, y, excess = grid.framed(_depth_inside(grid, _UNBOUNDED))
    # A line may end an ulp beyond the last point.
    outside = RegularGridInterpolator((y, x), excess, bounds_error=False, fill_value=None)
    for line in _contour(grid, bounded, 1.0):
        lines += _ending_at(line, outside(line[:, ::-1]))
    return lines


def _extended(values: np.ndarray) -> np.ndarray:
    """One point further, straight on, into where there are none, so that a line can reach the border."""
    found = values.copy()
    for axis in (0, 1):
        for back in (1, -1):
            one, two = (_shifted(values, axis, back * steps) for steps in (1, 2))
            found = np.where(np.isnan(found), 2 * one - two, found)
    return found


def _shifted(values: np.ndarray, axis: int, steps: int) -> np.ndarray:
    """The value ``steps`` before each point along an axis; NaN beyond the ends."""
    moved = np.roll(values, steps, axis).astype(float)
    ends = [slice(None)] * 2
    ends[axis] = slice(None, steps) if steps > 0 else slice(steps, None)
    moved[tuple(ends)] = np.nan
    return moved


def _ending_at(line: np.ndarray, beyond: np.ndarray) -> list[np.ndarray]:
    """The parts of a line where ``beyond``, given at its points, is not positive, up to its zeros."""
    crossed = np.flatnonzero((beyond[1:] > 0) != (beyond[:-1] > 0))
    share = beyond[crossed] / (beyond[crossed] - beyond[crossed + 1])
    zeros = line[crossed] + share[:, None] * (line[crossed + 1] - line[crossed])
    pieces = np.split(line, crossed + 1)
    inside = np.split(beyond, crossed + 1)
    parts = []
    for piece, values, start, stop in zip(pieces, inside, [None, *zeros], [*zeros, None], strict=True):
        if values[0] <= 0:
            parts.append(np.array([p for p in (start, *piece, stop) if p is not None]))
    return [part for part in parts if len(part) > 1]


def _interior(inside: np.ndarray) -> np.ndarray:
    """Points whose neighbours are inside too: a critical area has no line through it."""
    p = np.pad(inside, 1, constant_values=False)
    return inside & p[2:, 1:-1] & p[:-2, 1:-1] & p[1:-1, 2:] & p[1:-1, :-2]


def _contour(grid: Grid, values: np.ndarray, level: float) -> list[np.ndarray]:
    """Lines on which interpolated values pass a level; none where they do not reach beyond it."""
    if not (np.isfinite(values).any() and np.nanmin(values) <= level < np.nanmax(values)):
        return []
    x, y, framed = grid.framed(values)
    generator = contour_generator(x, y, np.ma.masked_invalid(framed), line_type="Separate")
    lines: Any = generator.lines(level)
    return [line for line in lines if len(line) > 1]


def _draw(ax, lines: list[np.ndarray], gid: str, **style) -> bool:
    if not lines:
        return False
    drawn = LineCollection(lines, colors="black", linewidths=1.8, label=gid, **style)
    drawn.set_gid(gid)
    # A light rim keeps the line visible on the dark end of a colour map.
    drawn.set_path_effects([withStroke(linewidth=3.2, foreground="white")])
    ax.add_collection(drawn)
    return True
