"""The explorer's pictures: the diagram by Plotly, what moves with the sliders as SVG."""

import numpy as np

from meanfield.explorer.drawing import GRID, INK, QUIET, Axis, Chart, italic
from meanfield.explorer.settings import RANGES
from meanfield.explorer.view import DEPTH, Curves, Numbers
from meanfield.grids.phase_diagrams import PhaseDiagram
from meanfield.plotting.colours import LINE_COLOURS, PHASE_COLOURS
from meanfield.status import Phase, Status

SYMBOLS = {
    "weight_var": "<i>σ</i><sub>w</sub><sup>2</sup>",
    "bias_var": "<i>σ</i><sub>b</sub><sup>2</sup>",
    "anticorrelation": "<i>κ</i>",
}
_WIDE, _SMALL = (520, 415), (340, 320)  # as their cards at 1440 x 900
# The hatches of the Matplotlib pictures: (statuses, marker).
MARKS = {
    "unbounded variance": ((Status.UNBOUNDED,), "line-ne"),
    "drifting variance": ((Status.DRIFTING,), "line-ew"),
    "vanishing variance": ((Status.VANISHING,), "circle"),
    "marginal variance": ((Status.MARGINAL,), "line-nw"),
    "no stable fixed point": ((Status.UNSTABLE,), "x-thin"),
    "not resolved": ((Status.MAX_STEPS, Status.INVALID, Status.INACCURATE), "cross-thin"),
}
_EVERY = (4, 3)  # grid points between marks
START_DASHES = (("", "solid"), ("8 4", "dashed"), ("2 3", "dotted"))  # in pictures, in legends
CRITICAL_LINE, GRADIENT_LINE, EDGE = "chi_1 = 1", "chi_perp = 1", "edge of the bounded phase"
# Space for labels about the diagram, in pixels; the point is placed by it (assets/style.css).
MARGIN = dict(l=66, r=16, t=12, b=48)


def phase_picture(diagram: PhaseDiagram | None) -> dict:
    """The diagram, or its empty frame, as Plotly's plain description: building it takes milliseconds."""
    traces = [] if diagram is None else [_cells(diagram), *_marks(diagram), *_lines(diagram)]
    axes = (_parameter_axis("weight_var", "weight variance"), _parameter_axis("bias_var", "bias variance"))
    return _figure(traces, *axes)


def visible_in(diagram: PhaseDiagram | None) -> tuple[list[Phase], list[str]]:
    """The phases, and the names of lines and marks, that one sees in a diagram."""
    if diagram is None:
        return [], []
    seen = [p for p in PHASE_COLOURS if _is_area(diagram.phase == p)]
    names = [trace["name"] for trace in [*_lines(diagram), *_marks(diagram)]]
    return seen, list(dict.fromkeys(names))


def edge_of(diagram: PhaseDiagram) -> str:
    """What is 1 between phases: chi_1, or chi_perp where layers part equal signals."""
    return "chi_perp" if np.any((diagram.phase == Phase.CHAOTIC) & (diagram.chi_1 < 1)) else "chi_1"


def _is_area(inside: np.ndarray) -> bool:
    """Whether any of a region is wider than one grid point: else it is a line."""
    return bool((inside[1:, 1:] & inside[:-1, 1:] & inside[1:, :-1] & inside[:-1, :-1]).any())


def cobweb_picture(curves: Curves | None, numbers: Numbers | None) -> Chart:
    """C(c) over the diagonal, and the way of c from 0."""
    c, image = italic("c"), f"{italic('C')}({italic('c')})"
    axes = Axis.linear(f"{c}, this layer", 0, 1, 0.2), Axis.linear(f"{image}, next layer", 0, 1, 0.2)
    chart = Chart(*axes, _WIDE, "c-map with the cobweb from c = 0")
    chart.line([0, 1], [0, 1], QUIET, width=1.2)
    if curves is not None and numbers is not None:
        chart.line(curves.web[0], curves.web[1], LINE_COLOURS[1], width=1.3)
        chart.line(curves.map_c, curves.map_next, LINE_COLOURS[0], width=3)
        chart.dot(numbers.values["c"], numbers.values["c"])
    return chart


def variance_picture(curves: Curves | None, numbers: Numbers | None) -> Chart:
    """q by layer from several starts, on a logarithmic axis."""
    values = np.asarray([0.1, 10.0]) if curves is None else curves.q
    y = Axis.logarithmic(italic("q", above="l"), values)
    chart = Chart(_layers(), y, _SMALL, "variance by layer")
    if curves is not None and numbers is not None:
        _draw_by_layer(chart, curves.q, numbers.values["q"])
    return chart


def correlation_picture(curves: Curves | None, numbers: Numbers | None) -> Chart:
    """c by layer from several starts."""
    y = Axis.linear(italic("c", above="l"), 0, 1.02, 0.2)
    chart = Chart(_layers(), y, _SMALL, "correlation by layer")
    if curves is not None and numbers is not None:
        _draw_by_layer(chart, curves.c, numbers.values["c"])
    return chart


def exponents_picture(numbers: Numbers | None) -> Chart:
    """Lyapunov exponents as bars about zero: to the left what contracts, to the right what expands."""
    names = {"lambda_q": "q", "lambda_c": "c", "lambda_max": "max"}
    rates = [] if numbers is None else [numbers.values[name] for name in names]
    largest = max((abs(r) for r in rates if np.isfinite(r)), default=0.0)
    reach = next((r for r in (0.5, 1.0, 2.0, 5.0, 10.0) if r >= 1.05 * largest), 50.0)
    ticks = [(2.0 - i, italic("λ", below=name)) for i, name in enumerate(names.values())]
    x = Axis.linear("rate per layer", -reach, reach, reach / 2)
    chart = Chart(x, Axis("", -0.6, 2.6, ticks), _SMALL, "Lyapunov exponents")
    for i, rate in enumerate(rates):
        if not np.isnan(rate):
            colour = PHASE_COLOURS[Phase.CHAOTIC if rate > 0 else Phase.ORDERED]
            chart.bar(float(np.clip(rate, -2 * reach, 2 * reach)), 2.0 - i, 0.55, colour)
    chart.line([0, 0], [-0.6, 2.6], INK, width=2)
    return chart


def _layers() -> Axis:
    return Axis.linear(f"layer {italic('l')}", 0, DEPTH, 10)


def _draw_by_layer(chart: Chart, curves, end: float) -> None:
    """Curves from several starts, and where they end as a thin line."""
    chart.line([0, DEPTH], [end] * 2, QUIET, width=1)
    for values, colour, (dash, _) in zip(curves, LINE_COLOURS, START_DASHES, strict=False):
        chart.line(range(DEPTH + 1), values, colour, dash=dash)


# --- parts ---------------------------------------------------------------------


def _figure(traces, xaxis, yaxis) -> dict:
    return {
        "data": traces,
        "layout": dict(
            xaxis=xaxis,
            yaxis=yaxis,
            margin=MARGIN,
            font=dict(family="system-ui, sans-serif", size=14, color=INK),
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="white",
            showlegend=False,
            hovermode="closest",  # or a click is not told
            dragmode=False,
        ),
    }


def _parameter_axis(name: str, words: str) -> dict:
    range_ = [RANGES[name].low, RANGES[name].high]
    return dict(
        title=dict(text=f"{words} {SYMBOLS[name]}", standoff=6, font=dict(size=15)),
        range=range_,
        gridcolor=GRID,
        linecolor=INK,
        zeroline=False,
        ticks="outside",
        tickcolor=INK,
        mirror=True,
        showline=True,
        fixedrange=True,
        layer="above traces",
    )


def _numbers(values) -> list[float | None]:
    """What JSON can hold: None breaks a line."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values)]


def _cells(diagram: PhaseDiagram) -> dict:
    steps = [
        x for i in range(len(PHASE_COLOURS)) for x in (i / len(PHASE_COLOURS), (i + 1) / len(PHASE_COLOURS))
    ]
    colours = [colour for colour in PHASE_COLOURS.values() for _ in range(2)]
    return dict(
        type="heatmap",
        x0=float(diagram.weight_var[0]),
        dx=float(diagram.weight_var[1] - diagram.weight_var[0]),
        y0=float(diagram.bias_var[0]),
        dy=float(diagram.bias_var[1] - diagram.bias_var[0]),
        z=diagram.phase.T.astype(int).tolist(),
        zmin=-0.5,
        zmax=len(PHASE_COLOURS) - 0.5,
        colorscale=[list(pair) for pair in zip(steps, colours, strict=True)],
        showscale=False,
        hoverinfo="none",
    )


def _marks(diagram: PhaseDiagram) -> list[dict]:
    i, j = (
        np.arange(n // 2, len(a), n)
        for n, a in zip(_EVERY, (diagram.weight_var, diagram.bias_var), strict=True)
    )
    x, y = np.meshgrid(diagram.weight_var[i], diagram.bias_var[j], indexing="ij")
    status = diagram.status[np.ix_(i, j)]
    traces = []
    for name, (statuses, symbol) in MARKS.items():
        inside = np.isin(status, statuses)
        if inside.any():
            marker = dict(
                symbol=symbol, size=3 if symbol == "circle" else 9, color="#303030", line=dict(width=1.3)
            )
            where = dict(name=name, x=x[inside].tolist(), y=y[inside].tolist())
            traces.append(dict(type="scatter", mode="markers", marker=marker, hoverinfo="skip", **where))
    return traces


def _lines(diagram: PhaseDiagram) -> list[dict]:
    """chi_1 = 1, for each region of the variance, since it jumps between them; where q becomes unbounded.

    Where layers part equal signals it is chi_perp = 1, the edge of gradients.
    """
    unbounded, vanishing = diagram.status == Status.UNBOUNDED, diagram.status == Status.VANISHING
    # Rounding decides on which side of 1 a critical point falls.
    deciding = edge_of(diagram)
    chi_1 = getattr(diagram, deciding)
    chi_1 = np.where(np.isin(diagram.phase, (Phase.CRITICAL, Phase.NEUTRAL)), 1.0, chi_1)
    lines = []
    for region in (unbounded, vanishing, ~(unbounded | vanishing)):
        values = np.where(region, chi_1, np.nan)
        if region.any() and np.nanmin(values, initial=2) <= 1 < np.nanmax(values, initial=0):
            lines.append(_contour(diagram, f"{deciding} = 1", values, 1.0, "solid"))
    if unbounded.any() and not unbounded.all():
        excess = np.nan_to_num(np.abs(diagram.chi_q) - 1, nan=0.0, posinf=1.0)
        excess = np.where(unbounded, np.clip(excess, 1e-9, 1), np.clip(excess, -1, -1e-9))
        lines.append(_contour(diagram, EDGE, excess, 0.0, "dash"))
    return lines


def _contour(diagram: PhaseDiagram, name: str, values, level: float, dash: str) -> dict:
    return dict(
        type="contour",
        name=name,
        x=diagram.weight_var.tolist(),
        y=diagram.bias_var.tolist(),
        z=[_numbers(row) for row in values.T],
        contours=dict(start=level, end=level, size=1, coloring="none"),
        line=dict(color="black", width=2.2, dash=dash),
        showscale=False,
        connectgaps=False,
        hoverinfo="skip",
    )
