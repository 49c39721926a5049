"""Pictures of learning curves."""

import numpy as np
from matplotlib.figure import Figure

from meanfield.numerics.statistics import interval_of_mean
from meanfield.plotting.figures import line_style, new_figure, plain_log_ticks

_MARKED = 12  # places along a curve that carry its marker


def plot_training_study(study) -> Figure:
    """Draw training loss and test accuracy (test loss, for regression) by step, and the paired loss ratios.

    Lines are means over seeds (geometric ones for losses), bands 95% intervals; seeds that
    diverge are left out of the curves, not of the ratios. Returns a figure that pyplot does not know.
    """
    figure = new_figure((12.0, 4.6))
    loss, test, ratio = figure.subplots(1, 3)
    classification = study.task.classification
    for i, outcome in enumerate(study.outcomes):
        curves = outcome.curves
        style = line_style(i) | {"markevery": max(1, len(curves.steps) // _MARKED)}
        _draw_band(loss, curves.steps, _log(curves.train_loss[:, 0]), np.exp, outcome.name, style)
        if classification:
            _draw_band(test, curves.steps, 100 * curves.test_accuracy[:, 0], _percent, outcome.name, style)
        else:
            _draw_band(test, curves.steps, _log(curves.test_loss[:, 0]), np.exp, outcome.name, style)
    unit = " (nats)" if classification else " (units of the targets' variance)"
    loss.set(yscale="log", xlabel="step", ylabel=f"training loss{unit}")
    loss.axhline(study.target_loss, color="#808080", lw=0.8, ls=":")
    if classification:
        test.set_ylim(top=102)
    test.set(xlabel="step", ylabel="test accuracy (%)" if classification else f"test loss{unit}")
    if not classification:
        test.set_yscale("log")
    for ax in (loss, test):
        if ax.get_yscale() == "log":
            plain_log_ticks(ax.yaxis)
    _draw_ratios(ratio, study)
    handles, labels = loss.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    settings = study.settings
    figure.suptitle(
        f"{study.task.name}: {settings['depth']} layers of {settings['width']}, {settings['optimizer']}, "
        f"{settings['seeds']} seeds, each initialisation at its best learning rate",
        fontsize="medium",
    )
    return figure


def _percent(accuracy) -> np.ndarray:
    """An interval of a mean may reach beyond what an accuracy can be."""
    return np.clip(accuracy, 0, 100)


def _log(losses) -> np.ndarray:
    """Of the runs that did not diverge."""
    return np.log(losses[losses[:, -1] < losses[:, 0]])


def _draw_band(ax, steps, samples, back, label, style) -> None:
    if len(samples) == 0:
        ax.plot([], label=label, **style)
        return
    mean, low, high = (back(x) for x in interval_of_mean(samples))
    ax.plot(steps, mean, lw=1.4, label=label, **style)
    ax.fill_between(steps, low, high, color=style["color"], alpha=0.18, lw=0)


def _draw_ratios(ax, study) -> None:
    verdicts = study.verdicts()
    for i, verdict in enumerate(verdicts):
        estimate = verdict.loss_ratio
        arms = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        style = line_style(i)
        if np.isfinite(estimate.value):
            look = dict(fmt=style["marker"], color=style["color"], capsize=3)
            ax.errorbar([estimate.value], [i], xerr=arms, **look)
    ax.axvline(1, color="black", lw=0.8)
    ax.set_xscale("log")
    plain_log_ticks(ax.xaxis)
    labels = [f"{v.name}  ({v.learning_rate:g})" for v in verdicts]
    ax.set_yticks(range(len(verdicts)), labels, fontsize="small")
    ax.invert_yaxis()
    ax.set_xlabel(f"training loss over the curve,\nrelative to {verdicts[0].name} (lower is faster)")
