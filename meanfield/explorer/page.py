"""The page: sliders, pictures and numbers, and what happens when something moves."""

from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from meanfield.explorer import pictures
from meanfield.explorer.settings import BLOCKS, CHOICES, RANGES, Settings
from meanfield.explorer.view import STARTS_C, STARTS_Q, Numbers
from meanfield.explorer.workbench import Answer, Workbench
from meanfield.grids.phase_diagrams import PhaseDiagram
from meanfield.plotting.colours import LINE_COLOURS, PHASE_COLOURS
from meanfield.status import Status


def _sub(letter: str, below: str = "", above: str = "") -> list:
    return [html.I(letter), *([html.Sub(below)] if below else []), *([html.Sup(above)] if above else [])]


_SLIDERS: dict[str, tuple[str, list]] = {
    "weight_var": ("weight variance", _sub("σ", "w", "2")),
    "bias_var": ("bias variance", _sub("σ", "b", "2")),
    "anticorrelation": ("anticorrelation", _sub("κ")),
    "skip": ("skip connection", _sub("a")),
    "keep": ("kept activations", _sub("p")),
}
# Name in ``Numbers.values``, symbol, and unit if any.
_NUMBERS: dict[str, tuple[list, str]] = {
    "q": (_sub("q", above="∗"), ""),
    "c": (_sub("c", above="∗"), ""),
    "one_minus_c": (["1 − ", *_sub("c", above="∗")], ""),
    "chi_q": (_sub("χ", "q"), ""),
    "chi_c": (_sub("χ", "c"), ""),
    "chi_1": (_sub("χ", "1"), ""),
    "chi_perp": (_sub("χ", "⊥"), ""),
    "lambda_q": (_sub("λ", "q"), "per layer"),
    "lambda_c": (_sub("λ", "c"), "per layer"),
    "lambda_max": (_sub("λ", "max"), "per layer"),
    "xi_q": (_sub("ξ", "q"), "layers"),
    "xi_c": (_sub("ξ", "c"), "layers"),
}
_PICTURES = ("cobweb", "variance", "correlation", "exponents")


def shown(value: float) -> str:
    """A number as the page prints it; the full float64 is in its tooltip."""
    return f"{value:.10g}".replace("-", "−").replace("inf", "∞").replace("nan", "undefined")


def build(workbench: Workbench) -> Dash:
    """The page as a Dash application whose files all come from this computer."""
    app = Dash(
        __name__,
        title="meanfield explorer",
        update_title="",
        serve_locally=True,
        compress=False,
        assets_folder="assets",
    )
    app.layout = _layout()
    _connect(app, workbench)
    return app


# --- what is on the page -------------------------------------------------------


def _layout() -> html.Main:
    stores = [dcc.Location(id="address", refresh=False), dcc.Store(id="request"), dcc.Store(id="answer")]
    side = html.Div([_controls(), _readings()], className="side")
    return html.Main([*stores, side, html.Div(_panels(), className="panels")])


def _controls() -> html.Section:
    start = Settings()
    activation = dcc.Dropdown(
        id="activation", options=CHOICES, value=start.activation, clearable=False, maxHeight=420
    )
    block = dcc.Dropdown(id="block", options=list(BLOCKS), value=start.block, clearable=False)
    sliders = [_slider(name, getattr(start, name)) for name in RANGES]
    return html.Section(
        [
            html.H1("meanfield explorer"),
            html.Div(id="message", role="alert"),
            html.Div(
                [
                    _choice("activation", ["activation ", html.I("ϕ")], activation),
                    _choice("block", ["block"], block),
                ],
                className="choices",
            ),
            *sliders,
        ],
        className="controls",
    )


def _choice(name: str, label: list, dropdown: dcc.Dropdown) -> html.Div:
    return html.Div([html.Label(label, htmlFor=name), dropdown], className="control")


def _readings() -> html.Section:
    return html.Section(
        [
            html.Div(id="verdict", role="status"),
            html.Table(html.Tbody(id="numbers"), className="numbers"),
            html.P(id="status"),
        ],
        className="readings",
    )


def _slider(name: str, value: float) -> html.Div:
    words, symbol = _SLIDERS[name]
    low, high, step = RANGES[name].low, RANGES[name].high, RANGES[name].step
    marks = {low + (high - low) * i / 4: f"{low + (high - low) * i / 4:g}" for i in range(5)}
    slider = dcc.Slider(low, high, step, id=name, value=value, marks=marks, updatemode="drag")
    label = html.Label([words + " ", *symbol], htmlFor=name)
    heading = html.Div([label, html.Output(id=f"{name}-value")], className="heading")
    return html.Div([heading, slider], className="control", id=f"{name}-control")


def _panels() -> list:
    return [
        _panel(
            "diagram",
            ["phase diagram", html.Span(id="progress", role="status")],
            "wide",
            [],
        ),
        _panel("cobweb", ["c-map at ", html.Span(id="map-variance")], "wide", []),
        _panel("variance", "variance by layer", "", _start_legend(_sub("q", above="0"), STARTS_Q)),
        _panel("correlation", "correlation by layer", "", _start_legend(_sub("c", above="0"), STARTS_C)),
        _panel("exponents", "Lyapunov exponents", "", [html.Span("← contracts"), html.Span("expands →")]),
    ]


def _panel(name: str, title, size: str, legend: list) -> html.Figure:
    picture = (
        _diagram() if name == "diagram" else html.Img(id=name, alt=f"{name} picture", className="picture")
    )
    caption = html.Div(legend, className="legend", id=f"{name}-legend")
    return html.Figure(
        [html.Figcaption(title), picture, caption], className=f"panel {size}", id=f"{name}-panel"
    )


def _diagram() -> html.Div:
    """The point lies over the diagram, so that moving it draws nothing else anew."""
    config: Any = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "doubleClick": False}
    graph = dcc.Graph(id="diagram", figure=pictures.phase_picture(None), config=config, className="graph")
    m = pictures.MARGIN
    inset = {"left": m["l"], "right": m["r"], "top": m["t"], "bottom": m["b"]}
    point = html.Div(html.Div(id="point"), className="above", style=inset)
    return html.Div([graph, point], className="picture", title="click to move the point")


def _swatch(colour: str) -> html.Span:
    return html.Span(className="swatch", style={"background": colour})


_MARKS: dict[str, tuple[str, list]] = {
    pictures.CRITICAL_LINE: ("—", [*_sub("χ", "1"), " = 1"]),
    pictures.GRADIENT_LINE: ("—", [*_sub("χ", "⊥"), " = 1"]),
    pictures.EDGE: ("- -", [pictures.EDGE]),
    "unbounded variance": ("╱", ["unbounded variance"]),
    "drifting variance": ("─", ["variance grows linearly"]),
    "vanishing variance": ("∙", ["vanishing variance"]),
    "marginal variance": ("╲", ["marginal variance"]),
    "no stable fixed point": ("×", ["no stable fixed point"]),
    "not resolved": ("+", ["not resolved"]),
}


def _phase_legend(diagram: PhaseDiagram | None) -> list:
    """What is to be seen in the diagram."""
    phases, names = pictures.visible_in(diagram)
    marks = [html.Span([html.Span(_MARKS[n][0], className="mark"), html.Span(_MARKS[n][1])]) for n in names]
    return [*(html.Span([_swatch(PHASE_COLOURS[p]), p.name.lower()]) for p in phases), *marks]


def _start_legend(symbol: list, starts) -> list:
    lines = [
        html.Span([html.Span(className="dash", style={"borderTop": f"3px {dash} {colour}"}), f"{start:g}"])
        for start, colour, (_, dash) in zip(starts, LINE_COLOURS, pictures.START_DASHES, strict=False)
    ]
    return [html.Span(html.Span([*symbol, " ="])), *lines]


# --- what happens --------------------------------------------------------------


def _connect(app: Dash, workbench: Workbench) -> None:
    """An address sets the sliders; what they wish goes out one request at a time (assets/explorer.js)."""
    controls = ["activation", *RANGES, "block"]

    @app.callback(
        *(Output(name, "value") for name in controls),
        Output("activation", "options"),
        Output("message", "children"),
        Input("address", "search"),
    )
    def _read_address(query: str | None):
        settings, complaints = Settings.from_query(query or "")
        options = CHOICES if settings.activation in CHOICES else [settings.activation, *CHOICES]
        return *(getattr(settings, name) for name in controls), options, [html.P(text) for text in complaints]

    @app.callback(
        Output("weight_var", "value", allow_duplicate=True),
        Output("bias_var", "value", allow_duplicate=True),
        Input("diagram", "clickData"),
        prevent_initial_call=True,
    )
    def _move_to(click: dict | None):
        if not click:
            return no_update, no_update
        return click["points"][0]["x"], click["points"][0]["y"]

    @app.callback(
        Output("diagram", "figure"),
        Output("diagram-legend", "children"),
        Output("point", "style"),
        *(Output(name, "src") for name in _PICTURES),
        *(Output(name, "children") for name in ("numbers", "verdict", "status", "progress", "map-variance")),
        Output("answer", "data"),
        Input("request", "data"),
        State("answer", "data"),
        prevent_initial_call=True,
    )
    def _answer(request: dict, before: dict | None):
        settings, complaints = Settings.checked(**{name: request[name] for name in controls})
        answer = workbench.answer(settings)
        shown_before = (before or {}).get("diagram")
        key = None if answer.diagram is None else settings.plane
        if key is None and shown_before and shown_before[:2] == list(settings.program):
            # That of another anticorrelation, or block's parameter, stays until its successor is there.
            key = shown_before
        is_shown = key == shown_before
        diagram = no_update if is_shown else pictures.phase_picture(answer.diagram)
        legend = no_update if is_shown else _phase_legend(answer.diagram)
        data = {"settings": vars(settings), "pending": bool(answer.pending), "diagram": key}
        return diagram, legend, _place(settings), *_draw(answer), *_words(answer, complaints), data

    names = [Input(name, "value") for name in controls]
    app.clientside_callback("window.meanfieldExplorer.wish", *names)
    app.clientside_callback("window.meanfieldExplorer.answered", Input("answer", "data"))


def _place(settings: Settings) -> dict[str, str]:
    """Where the point lies, in the frame of the diagram."""
    sides = {"left": "weight_var", "bottom": "bias_var"}
    at = {side: (getattr(settings, name) - RANGES[name].low) for side, name in sides.items()}
    return {side: f"{100 * at[side] / (RANGES[n].high - RANGES[n].low):.3f}%" for side, n in sides.items()}


def _draw(answer: Answer) -> list[str]:
    numbers, curves = answer.numbers, answer.curves
    by_depth = (pictures.cobweb_picture, pictures.variance_picture, pictures.correlation_picture)
    charts = [*(draw(curves, numbers) for draw in by_depth), pictures.exponents_picture(numbers)]
    return [chart.address for chart in charts]


def _words(answer: Answer, complaints: list[str]) -> tuple:
    """Numbers, the verdict, the status' sentence, what is still to come, where the c-map is taken."""
    settings, numbers, curves = answer.settings, answer.numbers, answer.curves
    progress = f"computing: {answer.pending}" if answer.pending else ""
    if numbers is None:
        compiling = html.Span(f"compiling {settings.activation} …", className="compiling")
        trouble = answer.trouble or " ".join(complaints)
        return [], trouble or compiling, "", progress or trouble, ""
    label = "q*" if numbers.status not in (Status.UNBOUNDED, Status.VANISHING) else "the last layer's q"
    variance = "" if curves is None else f"{label} = {curves.map_q:.4g}"
    return _rows(numbers), _verdict(numbers), numbers.status.message, progress, variance


def _rows(numbers: Numbers) -> list[html.Tr]:
    return [
        html.Tr(
            [
                html.Th(symbol, scope="row"),
                html.Td(shown(numbers.values[name]), id=f"number-{name}", title=repr(numbers.values[name])),
                html.Td(unit, className="unit"),
            ]
        )
        for name, (symbol, unit) in _NUMBERS.items()
    ]


def _verdict(numbers: Numbers) -> list:
    phase, status = numbers.phase, numbers.status
    return [
        html.Span(
            phase.name.lower(), className="phase", id="phase", style={"background": PHASE_COLOURS[phase]}
        ),
        html.Span(status.name.lower().replace("_", " "), id="status-name"),
    ]
