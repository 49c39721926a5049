"""Pictures of phase diagrams."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from meanfield.plotting.boundaries import AT_ONE, HATCHES, draw_hatches, draw_lines, is_wider_than_a_line
from meanfield.plotting.colours import PHASE_COLOURS, STATUS_COLOURS
from meanfield.plotting.figures import new_figure
from meanfield.plotting.grid import VARIANCES, Grid
from meanfield.status import Status
from meanfield.support.text import unknown

_NO_VALUE = "#C8C8C8"
# Without its darkest fifth, on which neither hatches nor lines can be seen.
SEQUENTIAL = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.2, 1, 256)), "viridis_light")
_DIVERGING = mpl.colormaps["PuOr_r"]

AXIS_SYMBOLS = {
    "weight_var": r"$\sigma_w^2$",
    "bias_var": r"$\sigma_b^2$",
    "anticorrelation": r"$\kappa$",
}
_DEVIATIONS = {"weight_var": r"$\sigma_w$", "bias_var": r"$\sigma_b$"}
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
    """``name`` if it can be drawn. Raises ValueError naming those that can."""
    if name in QUANTITIES:
        return name
    raise ValueError(unknown("quantity", name, QUANTITIES))


def plot_phase_diagram(
    diagram, quantity: str = "phase", ax: Axes | None = None, *, deviations: bool = False
) -> Axes:
    r"""Draw one quantity over the two axes of a phase diagram, the first one horizontal.

    quantity: "phase", "status", a field (q, c, one_minus_c, chi_q, chi_c, chi_1,
        chi_perp) or a depth scale in layers (xi_q, xi_c), -1/log|chi|.
    ax: where to draw; a new pyplot figure if left out. deviations: show sigma_w and sigma_b in place of their
        squares. Returns the axes.

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
    grid = Grid.of(diagram, deviations)
    legend = _draw_cells(ax, grid, quantity) + draw_hatches(ax, grid) + draw_lines(ax, grid)
    _annotate(ax, grid, legend)
    return ax


def phase_diagram_figure(diagram, quantity: str = "phase", deviations: bool = False) -> Figure:
    """What ``plot_phase_diagram`` draws, on a figure that pyplot does not know."""
    figure = new_figure()
    plot_phase_diagram(diagram, quantity, figure.subplots(), deviations=deviations)
    return figure


def _draw_cells(ax, grid: Grid, quantity: str) -> list:
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


def _draw_codes(ax, grid: Grid, quantity: str) -> list:
    """Phases or statuses in their own colours, wherever and in whatever company they occur."""
    colours, under_the_line = (PHASE_COLOURS, AT_ONE) if quantity == "phase" else (STATUS_COLOURS, ())
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    codes = grid.field(quantity)
    _mesh(ax, grid, codes, cmap=ListedColormap(list(colours.values())), norm=norm)
    return [
        Patch(facecolor=colour, edgecolor="#666666", linewidth=0.6, label=code.name.lower().replace("_", " "))
        for code, colour in colours.items()
        if (is_wider_than_a_line if code in under_the_line else np.any)(codes == code)
    ]


def _mesh(ax, grid: Grid, values, **how):
    return ax.pcolormesh(*grid.edges, values, shading="flat", rasterized=True, **how)


def _values(grid: Grid, quantity: str) -> np.ndarray:
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
        return shown, Normalize(0, 1), SEQUENTIAL, "neither"
    low, high = np.percentile(population, [1, 99])
    cmap: Colormap = SEQUENTIAL
    norm: Normalize
    if scale == "about one":
        half = max(abs(high - 1), abs(low - 1)) or 1.0
        bottom = 1 - half
        if bottom < 0 <= population.min():  # what is never negative has a bar that begins at 0
            bottom = 0.0
        norm = TwoSlopeNorm(1, bottom, 1 + half)
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


_INDEPENDENT = ("anticorrelation", 0.0)  # weights, which goes without saying


def _annotate(ax, grid: Grid, legend: list) -> None:
    diagram = grid.diagram
    symbols, names = AXIS_SYMBOLS, _AXIS_NAMES
    if grid.deviations:
        symbols = symbols | _DEVIATIONS
        names = names | {name: names[name].replace("variance", "deviation") for name in VARIANCES}
    for name, centres, axis in zip(diagram.axes, (grid.x, grid.y), (ax.xaxis, ax.yaxis), strict=True):
        axis.set_label_text(f"{names[name]} {symbols[name]}" if name in names else name)
        if centres.size == 1:
            axis.set_ticks(centres)
    (left, *_, right), (bottom, *_, top) = grid.edges
    ax.set(xlim=(left, right), ylim=(bottom, top))
    told = {name: value for name, value in diagram.constants.items() if (name, value) != _INDEPENDENT}
    rooted = {n: v**0.5 if grid.deviations and n in VARIANCES else v for n, v in told.items()}
    constants = (f"{symbols.get(n, symbol_of(n))[:-1]} = {value:g}$" for n, value in rooted.items())
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
