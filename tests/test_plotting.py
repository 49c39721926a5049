"""The picture of a phase diagram: lines where theory puts them, and nothing hidden."""

import dataclasses
import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import meanfield as mf
from meanfield import plotting
from meanfield.plotting import (
    PHASE_COLOURS,
    QUANTITIES,
    phase_diagram_figure,
    plot_phase_diagram,
    write_picture,
)
from meanfield.plotting.figures import new_figure

WEIGHT_VAR = np.linspace(0.5, 4, 71)
ANTICORRELATION = np.linspace(-1, 1, 41)
CELL = np.array([WEIGHT_VAR[1] - WEIGHT_VAR[0], ANTICORRELATION[1] - ANTICORRELATION[0]])
FLOATS = [name for name in QUANTITIES if name not in ("phase", "status")]


@pytest.fixture(scope="module")
def relu():
    return mf.phase_diagram("relu", weight_var=WEIGHT_VAR, anticorrelation=ANTICORRELATION, bias_var=0.1)


def drawn(diagram, quantity="phase"):
    return plot_phase_diagram(diagram, quantity, Figure().subplots())


def vertices(ax, gid):
    """Of every line with that gid, one below the other; empty where none is drawn."""
    paths = [path for artist in ax.findobj(lambda a: a.get_gid() == gid) for path in artist.get_paths()]
    return np.concatenate([np.empty((0, 2)), *(path.vertices for path in paths)])


def hatched(ax):
    labels = [label for label, _, _ in plotting.HATCHES]
    return {label for label in labels if len(vertices(ax, label))}


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def boundary(kappa):
    """Weight variance at which the growth of a ReLU network's variance is 1."""
    return 2 * np.pi / (np.pi - kappa)


def test_relu_bounded_phase_ends_where_theory_says(relu):
    weight_var, kappa = vertices(drawn(relu), "bounded").T
    assert len(kappa) >= ANTICORRELATION.size
    # The outermost half cells continue the outermost points.
    np.testing.assert_allclose(weight_var, boundary(np.clip(kappa, -1, 1)), atol=CELL[0])
    assert kappa.min() <= -1 and kappa.max() >= 1


def test_relu_bounded_phase_is_critical_at_weight_variance_two(relu):
    line = vertices(drawn(relu), "chi_1 = 1")
    bounded = line[line[:, 0] < boundary(np.clip(line[:, 1], -1, 1)) - CELL[0]]
    assert bounded[:, 1].max() >= 1 and bounded[:, 1].min() <= 2 * CELL[1]
    np.testing.assert_allclose(bounded[:, 0], 2, atol=CELL[0])


def test_the_legend_lists_what_shows_beside_the_line():
    def phases(side):
        axes = {"weight_var": np.linspace(1, 4, side), "anticorrelation": np.linspace(-1, 1, side)}
        legend = legend_texts(drawn(mf.phase_diagram("relu", bias_var=0.1, **axes)))
        return set(legend) & {phase.name.lower() for phase in mf.Phase}

    assert phases(7) == {"ordered", "chaotic", "critical", "neutral"}
    assert phases(201) == {"ordered", "chaotic"}


def test_relu_unbounded_phase_is_critical_without_correlation(relu):
    line = vertices(drawn(relu), "chi_1 = 1")
    unbounded = line[line[:, 0] > 2 + CELL[0]]
    assert unbounded[:, 0].max() >= WEIGHT_VAR.max()
    np.testing.assert_allclose(unbounded[:, 1], 0, atol=CELL[1])


def test_jump_of_chi_1_across_the_boundary_is_not_a_critical_line(relu):
    chi_1 = np.where(relu.status == mf.Status.UNBOUNDED, 1.2, 0.8)
    phase = np.where(chi_1 > 1, mf.Phase.CHAOTIC, mf.Phase.ORDERED)
    ax = drawn(dataclasses.replace(relu, chi_1=chi_1, phase=phase))
    assert len(vertices(ax, "chi_1 = 1")) == 0
    assert r"$\chi_1 = 1$" not in legend_texts(ax)
    assert len(vertices(ax, "bounded"))


def test_erf_critical_line_is_the_explicit_one():
    axes = {"weight_var": np.linspace(1, 3, 21), "bias_var": np.linspace(0.05, 0.5, 10)}
    weight_var, bias_var = vertices(drawn(mf.phase_diagram("erf", **axes)), "chi_1 = 1").T
    expected = np.asarray(mf.critical_weight_var("erf", np.clip(bias_var, 0.05, 0.5)))
    np.testing.assert_allclose(weight_var, expected, atol=0.1)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_every_quantity_is_drawn_with_the_symbols_of_the_field(relu, quantity):
    ax = drawn(relu, quantity)
    assert r"$\sigma_w^2$" in ax.get_xlabel()
    assert r"$\kappa$" in ax.get_ylabel()
    assert ax.get_title() == r"relu, $\sigma_b^2 = 0.1$"
    assert r"$\chi_1 = 1$" in legend_texts(ax)


def test_a_function_without_a_name_is_not_in_the_title(relu):
    assert drawn(dataclasses.replace(relu, activation="<lambda>")).get_title() == r"$\sigma_b^2 = 0.1$"


@pytest.mark.parametrize("quantity", FLOATS)
def test_numbers_have_a_colour_bar_with_their_symbol(relu, quantity):
    figure = drawn(relu, quantity).figure
    (bar,) = (other for other in figure.axes if other.get_label() == "<colorbar>")
    assert QUANTITIES[quantity].symbol in bar.get_ylabel()


def test_depth_scales_are_in_layers_and_agree_with_depth_scales(relu):
    mesh = drawn(relu, "xi_c").collections[0]
    prior = mf.NormalPrior(WEIGHT_VAR[5], 0.1, ANTICORRELATION[30])
    expected = float(mf.depth_scales("relu", prior).c)
    assert mesh.get_array()[30, 5] == pytest.approx(expected, rel=1e-5)
    assert "layers" in drawn(relu, "xi_c").figure.axes[1].get_ylabel()


@pytest.mark.parametrize(
    "activation, axes, regions",
    [
        ("relu", {"weight_var": [1.0, 1.5], "bias_var": [0.1, 0.2]}, set()),
        ("relu", {"weight_var": [1.0, 3.0], "bias_var": [0.1, 0.2]}, {"unbounded variance"}),
        ("relu", {"weight_var": [1.0, 1.5], "bias_var": [0.0, 0.2]}, {"vanishing variance"}),
        (
            "relu",
            {"weight_var": [1.0, 2.0, 3.0], "anticorrelation": [0.0, -0.1]},
            {"vanishing variance", "marginal variance", "unbounded variance"},
        ),
    ],
)
def test_hatches_mark_just_the_regions_that_exist(activation, axes, regions):
    ax = drawn(mf.phase_diagram(activation, **axes))
    assert hatched(ax) == regions
    assert regions == set(legend_texts(ax)) & {label for label, _, _ in plotting.HATCHES}


def test_unbounded_variance_is_masked_and_hatched(relu):
    ax = drawn(relu, "q")
    mask = np.ma.getmaskarray(ax.collections[0].get_array())
    np.testing.assert_array_equal(mask, np.isinf(relu.q).T)
    assert hatched(ax) == {"unbounded variance"}


def test_legend_says_what_grey_cells_are(relu):
    assert "$1 - c^* = 0$" in legend_texts(drawn(relu, "one_minus_c"))


def test_a_phase_has_one_colour_whatever_else_is_in_the_picture():
    axes = {"bias_var": [0.1, 0.2], "anticorrelation": [0.5, 0.6]}
    ordered = drawn(mf.phase_diagram("erf", weight_var=0.5, **axes)).collections[0]
    both = drawn(mf.phase_diagram("erf", weight_var=[0.5, 4.0], bias_var=[0.1, 0.2])).collections[0]
    for mesh in (ordered, both):
        colour = mesh.to_rgba(mesh.get_array())[0, 0]
        np.testing.assert_allclose(colour, to_rgba(PHASE_COLOURS[mf.Phase.ORDERED]))


def test_order_of_the_axes_values_does_not_matter():
    up = {"weight_var": [1.0, 1.5, 3.0], "bias_var": [0.1, 0.4]}
    down = {name: values[::-1] for name, values in up.items()}
    one, other = (drawn(mf.phase_diagram("relu", **axes), "chi_q").collections[0] for axes in (up, down))
    np.testing.assert_array_equal(one.get_array(), other.get_array())
    np.testing.assert_array_equal(one.get_coordinates(), other.get_coordinates())
    np.testing.assert_allclose(one.get_coordinates()[0, :, 0], [0.75, 1.25, 2.25, 3.75])


@pytest.mark.parametrize("quantity", ["phase", "q", "chi_1"])
@pytest.mark.parametrize("weight_var", [[1.0], np.linspace(1, 4, 31)])
def test_axes_of_length_one_are_strips_with_their_lines(quantity, weight_var):
    ax = drawn(mf.phase_diagram("relu", weight_var=weight_var, anticorrelation=[0.5], bias_var=0.1), quantity)
    low, high = ax.get_ylim()
    assert low < 0.5 < high
    if len(weight_var) > 1:
        np.testing.assert_allclose(vertices(ax, "bounded")[:, 0], boundary(0.5), atol=0.1)
        np.testing.assert_allclose(vertices(ax, "chi_1 = 1")[:, 0], 2, atol=0.1)


def test_unknown_quantity_names_the_one_that_was_meant(relu):
    with pytest.raises(ValueError, match=r"'chi1' is unknown \(did you mean 'chi_1'"):
        relu.plot("chi1")


def test_what_is_not_a_diagram_is_refused():
    with pytest.raises(TypeError, match="must be a PhaseDiagram, got dict"):
        plot_phase_diagram({})


def test_given_axes_are_drawn_on_and_returned(relu):
    ax = Figure().subplots()
    assert relu.plot("phase", ax=ax) is ax


def test_without_axes_there_is_a_new_pyplot_figure(relu):
    from matplotlib import pyplot

    ax = relu.plot()
    assert ax.figure.number in pyplot.get_fignums()
    pyplot.close(ax.figure)


def test_drawing_leaves_matplotlib_settings_alone(relu):
    before = dict(mpl.rcParams)
    write_picture(lambda: phase_diagram_figure(relu), io.BytesIO(), dpi=40)
    assert dict(mpl.rcParams) == before


def test_importing_it_chooses_no_backend():
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams); import meanfield.plotting; "
        "assert dict(matplotlib.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_large_grid_is_thinned_to_what_a_page_can_show():
    weight_var = np.linspace(0.5, 4, 5001)
    diagram = mf.phase_diagram("relu", weight_var=weight_var, anticorrelation=[0.0, 0.5], bias_var=0.1)
    ax = drawn(diagram)
    assert ax.collections[0].get_array().shape[1] < weight_var.size
    line = vertices(ax, "bounded")
    np.testing.assert_allclose(line[:, 0].max(), boundary(0.5), atol=2 * 3.5 / 2048)


# --- what a print needs -----------------------------------------------------------------


def test_the_critical_line_reaches_the_corner_where_the_bounded_phase_begins():
    axes = {"weight_var": np.linspace(1, 4, 121), "anticorrelation": np.linspace(0, 1, 81)}
    line = vertices(drawn(mf.phase_diagram("relu", bias_var=0.1, **axes)), "chi_1 = 1")
    nearest = np.abs(line - [2.0, 0.0]).max(axis=1).min()
    assert nearest < 1e-6


def test_the_critical_line_stays_inside_the_bounded_phase(relu):
    line = vertices(drawn(relu), "chi_1 = 1")
    vertical = line[np.abs(line[:, 0] - 2) < 1e-9]
    assert vertical[:, 1].min() == pytest.approx(0.0, abs=1e-9)


def test_independent_weights_go_without_saying():
    diagram = mf.phase_diagram("relu", weight_var=[1.0, 1.5], bias_var=[0.1, 0.2])
    assert drawn(diagram).get_title() == "relu"


def test_a_bar_of_what_is_never_negative_begins_at_zero_or_above(relu):
    (bar,) = (a for a in drawn(relu, "chi_q").figure.axes if a.get_label() == "<colorbar>")
    assert bar.get_ylim()[0] >= 0


def test_curves_are_told_apart_without_colour():
    styles = [plotting.line_style(i) for i in range(len(plotting.LINE_COLOURS))]
    for part in ("color", "linestyle", "marker"):
        assert len({str(style[part]) for style in styles}) == len(styles)


@pytest.mark.parametrize("low, high", [(0.4, 4.0), (0.9, 1.4), (0.07, 1.9), (20.0, 60.0)])
def test_a_short_logarithmic_axis_has_plain_labels(low, high):
    ax = Figure().subplots()
    ax.set(yscale="log", ylim=(low, high))
    plotting.plain_log_ticks(ax.yaxis)
    ax.figure.draw_without_rendering()
    labels = [t.get_text() for t in ax.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert len(labels) >= 2 and all(float(label) > 0 for label in labels)


@pytest.mark.parametrize("form", plotting.FORMATS)
def test_text_of_a_picture_stays_text(relu, form):
    file = io.BytesIO()
    plotting.write_picture(lambda: plotting.phase_diagram_figure(relu), file, form, dpi=40)
    if form == "svg":
        assert b"edge of the bounded phase" in file.getvalue()
    assert 1_000 < len(file.getvalue()) < 300_000


def test_axes_may_be_deviations_in_place_of_variances(relu):
    ax = new_figure().subplots()
    relu.plot("phase", ax, deviations=True)
    assert ax.get_xlabel() == r"weight deviation $\sigma_w$" and r"$\sigma_b = " in ax.get_title()
    squares = new_figure().subplots()
    relu.plot("phase", squares)
    there, here = squares.get_xlim(), ax.get_xlim()
    cell = (there[1] - there[0]) / relu.weight_var.size
    np.testing.assert_allclose(np.square(here), there, atol=cell)


def test_a_line_that_ends_an_ulp_beyond_the_last_point_is_drawn():
    """Rounding puts the end of chi_1 = 1 above the bias variances of this grid."""
    axes = dict(weight_var=np.linspace(1.99, 3.04, 8), bias_var=np.linspace(0.63, 1.42, 6))
    axis = mf.phase_diagram("relu", **axes, anticorrelation=0.9).plot()
    assert "$\\chi_1 = 1$" in [text.get_text() for text in axis.get_legend().get_texts()]
