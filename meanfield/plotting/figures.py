"""Figures that need no display, and how they get into files."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from meanfield.plotting.colours import LINE_COLOURS as LINE_COLOURS
from meanfield.support.text import unknown

Size = tuple[float, float]  # width and height in inches
FORMATS = ("png", "pdf", "svg")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1.5, 1, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 3)), (0, (1, 3)))
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
_FEW_DECADES = 300.0  # a range of a larger ratio has decades enough to be told by them


def new_figure(size: Size | None = None) -> Figure:
    """A figure that pyplot does not know, of ``size`` inches."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_picture(
    draw: Callable[[], Figure],
    file,
    form: str = "png",
    dpi: int = 200,
    size: Size | None = None,
    style: str | None = None,
) -> None:
    """Write the figure that ``draw`` returns to an open binary file.

    form: png, pdf or svg, in which text stays text. dpi: dots an inch, of what is made of dots. size: inches,
    if not those of the figure. style: one of Matplotlib's, by name, or a file of its settings.
    """
    with mpl.style.context(style or {}), mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure = draw()
        if size is not None:
            figure.set_size_inches(size)
        figure.savefig(file, format=form, dpi=dpi)


def checked_style(style: str) -> str:
    """``style`` if Matplotlib has it or can read it. Raises ValueError naming those that it has."""
    known = {name.lower(): name for name in ("default", *mpl.style.available) if not name.startswith("_")}
    if style.lower() in known:
        return known[style.lower()]
    if Path(style).expanduser().is_file():
        return str(Path(style).expanduser())
    raise ValueError(unknown("style", style, sorted(known.values())) + ", or a file of Matplotlib's settings")


def line_style(i: int) -> dict:
    """Colour, dashes and marker of the i-th curve: each alone tells eight curves apart."""
    n = len(LINE_COLOURS)
    return dict(
        color=LINE_COLOURS[i % n],
        linestyle=_DASHES[(i + i // n) % len(_DASHES)],
        marker=_MARKERS[i % len(_MARKERS)],
        markersize=4,
    )


def prior_text(prior) -> str:
    """A prior in a title; weights are Gaussian and independent unless it says otherwise."""
    parts = [rf"$\sigma_w^2={prior.weight_var:.4g}$", rf"$\sigma_b^2={prior.bias_var:.4g}$"]
    if prior.anticorrelation != 0:
        parts.append(rf"$\kappa={prior.anticorrelation:.4g}$")
    if not prior.independent_rows:
        parts.append("orthogonal weights")
    if not prior.is_gaussian:
        parts.append(f"special weight {prior.special_weight!r}")
    return ", ".join(parts)


def plain_log_ticks(axis) -> None:
    """Label a logarithmic axis by 1, 2, 5, 10 where it spans few decades, else by powers of ten."""
    low, high = sorted(axis.get_view_interval())
    if not 0 < low < high:
        return
    axis.set_minor_formatter(NullFormatter())
    if high > _FEW_DECADES * low:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 5 * low else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
