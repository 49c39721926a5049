"""Pictures of phase diagrams."""

import difflib
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, CenteredNorm, Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation
from numpy.lib.stride_tricks import sliding_window_view

from meanfield.plotting.colours import PHASE_COLOURS, STATUS_COLOURS
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
_MOST_CELLS = 2048  # along an axis
_NO_VALUE = "#C8C8C8"
_HATCH_COLOUR = "#303030"
# Without its darkest fifth, on which neither hatches nor lines can be seen.
_SEQUENTIAL = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.2, 1, 256)), "viridis_light")
_DIVERGING = mpl.colormaps["PuOr_r"]

AXIS_SYMBOLS = {
    "weight_var": r"$\sigma_w^2$",
    "bias_var": r"$\sigma_b^2$",
    "anticorrelation": r"$\kappa$",
}
_AXIS_NAMES = {
    "weight_var": "weight variance",
    "bias_var": "bias variance",
    "anticorrelation": "anticorrelation",
}


def symbol_of(name: str) -> str:
    """How formulas write a parameter."""
    plain = name.replace("_", r"\_")
    return AXIS_SYMBOLS.get(name, rf"$\mathrm{{{plain}}}$")


@dataclass(frozen=True)
class _Quantity:
    symbol: str
    scale: str  # "log", "correlation", "about one", or "discrete"
    unit: str = ""

    @property
    def label(self) -> str:
        return f"{self.symbol} ({self.unit})" if self.unit else self.symbol


QUANTITIES = {
    "phase": _Quantity("phase", "discrete"),
    "status": _Quantity("status", "discrete"),
    "q": _Quantity("$q^*$", "log"),
    "c": _Quantity("$c^*$", "correlation"),
    "one_minus_c": _Quantity("$1 - c^*$", "log"),
    "chi_q": _Quantity(r"$\chi_q$", "about one"),
    "chi_c": _Quantity(r"$\chi_c$", "about one"),
    "chi_1": _Quantity(r"$\chi_1$", "about one"),
    "chi_perp": _Quantity(r"$\chi_\perp$", "about one"),
    "xi_q": _Quantity(r"$\xi_q$", "log", "layers"),
    "xi_c": _Quantity(r"$\xi_c$", "log", "layers"),
}


def checked_quantity(name: str) -> str:
    """``name`` if it can be drawn. Raises ValueError naming the nearest one that can."""
    if name in QUANTITIES:
        return name
    near = difflib.get_close_matches(str(name), QUANTITIES, n=1, cutoff=0.0)
    raise ValueError(
        f"quantity {name!r} is unknown; the nearest is {near[0]!r}, and all are {', '.join(QUANTITIES)}"
    )


def plot_phase_diagram(diagram, quantity: str = "phase", ax: Axes | None = None) -> Axes:
    r"""Draw one quantity over the two axes of a phase diagram, the first one horizontal.

    quantity: "phase", "status", a field (q, c, one_minus_c, chi_q, chi_c, chi_1,
        chi_perp) or a depth scale in layers (xi_q, xi_c), -1/log|chi|.
    ax: where to draw; a new pyplot figure if left out. Returns the axes.

    Every point colours the cell of which it is the centre; axes need not be uniform
    or ascending. The solid line is chi_1 = 1, interpolated (chi_perp = 1 of layers that
    part equal signals); it is not drawn where chi_1 merely jumps across 1, at the edge of
    the bounded phase, which is the dashed line. Hatched regions have no stable, finite,
    non-zero q*; grey cells have a value that the scale cannot show (the legend says
    which). Scales of q, 1 - c and xi are logarithmic and, like those of the chi's, leave
    out the outermost percent.

    Raises ValueError for an unknown quantity, TypeError for what is not a PhaseDiagram.
    """
    checked_quantity(quantity)
    if not hasattr(diagram, "axes") or not hasattr(diagram, "phase"):
        raise TypeError(f"diagram must be a PhaseDiagram, got {type(diagram).__name__}")
    if ax is None:
        # Imported here: only pyplot chooses a backend, and only who wants a figure needs one.
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    grid = _Grid.of(diagram)
    legend = _draw_cells(ax, grid, quantity) + _draw_hatches(ax, grid) + _draw_lines(ax, grid)
    _annotate(ax, grid, legend)
    return ax


def write_picture(diagram, quantity: str, file, dpi: int = 200) -> None:
    """Write a PNG to an open binary file, without a display and without pyplot."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    plot_phase_diagram(diagram, quantity, figure.subplots())
    figure.savefig(file, format="png", dpi=dpi)


@dataclass(frozen=True)
class _Grid:
    """A diagram with ascending, distinct axes, and the edges of its cells."""

    diagram: Any  # a PhaseDiagram
    x: np.ndarray
    y: np.ndarray
    order: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, diagram) -> "_Grid":
        (x, i), (y, j) = (_thinned(*_distinct(getattr(diagram, name))) for name in diagram.axes)
        return cls(diagram, x, y, (i, j))

    def field(self, name: str) -> np.ndarray:
        """A field of shape (y, x), as Matplotlib wants it."""
        return getattr(self.diagram, name)[np.ix_(*self.order)].T

    def has(self, *statuses) -> np.ndarray:
        return np.isin(self.field("status"), statuses)

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        return _edges(self.x), _edges(self.y)

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


def _edges(centres: np.ndarray) -> np.ndarray:
    """Halfway between neighbours, and as far beyond the ends."""
    if centres.size == 1:
        half = 0.05 * abs(centres[0]) or 0.5
        return np.array([centres[0] - half, centres[0] + half])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _draw_cells(ax, grid: _Grid, quantity: str) -> list:
    kind = QUANTITIES[quantity]
    if kind.scale == "discrete":
        return _draw_codes(ax, grid, quantity)
    values = _values(grid, quantity)
    shown, norm, cmap, extend = _scaled(values, kind.scale, grid.has(Status.CONVERGED))
    mesh = _mesh(ax, grid, shown, cmap=cmap.with_extremes(bad=_NO_VALUE), norm=norm)
    ax.figure.colorbar(mesh, ax=ax, label=kind.label, extend=extend)
    hatched = grid.has(*(s for _, statuses, _ in HATCHES for s in statuses))
    unknown = "not sampled" if grid.diagram.special_weight else "undefined"
    return _legend_of_missing(values, np.ma.getmaskarray(shown) & ~hatched, kind, unknown)


def _draw_codes(ax, grid: _Grid, quantity: str) -> list:
    """Phases or statuses in their own colours, wherever and in whatever company they occur."""
    colours, under_the_line = (
        (PHASE_COLOURS, _UNDER_THE_LINE) if quantity == "phase" else (STATUS_COLOURS, ())
    )
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    codes = grid.field(quantity)
    _mesh(ax, grid, codes, cmap=ListedColormap(list(colours.values())), norm=norm)
    return [
        Patch(facecolor=colour, edgecolor="#666666", linewidth=0.6, label=code.name.lower().replace("_", " "))
        for code, colour in colours.items()
        if (_is_wider_than_a_line if code in under_the_line else np.any)(codes == code)
    ]


_UNDER_THE_LINE = (Phase.CRITICAL, Phase.NEUTRAL)
_LINES_ACROSS = 80  # lines with their rims, side by side, fill the axes


def _is_wider_than_a_line(inside: np.ndarray) -> bool:
    """Whether any of a phase shows beside the line chi_1 = 1 that is drawn over it."""
    window = tuple(-(-n // _LINES_ACROSS) for n in inside.shape)
    return bool(sliding_window_view(inside, window).all(axis=(-2, -1)).any())


def _mesh(ax, grid: _Grid, values, **how):
    return ax.pcolormesh(*grid.edges, values, shading="flat", rasterized=True, **how)


def _values(grid: _Grid, quantity: str) -> np.ndarray:
    if not quantity.startswith("xi_"):
        return grid.field(quantity)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.log(np.abs(grid.field(quantity.replace("xi_", "chi_"))))
        scale = np.where(rate < 0, -1 / rate, np.nan)  # as ``DepthScales``
        return np.where(np.abs(rate) <= np.finfo(float).eps ** (2 / 3), np.inf, scale)


def _scaled(values, scale: str, trusted):
    """Values masked where the scale has no place for them, norm, colour map, and the clipped ends.

    Limits come from the points that are fixed points, if there are any.
    """
    shown = np.ma.masked_invalid(values)
    if scale == "log":
        shown = np.ma.masked_less_equal(shown, 0)
    population = shown[trusted].compressed() if trusted.any() else shown.compressed()
    population = population if population.size else shown.compressed()
    if not population.size:
        return shown, Normalize(0, 1), _SEQUENTIAL, "neither"
    low, high = np.percentile(population, [1, 99])
    cmap: Colormap = _SEQUENTIAL
    norm: Normalize
    if scale == "about one":
        norm = CenteredNorm(vcenter=1, halfrange=max(abs(high - 1), abs(low - 1)) or 1.0)
        cmap = _DIVERGING
    elif scale == "correlation":
        norm = Normalize(min(0.0, float(shown.min())), 1)
    else:
        norm = LogNorm(*((low, high) if low < high else (low / 2, low * 2)))
    below, above = shown.min() < norm.vmin, shown.max() > norm.vmax
    return shown, norm, cmap, ("neither", "min", "max", "both")[below + 2 * above]


def _legend_of_missing(values, missing, kind: _Quantity, unknown: str) -> list:
    """What grey cells stand for."""
    symbol = kind.symbol.strip("$")
    with np.errstate(invalid="ignore"):
        reasons = {
            f"${symbol} = 0$": values == 0,
            f"${symbol} = \\infty$": np.isposinf(values),
            f"${symbol} < 0$": values < 0,
            f"${symbol}$ {unknown}": np.isnan(values),
        }
    present = [reason for reason, where in reasons.items() if (where & missing).any()]
    return [Patch(facecolor=_NO_VALUE, label=", ".join(present))] if present else []


def _draw_hatches(ax, grid: _Grid) -> list:
    legend = []
    for label, statuses, hatch in HATCHES:
        inside = grid.has(*statuses)
        if not inside.any():
            continue
        # The hatched region ends on the very line that is drawn as its boundary.
        level = _excess_growth(grid) if statuses == _UNBOUNDED else np.where(inside, 1.0, -1.0)
        regions = ax.contourf(*grid.framed(level), levels=[0, 4], colors="none", hatches=[hatch])
        regions.set_edgecolor(_HATCH_COLOUR)
        regions.set_linewidth(0)
        regions.set_gid(label)
        legend.append(
            Patch(facecolor="white", edgecolor=_HATCH_COLOUR, hatch=hatch, label=label, linewidth=0)
        )
    return legend


def _draw_lines(ax, grid: _Grid) -> list:
    legend = []
    if _draw_critical_line(ax, grid):
        label = rf"{QUANTITIES[_deciding(grid)].symbol[:-1]} = 1$"
        legend.append(Line2D([], [], color="black", linewidth=1.8, label=label))
    excess = np.ma.array(_excess_growth(grid), mask=grid.has(Status.INVALID, Status.INACCURATE))
    if excess.count() and excess.min() < 0 < excess.max():
        _line(ax, grid, excess, 0.0, "bounded", linestyles="dashed")
        label = "edge of the bounded phase"
        legend.append(Line2D([], [], color="black", linestyle="dashed", linewidth=1.8, label=label))
    return legend


def _deciding(grid: _Grid) -> str:
    """What is 1 between phases: chi_1, or chi_perp where layers part equal signals."""
    noisy = (grid.field("phase") == Phase.CHAOTIC) & (grid.field("chi_1") < 1)
    return "chi_perp" if noisy.any() else "chi_1"


def _draw_critical_line(ax, grid: _Grid) -> bool:
    """One contour for each region of the variance: chi_1 jumps from one to the next."""
    critical = np.isin(grid.field("phase"), _UNDER_THE_LINE)
    # Rounding decides on which side of 1 a critical point falls.
    chi = np.where(critical, 1.0, grid.field(_deciding(grid)))
    unbounded, vanishing = grid.has(*_UNBOUNDED), grid.has(Status.VANISHING)
    drawn = False
    for region in (unbounded, vanishing, ~(unbounded | vanishing)):
        values = np.ma.masked_invalid(np.where(region & ~_interior(critical), chi, np.nan))
        if values.count() and values.min() <= 1 < values.max():
            drawn |= _line(ax, grid, values, 1.0, f"{_deciding(grid)} = 1")
    return drawn


def _interior(inside: np.ndarray) -> np.ndarray:
    """Points whose neighbours are inside too: a critical area has no line through it."""
    p = np.pad(inside, 1, constant_values=False)
    return inside & p[2:, 1:-1] & p[:-2, 1:-1] & p[1:-1, 2:] & p[1:-1, :-2]


def _line(ax, grid: _Grid, values, level: float, gid: str, **style) -> bool:
    x, y, framed = grid.framed(np.ma.filled(values, np.nan))
    framed = np.ma.masked_invalid(framed)
    lines = ax.contour(x, y, framed, levels=[level], colors="black", linewidths=1.8, **style)
    lines.set_gid(gid)
    lines.set_label(gid)
    # A light rim keeps the line visible on the dark end of a colour map.
    lines.set_path_effects([withStroke(linewidth=3.2, foreground="white")])
    return any(len(path.vertices) for path in lines.get_paths())


def _excess_growth(grid: _Grid) -> np.ndarray:
    """Positive where the variance is unbounded, negative elsewhere, zero on the boundary.

    The growth of q passes 1 there, and interpolated between two points it places the
    boundary better than the statuses alone, which only say between which two it lies.
    """
    excess = np.nan_to_num(np.abs(grid.field("chi_q")) - 1, nan=0.0, posinf=1.0)
    unbounded = grid.has(*_UNBOUNDED)
    least = 1e-9
    return np.where(unbounded, np.clip(excess, least, 1), np.clip(excess, -1, -least))


def _annotate(ax, grid: _Grid, legend: list) -> None:
    diagram = grid.diagram
    for name, centres, axis in zip(diagram.axes, (grid.x, grid.y), (ax.xaxis, ax.yaxis), strict=True):
        axis.set_label_text(f"{_AXIS_NAMES[name]} {AXIS_SYMBOLS[name]}" if name in _AXIS_NAMES else name)
        if centres.size == 1:
            axis.set_ticks(centres)
    (left, *_, right), (bottom, *_, top) = grid.edges
    ax.set(xlim=(left, right), ylim=(bottom, top))
    constants = (f"{symbol_of(name)[:-1]} = {value:g}$" for name, value in diagram.constants.items())
    named = "" if diagram.activation == "<lambda>" else diagram.activation
    ax.set_title(", ".join(filter(None, (named, diagram.special_weight, *constants))))
    if legend:
        # Below tick labels and axis label, whose height does not grow with the axes.
        below = ScaledTranslation(0, -3.6 * ax.xaxis.label.get_size() / 72, ax.figure.dpi_scale_trans)
        # In a panel of a larger figure a wide legend would squeeze the axes.
        wide = ax.get_window_extent().width > 3.8 * ax.figure.dpi
        ax.legend(
            handles=legend,
            ncols=2 if wide else 1,
            fontsize="medium" if wide else "small",
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            bbox_transform=ax.transAxes + below,
            frameon=False,
            handlelength=2.4,
            handleheight=1.1,
        )
