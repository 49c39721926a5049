"""What the explorer computes, without a browser."""

import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield.explorer import page, pictures, view
from meanfield.explorer.settings import CHOICES, RANGES, Settings
from meanfield.explorer.workbench import Answer, Workbench
from meanfield.plotting.colours import PHASE_COLOURS

PRIORS = ((2.3, 0.1, 0.9), (1.5, 0.2, -0.5), (3.5, 0.1, 0.0), (2.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def expected(settings):
    with jax.enable_x64(True):
        point = mf.fixed_point(settings.activation, settings.prior)
        rates = mf.lyapunov_exponents(settings.activation, settings.prior)
        scales = mf.depth_scales(settings.activation, settings.prior)
    values = {
        name: getattr(point, name)
        for name in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp")
    }
    values |= {"lambda_q": rates.q, "lambda_c": rates.c, "lambda_max": rates.maximal}
    values |= {"xi_q": scales.q, "xi_c": scales.c}
    return {name: float(value) for name, value in values.items()}, point


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_numbers_are_what_the_library_returns_in_float64(activation, prior):
    settings = Settings(activation, *prior)
    found, (values, point) = view.numbers(settings), expected(settings)
    np.testing.assert_equal(found.values, values)
    assert (found.status, found.phase) == (int(point.status), int(point.phase))
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("activation", ["relu", "cos", "tanh"])
def test_curves_are_those_of_propagate_and_c_map(activation):
    settings = Settings(activation, 2.3, 0.1, 0.9)
    curves = view.curves(settings, view.numbers(settings).values["q"])
    with jax.enable_x64(True):
        for start, q in zip(view.STARTS_Q, curves.q, strict=True):
            path = mf.propagate(activation, settings.prior, q0=start, c0=0.5, depth=view.DEPTH)
            np.testing.assert_allclose(q, path.q, rtol=1e-12)
        for start, c in zip(view.STARTS_C, curves.c, strict=True):
            path = mf.propagate(activation, settings.prior, q0=1.0, c0=start, depth=view.DEPTH)
            np.testing.assert_allclose(c, path.c, atol=1e-12)
        some = slice(None, None, 9)
        image = mf.c_map(activation, settings.prior, c=curves.map_c[some], q=curves.map_q)
    np.testing.assert_allclose(curves.map_next[some], image, atol=1e-8)


@pytest.mark.slow
def test_curves_from_tables_are_those_by_quadrature():
    settings = Settings("tanh", 2.3, 0.1, 0.9)
    q = view.numbers(settings).values["q"]
    exact, fast = view.curves(settings, q), view.curves(settings, q, view.tabulated("tanh"))
    for name in ("q", "c", "map_q", "map_next"):
        np.testing.assert_allclose(getattr(fast, name), getattr(exact, name), atol=1e-11)
    assert view.tabulated("relu") is None


def test_cobweb_ends_at_the_fixed_point():
    settings = Settings("relu", 2.5, 0.1, 0.9)
    numbers = view.numbers(settings)
    web = view.curves(settings, numbers.values["q"]).web
    assert np.all((web[0, 1:] == web[0, :-1]) | (web[1, 1:] == web[1, :-1]))  # horizontal and vertical pieces
    assert web[0, -1] == pytest.approx(numbers.values["c"], abs=2e-3)


def test_where_the_variance_has_no_limit_the_c_map_is_that_of_the_last_layer():
    unbounded = view.curves(Settings("relu", 3.9, 0.1, 0.5), np.inf)
    assert unbounded.map_q == unbounded.q[1, -1]
    vanishing = view.curves(Settings("relu", 0.0, 0.0, 0.5), 0.0)
    assert np.isnan(vanishing.map_next).any()


BLOCKS = {
    "residual": Settings("tanh", 2.3, 0.1, block="residual", skip=0.6),
    "pre-norm residual": Settings("relu", 2.0, 0.1, 0.5, block="pre-norm residual", skip=0.5),
    "dropout": Settings("tanh", 1.8, 0.05, block="dropout", keep=0.8),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_has_the_numbers_and_curves_of_its_layer(block):
    settings = BLOCKS[block]
    numbers = view.numbers(settings)
    curves = view.curves(settings, numbers.values["q"], view.tabulated(settings.activation))
    with jax.enable_x64(True):
        point = mf.fixed_point(settings.layer)
        assert numbers.values["chi_perp"] == float(point.chi_perp)
        assert (numbers.status, numbers.phase) == (int(point.status), int(point.phase))
        for start, c in zip(view.STARTS_C, curves.c, strict=True):
            path = mf.propagate(settings.layer, q0=1.0, c0=start, depth=view.DEPTH)
            np.testing.assert_allclose(c, path.c, atol=1e-9)
        some = slice(None, -1, 9)
        image = mf.c_map(settings.layer, c=curves.map_c[some], q=curves.map_q)
    np.testing.assert_allclose(curves.map_next[some], image, atol=1e-7)
    assert np.all(curves.web <= numbers.values["c"] + 2e-3)  # climbs towards it
    for address in page._draw(Answer(settings, numbers, curves, None)):
        assert not re.search(r"\bnan\b|\binf\b", unquote(address))


def test_the_diagram_of_dropout_has_the_edge_of_gradients():
    diagram = view.diagram(BLOCKS["dropout"])
    assert pictures.visible_in(diagram)[1] == ["chi_perp = 1"]
    with jax.enable_x64(True):
        point = mf.fixed_point(BLOCKS["dropout"].layer_of(mf.NormalPrior(diagram.weight_var[40], 0.1)))
    assert diagram.chi_perp[40, 4] == pytest.approx(float(point.chi_perp), rel=1e-8)


def test_with_the_whole_skip_connection_a_bounded_branch_drifts():
    settings = Settings("tanh", 2.3, 0.1, block="pre-norm residual", skip=1.0)
    assert view.numbers(settings).status == mf.Status.DRIFTING
    assert "drifting variance" in pictures.visible_in(view.diagram(settings))[1]


# --- the address ---------------------------------------------------------------


def test_a_query_and_back_is_the_same_setting():
    settings = Settings("elu(0.5)", 1.25, 0.005, -0.3, "pre-norm residual", 0.35, 0.7)
    assert Settings.from_query(settings.query) == (settings, [])
    assert Settings.from_query("") == (Settings(), [])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?weight_var=-1", "weight_var must be between 0 and 4 in the explorer, got -1."),
        ("?bias_var=nan", "bias_var must be between 0 and 1 in the explorer, got nan."),
        ("?anticorrelation=two", "anticorrelation must be a number, got 'two'."),
        ("?anticorrelation=1.5", "anticorrelation must be between -1 and 1 in the explorer, got 1.5."),
        ("?weight_var=", "weight_var must be a number, got ''."),
        ("?activation=rellu", "(did you mean 'relu'?)"),
        ("?activation=elu(x)", "elu takes numbers"),
        ("?block=residul", "did you mean 'residual'"),
        ("?keep=0.1", "keep must be between 0.2 and 1 in the explorer, got 0.1."),
        ("?wieght_var=2", "did you mean 'weight_var'"),
    ],
)
def test_a_bad_value_is_one_sentence_and_leaves_its_default(query, message):
    settings, complaints = Settings.from_query(query)
    assert settings == Settings()
    assert len(complaints) == 1 and message in complaints[0]


def test_one_bad_value_does_not_spoil_the_others():
    settings, complaints = Settings.from_query("?activation=tanh&weight_var=9&bias_var=0.3")
    assert settings == Settings("tanh", bias_var=0.3) and len(complaints) == 1


# --- pictures --------------------------------------------------------------------


def answer(*setting):
    settings = Settings(*setting)
    numbers = view.numbers(settings)
    return Answer(settings, numbers, view.curves(settings, numbers.values["q"]), None)


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_every_chart_is_a_well_formed_picture_without_nan(prior):
    for address in page._draw(answer("relu", *prior)):
        text = unquote(address.removeprefix("data:image/svg+xml,"))
        assert ET.fromstring(text).tag.endswith("svg")
        assert not re.search(r"\bnan\b|\binf\b", text)


def test_diagram_has_the_phases_of_phase_diagram_in_their_colours():
    settings = Settings("relu", anticorrelation=0.9)
    diagram = view.diagram(settings)
    picture = pictures.phase_picture(diagram)
    json.dumps(picture, allow_nan=False)
    cells = picture["data"][0]
    np.testing.assert_array_equal(cells["z"], diagram.phase.T)
    scale = cells["colorscale"]
    for phase, colour in PHASE_COLOURS.items():
        position = (phase + 0.5) / len(PHASE_COLOURS)
        assert (
            next(c for (x, c), (y, _) in zip(scale[::2], scale[1::2], strict=True) if x < position < y)
            == colour
        )
    axes = picture["layout"]["xaxis"], picture["layout"]["yaxis"]
    for name, axis in zip(("weight_var", "bias_var"), axes, strict=True):
        assert axis["range"] == [RANGES[name].low, RANGES[name].high]


@pytest.mark.parametrize(
    "setting, phases, names",
    [
        (Settings(), ["ORDERED", "CHAOTIC"], ["chi_1 = 1"]),
        (
            Settings("relu", anticorrelation=0.9),
            ["ORDERED", "CHAOTIC"],
            ["chi_1 = 1", "edge of the bounded phase", "unbounded variance"],
        ),
        (
            Settings("relu"),
            ["ORDERED", "NEUTRAL"],
            ["edge of the bounded phase", "unbounded variance"],
        ),
    ],
    ids=["tanh", "relu, rows anti-correlated", "relu"],
)
def test_the_legend_names_what_is_to_be_seen_and_nothing_else(setting, phases, names):
    diagram = view.diagram(setting)
    seen, marked = pictures.visible_in(diagram)
    assert [p.name for p in seen] == phases
    assert marked == names
    assert len(page._phase_legend(diagram)) == len(phases) + len(names)


# --- what is prepared in the background ----------------------------------------


@pytest.mark.alone
def test_nothing_waits_for_the_compiler_and_everything_comes():
    workbench, settings = Workbench(), Settings("sin", 2.0, 0.2, 0.3)
    began = time.monotonic()
    first = workbench.answer(settings)
    assert time.monotonic() - began < 0.5
    assert first.pending == "numbers, curves, diagram"
    while (last := workbench.answer(settings)).pending:
        assert time.monotonic() - began < 120
        time.sleep(0.05)
    assert last.numbers == view.numbers(settings)
    np.testing.assert_array_equal(last.diagram.phase, view.diagram(settings).phase)


def test_an_activation_that_fails_is_said_and_the_next_one_works(monkeypatch):
    numbers = view.numbers

    def fail(settings):
        if settings.activation == "cos":
            raise ValueError("it cannot be")
        return numbers(settings)

    monkeypatch.setattr(view, "numbers", fail)
    workbench, began = Workbench(), time.monotonic()
    while not (found := workbench.answer(Settings("cos"))).trouble:
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    assert found.trouble == "cos: it cannot be" and not found.pending
    while workbench.answer(Settings("relu")).numbers is None:
        assert time.monotonic() - began < 60
        time.sleep(0.02)


# --- the command ---------------------------------------------------------------


def test_every_named_activation_can_be_chosen():
    assert set(CHOICES) == {*mf.activations.NAMES} - {"polynomial"}


def test_without_dash_one_sentence_says_how_to_install_it():
    code = (
        "import sys; sys.modules['dash'] = None; from meanfield.cli import main; "
        "sys.exit(main(['explore', '--no-browser']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "Error: the explorer needs Plotly Dash: pip install 'dash>=4'.\n"
