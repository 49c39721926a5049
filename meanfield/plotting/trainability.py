"""The picture of which networks can be trained."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from meanfield.plotting.figures import new_figure, plain_log_ticks
from meanfield.plotting.grid import cell_edges
from meanfield.plotting.phase_diagrams import SEQUENTIAL

_MULTIPLE = 6  # of xi_c: how deep networks train, by Schoenholz et al. 2017
_RIM = [withStroke(linewidth=4, foreground="white")]


def plot_trainability(result) -> Figure:
    """Draw the accuracy of trained networks over weight variance and depth, and 6 xi_c of the theory over it.

    The colour is the mean over seeds at the best learning rate. The dotted line is where networks are halfway
    between perfect and chance. Returns a figure that pyplot does not know.
    Source: Schoenholz et al., arXiv:1611.01232.
    """
    figure = new_figure((6.4, 5.0))
    ax = figure.subplots()
    edges = cell_edges(result.weight_var), np.exp(cell_edges(np.log(result.depth)))
    mesh = ax.pcolormesh(*edges, 100 * result.best.T, cmap=SEQUENTIAL, vmin=0, vmax=100, rasterized=True)
    figure.colorbar(mesh, ax=ax, label="training accuracy (%)")
    variances, xi_c = result.curve
    scale = np.where(np.isfinite(xi_c), _MULTIPLE * xi_c, 1e9)
    line: dict[str, Any] = dict(color="black", path_effects=_RIM)
    ax.plot(variances, scale, lw=2.2, label=rf"${_MULTIPLE}\,\xi_c$", **line)
    reached = np.clip(result.reached, None, edges[1][-1])
    ax.plot(result.weight_var, reached, lw=1.8, ls=":", marker="o", ms=4, label="halfway trained", **line)
    ax.set(yscale="log", xlim=edges[0][[0, -1]], ylim=edges[1][[0, -1]])
    ax.set(xlabel=r"weight variance $\sigma_w^2$", ylabel="depth (layers)")
    plain_log_ticks(ax.yaxis)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(_title(result.settings), fontsize="medium")
    return figure


def _title(settings: dict) -> str:
    kappa = settings["anticorrelation"]
    correlated = rf", $\kappa={kappa:.4g}$" if kappa else ""
    task = settings["task"].removesuffix("()")
    how = f"{task}, {settings['steps']} steps of {settings['optimizer'].upper()}"
    return (
        f"{settings['activation']}, "
        + rf"$\sigma_b^2={settings['bias_var']:.4g}$"
        + correlated
        + f", width {settings['width']}: {how}"
    )
