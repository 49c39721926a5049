"""Figures that need no display, and the colours of lines."""

from collections.abc import Callable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's, told apart by every kind of colour vision; the yellow is too light for a line.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D3B")


def new_figure(size: tuple[float, float]) -> Figure:
    """A figure that pyplot does not know, of ``size`` inches."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def written_png(draw: Callable[[], Figure], file, dpi: int = 200) -> None:
    """Write the figure that ``draw`` returns to an open binary file."""
    draw().savefig(file, format="png", dpi=dpi)
