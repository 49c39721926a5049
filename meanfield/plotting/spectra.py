"""Pictures of spectra, measured ones under the theory."""

import numpy as np
from matplotlib.figure import Figure

from meanfield.plotting.figures import LINE_COLOURS, new_figure, prior_text

_SHOWN = 0.01  # of the distribution is left out at the small end, which reaches to zero


def plot_spectrum(spectrum, measured=None, title: str = "") -> Figure:
    """Draw the density of log s and the distribution function; returns a figure that pyplot does not know.

    spectrum: a ``JacobianSpectrum`` of one prior. measured: a ``MeasuredSpectrum`` or an array of log s,
    drawn as a histogram. Values that are zero, or all equal, are told in the legend. title: if left out,
    the network of ``measured``.
    Raises ValueError for a spectrum of many priors.
    """
    x, density, cdf = (np.asarray(getattr(spectrum, n)) for n in ("log_singular_value", "density", "cdf"))
    if x.ndim != 1:
        raise ValueError(f"spectrum must be of one prior to be drawn, got one of shape {x.shape[:-1]}")
    silent, atom = float(spectrum.zero), float(spectrum.atom)
    figure = new_figure((9.0, 3.8))
    left, right = figure.subplots(1, 2)
    shown = (cdf > silent + _SHOWN) & np.isfinite(density) & np.isfinite(x)
    values = None if measured is None else np.ravel(getattr(measured, "log_values", measured))
    label = "theory" + "".join(
        f", {share:.3g} at {name}" for share, name in ((silent, "$s=0$"), (atom, "one $s$")) if share > 0
    )
    if shown.any():
        left.plot(x[shown], density[shown], color="black", lw=1.4, label=label, zorder=3)
        low, high = x[shown][0], x[shown][-1]
        pad = 0.04 * (high - low)
        # The density may be infinite at an edge or near an atom: let the bulk set the scale.
        top = 1.25 * np.quantile(density[shown], 0.97)
        left.set(xlim=(low - pad, high + pad), ylim=(0, min(1.08 * density[shown].max(), 2.5 * top)))
        right.set(xlim=(low - pad, high + pad))
        right.plot(x[shown], cdf[shown], color="black", lw=1.4, label="theory", zorder=3)
    if atom > 0:
        left.axvline(float(spectrum.log_atom), color="black", lw=1.4, ls="dotted")
        right.vlines(float(spectrum.log_atom), 1 - atom, 1, color="black", lw=1.4)
    if values is not None:
        finite = values[np.isfinite(values)]
        low, high = left.get_xlim()
        bins = np.linspace(low, high, 60)
        counts = np.histogram(finite, bins)[0] / (values.size * np.diff(bins))
        left.stairs(counts, bins, fill=True, color=LINE_COLOURS[5], alpha=0.6, label=_label(measured))
        order = np.sort(values)
        place = (np.arange(order.size) + 0.5) / order.size
        right.plot(order, place, color=LINE_COLOURS[5], lw=4, label=_label(measured))
    left.set(xlabel=r"$\log s$", ylabel=r"density of $\log s$")
    right.set(xlabel=r"$\log s$", ylabel="fraction of singular values below", ylim=(0, 1.02))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize="small", loc="upper left")
    figure.suptitle(title or _title(measured), fontsize="medium")
    return figure


def plot_lyapunov_spectrum(spectrum, measured=None, title: str = "") -> Figure:
    """Draw exponents against the fraction of directions below; returns a figure that pyplot does not know.

    spectrum: a ``LyapunovSpectrum`` over an axis of t. measured: a ``MeasuredSpectrum`` or an
    array of exponents. title: if left out, the network of ``measured``.
    """
    t, exponent = np.asarray(spectrum.t), np.asarray(spectrum.exponent)
    if t.ndim != 1:
        raise ValueError(f"spectrum must be over one axis of t to be drawn, got shape {t.shape}")
    figure = new_figure((5.2, 4.0))
    ax = figure.subplots()
    if measured is not None:
        values = np.sort(np.ravel(getattr(measured, "log_values", measured)))
        place = (np.arange(values.size) + 0.5) / values.size
        ax.plot(place, values, ".", ms=4, color=LINE_COLOURS[0], alpha=0.5, label=_label(measured))
    known = np.isfinite(exponent)
    ax.plot(t[known], exponent[known], color="black", lw=1.4, label="theory")
    shown = known & (t >= min(0.01, t[known].max(initial=0.0)))
    if shown.any():
        low, high = exponent[shown].min(), exponent[shown].max()
        ax.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.08 * (high - low) + 1e-3)
    ax.axhline(0, color="#888888", lw=0.8)
    silent = float(np.max(spectrum.silent))
    if silent > 0:
        ax.axvspan(0, silent, color="#E4E4E4", lw=0, label=r"$\lambda = -\infty$")
    ax.set(xlabel="fraction of directions $t$", ylabel=r"Lyapunov exponent $\lambda(t)$", xlim=(0, 1))
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    ax.set_title(title or _title(measured), fontsize="medium")
    return figure


def spectrum_title(activation, prior, depth: int | None = None) -> str:
    """What a spectrum is that of; without depth, of an infinitely deep network."""
    name = "" if repr(activation) == "<lambda>" else f"{activation!r}, "
    return f"{name}{prior_text(prior)}" + ("" if depth is None else f", depth {depth}")


def _title(measured) -> str:
    if not hasattr(measured, "prior"):
        return ""
    return spectrum_title(measured.activation, measured.prior, measured.depth)


def _label(measured) -> str:
    if not hasattr(measured, "width"):
        return "measured"
    count = len(measured.log_values)
    return f"{count} network{'s' if count > 1 else ''} of width {measured.width}"
