"""Figures that need no display."""

from collections.abc import Callable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from meanfield.plotting.colours import LINE_COLOURS as LINE_COLOURS


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure that pyplot does not know, of ``size`` inches."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def written_png(draw: Callable[[], Figure], file, dpi: int = 200) -> None:
    """Write the figure that ``draw`` returns to an open binary file."""
    draw().savefig(file, format="png", dpi=dpi)
