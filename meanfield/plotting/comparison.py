"""Pictures of networks beside the theory."""

import numpy as np
from matplotlib.figure import Figure

from meanfield.plotting.figures import LINE_COLOURS, new_figure, plain_log_ticks, prior_text

_LABELS = {
    "q": r"variance $q^l$",
    "one_minus_c": r"$1 - c^l$",
    "growth": r"tangent growth $\chi_\perp^l$",
    "inactive": r"fraction with $h \leq 0$",
    "dead": r"$h \leq 0$ on both inputs",
    "gradient": r"squared gradient $g^l/g^L$",
}
_WIDE_RANGE = 20.0  # a quantity that varies by more is drawn on a logarithmic scale
_NEGLIGIBLE = 1e-9


def plot_comparison(comparison) -> Figure:
    """Draw every quantity by layer: both widths with error bars, the theory, and the deviations below.

    Deviations are those of the networks extrapolated to infinite width, in standard
    errors; two of them are shaded. Returns a figure that pyplot does not know.
    """
    names = comparison.quantities
    columns = 3
    rows = -(-len(names) // columns)
    figure = new_figure((10.5, 3.6 * rows + 0.5))
    heights = [3, 1] * rows
    axes = figure.subplots(2 * rows, columns, height_ratios=heights, squeeze=False)
    for ax in axes.ravel():
        ax.set_visible(False)
    for i, name in enumerate(names):
        row, column = 2 * (i // columns), i % columns
        _draw_quantity(axes[row, column], comparison, name)
        _draw_deviations(axes[row + 1, column], axes[row, column], comparison, name)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    measured = comparison.narrow
    of_prior = measured.prior is not None
    drawn = f"{measured.activation!r}, {prior_text(measured.prior)}" if of_prior else measured.name
    figure.suptitle(
        f"{drawn}, depth {measured.depth}: "
        f"{measured.networks} networks of each width, p = {comparison.p_value:.2g}",
        fontsize="medium",
    )
    return figure


def _draw_quantity(ax, comparison, name) -> None:
    ax.set_visible(True)
    theory = comparison.theory.values[name]
    layers = np.arange(len(theory))
    shown = theory > _NEGLIGIBLE if name == "one_minus_c" else np.isfinite(theory)
    if name == "growth":
        shown[0] = False  # there is no layer before the first
    for measured, colour, marker in zip(
        (comparison.narrow, comparison.wide), LINE_COLOURS, "o^", strict=False
    ):
        ax.errorbar(
            layers[shown],
            getattr(measured.mean, name)[shown],
            getattr(measured.standard_error, name)[shown],
            fmt=marker,
            markersize=3.5,
            color=colour,
            label=f"networks of width {measured.width}",
        )
    ax.plot(layers[shown], theory[shown], color="black", lw=1.2, label="theory")
    values = theory[shown & (theory > 0)]
    if values.size and values.max() > _WIDE_RANGE * values.min():
        ax.set_yscale("log")
        plain_log_ticks(ax.yaxis)
    ax.set_ylabel(_LABELS[name])
    ax.tick_params(labelbottom=False)


def _draw_deviations(ax, above, comparison, name) -> None:
    ax.set_visible(True)
    ax.sharex(above)
    deviation = comparison.deviation[name]
    ax.axhspan(-2, 2, color="#E4E4E4", lw=0)
    ax.axhline(0, color="black", lw=0.8)
    ax.plot(deviation, ".", color=LINE_COLOURS[2])
    largest = np.nanmax(np.abs(deviation), initial=0.0)
    ax.set_ylim(*(np.array([-1, 1]) * max(4.0, 1.1 * largest)))
    ax.set_ylabel("dev. (s.e.)")
    ax.set_xlabel("layer $l$")
