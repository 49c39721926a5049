"""The command line, as someone at a shell uses it."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import jax
import numpy as np
import pytest

import meanfield as mf
from meanfield import plotting
from meanfield.cli import main
from meanfield.grids import phase_diagrams

SMALL = ("--weight-var", "1:3:9", "--anticorrelation", "-1:1:5")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def numbers(table: str) -> dict[str, list[str]]:
    """Rows of a printed table: label to cells."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip())
    return {label: cells for label, *cells in rows}


# --- phase-diagram -------------------------------------------------------------


def test_phase_diagram_writes_picture_and_values_and_says_where(call, here):
    code, out, err = call("phase-diagram", *SMALL)
    assert (code, err) == (0, "")
    assert files(here) == ["phase_diagram_relu.npz", "phase_diagram_relu.png"]
    assert "phase_diagram_relu.png" in out and "phase_diagram_relu.npz" in out
    assert (here / "phase_diagram_relu.png").read_bytes().startswith(b"\x89PNG")


def test_values_are_those_of_phase_diagram_in_float64(call, here):
    call("phase-diagram", "-a", "erf", *SMALL, "--bias-var", "0.2", "--q0", "2", "--c0", "0.5", "-o", "erf")
    loaded = mf.PhaseDiagram.load("erf.npz")
    axes = {"weight_var": np.linspace(1, 3, 9), "anticorrelation": np.linspace(-1, 1, 5), "bias_var": 0.2}
    expected = mf.phase_diagram("erf", **axes, q0=2.0, c0=0.5)
    assert (loaded.activation, loaded.names) == (expected.activation, expected.names)
    for name in (*expected.names, *phase_diagrams.FIELDS, "q0", "c0"):
        value = getattr(expected, name)
        np.testing.assert_array_equal(getattr(loaded, name), value)
        assert getattr(loaded, name).dtype == value.dtype
    assert loaded.q.dtype == np.float64
    assert not jax.config.jax_enable_x64


def test_no_option_means_the_diagram_of_relu_with_correlated_weights(call):
    code, out, _ = call("phase-diagram")
    diagram = mf.PhaseDiagram.load("phase_diagram_relu.npz")
    assert code == 0
    assert diagram.axes == ("weight_var", "anticorrelation")
    assert diagram.fixed == ("bias_var", 0.1)
    assert diagram.q.shape == (351, 201)
    assert (diagram.anticorrelation.min(), diagram.anticorrelation.max()) == (-1, 1)
    for word in ("ordered", "critical", "chaotic", "converged", "unbounded", "q*", "c*"):
        assert word in out


def test_table_counts_what_the_file_holds(call):
    _, out, _ = call("phase-diagram", *SMALL)
    diagram = mf.PhaseDiagram.load("phase_diagram_relu.npz")
    rows = numbers(out)
    for code in (mf.Phase.ORDERED, mf.Phase.CHAOTIC):
        assert rows[code.name.lower()][0].startswith(f"{np.sum(diagram.phase == code)} (")
    for code in (mf.Status.CONVERGED, mf.Status.UNBOUNDED):
        assert rows[code.name.lower()][0].startswith(f"{np.sum(diagram.status == code)} (")
        assert code.message.split(";")[0][:30] in out


def test_two_ranges_of_variances_leave_no_anticorrelation(call):
    call("phase-diagram", "--weight-var", "1:3:3", "--bias-var", "0:1:2")
    assert mf.PhaseDiagram.load("phase_diagram_relu.npz").fixed == ("anticorrelation", 0.0)


@pytest.mark.parametrize("stem", ["picture", "picture.png", "picture.npz"])
def test_output_is_a_stem_or_either_file(call, here, stem):
    assert call("phase-diagram", *SMALL, "-o", stem)[0] == 0
    assert files(here) == ["picture.npz", "picture.png"]


def test_parameters_of_an_activation_stay_in_the_files_name(call, here):
    call("phase-diagram", "-a", "leaky_relu(0.5)", *SMALL)
    assert files(here) == ["phase_diagram_leaky_relu_0.5.npz", "phase_diagram_leaky_relu_0.5.png"]


def test_tilde_is_the_home_directory(call, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert call("phase-diagram", *SMALL, "-o", "~/mine")[0] == 0
    assert files(here) == ["mine.npz", "mine.png"]


def test_a_second_run_replaces_the_first_only_by_force(call, here):
    call("phase-diagram", *SMALL, "-o", "x")
    other = ("phase-diagram", *SMALL, "--bias-var", "0.3", "-o", "x")
    code, out, err = call(*other)
    assert (code, out) == (2, "") and "x.png and x.npz are there already" in err and "--force" in err
    assert mf.PhaseDiagram.load("x.npz").fixed == ("bias_var", 0.1)
    assert call(*other, "--force")[0] == 0
    assert mf.PhaseDiagram.load("x.npz").fixed == ("bias_var", 0.3)
    assert files(here) == ["x.npz", "x.png"]


@pytest.mark.parametrize("form, begins", [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_picture_has_the_format_of_its_name(call, here, form, begins):
    code, out, _ = call("phase-diagram", *SMALL, "-o", f"x.{form}", "--dpi", "50", "--size", "3.4x2.6")
    assert code == 0 and f"x.{form}" in out
    assert files(here) == sorted(["x.npz", f"x.{form}"])
    assert (here / f"x.{form}").read_bytes().startswith(begins)


def test_a_style_is_one_of_matplotlibs_or_a_file(call, here):
    (here / "mine.mplstyle").write_text("figure.facecolor: 000000\n")
    for style in ("default", "mine.mplstyle", "GGplot"):
        call("phase-diagram", *SMALL, "-o", style.partition(".")[0], "--style", style)
    pictures = [(here / f"{name}.png").read_bytes() for name in ("default", "mine", "GGplot")]
    assert len(set(pictures)) == 3
    code, _, err = call("phase-diagram", *SMALL, "-o", "y", "--style", "ggplo")
    assert code == 2 and "did you mean 'ggplot'" in err and not (here / "y.png").exists()


def test_dots_are_inches_times_dpi(call, here):
    from matplotlib.image import imread

    call("phase-diagram", *SMALL, "-o", "x", "--dpi", "50", "--size", "8x6")
    assert imread("x.png").shape[:2] == (300, 400)


# --- fixed-point and info --------------------------------------------------------


def test_fixed_point_prints_what_the_library_returns_to_12_digits(call):
    code, out, err = call("fixed-point", "-a", "erf", "--weight-var", "2.5", "--bias-var", "0.1")
    with jax.enable_x64(True):
        prior = mf.NormalPrior(2.5, 0.1)
        point, scales = mf.fixed_point("erf", prior), mf.depth_scales("erf", prior)
        maximal = mf.lyapunov_exponents("erf", prior).maximal
    rows = numbers(out)
    expected = {"q*": point.q, "c*": point.c, "1 - c*": point.one_minus_c, "chi_q": point.chi_q}
    expected |= {"chi_c": point.chi_c, "chi_1": point.chi_1, "chi_perp": point.chi_perp}
    expected |= {"xi_q (layers)": scales.q, "xi_c (layers)": scales.c, "maximal Lyapunov exponent": maximal}
    assert (code, err) == (0, "")
    for label, value in expected.items():
        assert rows[label] == [f"{float(value):.12g}"], label
    assert rows["phase"] == ["chaotic"] and rows["status"] == ["converged"]
    assert mf.Status.CONVERGED.message in out


def test_every_fixed_point_of_silu_is_listed_with_its_stability(call):
    prior = ("--weight-var", "2.5", "--bias-var", "0.1", "--anticorrelation", "0.5")
    code, out, _ = call("fixed-point", "-a", "silu", *prior, "--all")
    rows = numbers(out)
    assert code == 0
    np.testing.assert_allclose([float(q) for q in rows["q*"]], [0.3793648, 3.42293], rtol=1e-6)
    assert rows["status"] == ["converged", "unstable"]
    assert mf.Status.UNSTABLE.message in out


def test_the_only_fixed_point_is_the_same_among_all(call):
    arguments = ("fixed-point", "-a", "erf", "--weight-var", "2.5", "--bias-var", "0.1")
    one, every = numbers(call(*arguments)[1]), numbers(call(*arguments, "--all")[1])
    assert one.keys() == every.keys()
    for label in list(one)[:10]:
        assert [float(x) for x in every[label]] == pytest.approx([float(x) for x in one[label]], rel=1e-8), (
            label
        )


def test_no_finite_fixed_point_is_said_in_words(call):
    code, out, _ = call("fixed-point", "--weight-var", "3", "--bias-var", "0.1", "--all")
    assert code == 0
    assert out == "There is no finite, positive fixed point.\n"


def test_unbounded_variance_is_infinite_and_explained(call):
    _, out, _ = call("fixed-point", "--weight-var", "3", "--bias-var", "0.1")
    assert numbers(out)["q*"] == ["inf"]
    assert mf.Status.UNBOUNDED.message in out


def test_info_names_versions_backend_devices_and_precision(call):
    code, out, _ = call("info")
    rows = numbers(out)
    assert code == 0
    assert rows["meanfield"] == [mf.__version__] and rows["jax"] == [jax.__version__]
    assert {"jaxlib", "flax", "optax", "numpy", "Python", "devices"} <= set(rows)
    assert rows["backend"] == [jax.default_backend()]
    assert rows["precision"][0].startswith("float")


def test_version(call):
    assert call("--version") == (0, f"meanfield {mf.__version__}\n", "")


@pytest.mark.parametrize("command", [(), ("phase-diagram",), ("fixed-point",), ("info",)])
def test_help_shows_an_example_on_one_line(call, command):
    code, out, _ = call(*command, "--help")
    assert code == 0
    _, _, example = out.partition("Example:\n")
    assert example.strip().startswith("meanfield " + " ".join(command))


def test_the_help_lists_diagrams_and_fixed_points_first(call):
    _, out, _ = call("--help")
    _, _, commands = out.partition("Commands:\n")
    names = [line.split()[0] for line in commands.splitlines() if re.match(r"  \w", line)]
    assert names[:3] == ["phase-diagram", "fixed-point", "init"] and len(set(names)) == 11


def test_names_go_in_any_case(call):
    assert call("fixed-point", "-a", "ReLU", "--weight-var", "1.5")[0] == 0


def test_no_name_is_called_near_that_is_not(call):
    _, _, err = call("phase-diagram", "--quantity", "zzz")
    assert "quantity 'zzz' is unknown; known are" in err


def test_init_prints_candidates_reasons_and_code(call):
    code, out, err = call("init", "-a", "relu", "--depth", "12", "--framework", "torch")
    assert (code, err) == (0, "")
    assert "critical, no bias" in out and "import torch" in out
    compile(out.partition("\n# ")[2].partition("\n")[2], "snippet", "exec")


def test_critical_line_prints_what_the_library_returns(call):
    code, out, err = call("critical-line", "-a", "erf", "--bias-var", "0:0.2:3")
    assert (code, err) == (0, "")
    with jax.enable_x64(True):
        expected = mf.critical_point("erf", np.array([0, 0.1, 0.2]))
    rows = [line.split() for line in out.splitlines() if line.endswith(("converged  ", "vanishing  "))]
    np.testing.assert_allclose([float(row[0]) for row in rows], expected.weight_var, rtol=1e-9)


def test_no_command_shows_the_help(call):
    assert call() == call("--help")


# --- what goes wrong -------------------------------------------------------------

POINT = ("fixed-point", "--weight-var", "1")
WRONG = {
    "unknown activation": ((*POINT, "-a", "rellu"), "did you mean 'relu'"),
    "parameter of an activation": ((*POINT, "-a", "elu(x)"), "elu takes numbers"),
    "negative variance": (("fixed-point", "--weight-var", "-1"), "weight_var must be .*at least 0, got -1"),
    "negative bias variance": ((*POINT, "--bias-var", "-1"), "bias_var must be .*at least 0"),
    "NaN": (("fixed-point", "--weight-var", "nan"), "--weight-var must be finite, got 'nan'"),
    "no number": (("fixed-point", "--weight-var", "two"), "--weight-var must be a number, got 'two'"),
    "anticorrelation above 1": ((*POINT, "--anticorrelation", "1.5"), "anticorrelation must be .*at most 1"),
    "correlation above 1": ((*POINT, "--c0", "2"), "c0 must be .*between -1 and 1"),
    "start beside --all": ((*POINT, "--all", "--q0", "2"), "--q0 and --c0 .* no place beside --all"),
    "missing option": (("fixed-point",), "missing option '--weight-var'"),
    "unknown option": ((*POINT, "--wieght"), "no such option: --wieght"),
    "unknown command": (("phase-digram",), "no such command 'phase-digram'"),
    "superfluous argument": (("info", "more"), "unexpected extra argument"),
    "argument without its name": (("init", "tanh", "--depth", "5"), "such as --activation tanh"),
    "range of two numbers": (("phase-diagram", "--weight-var", "1:2"), "start:stop:count, got '1:2'"),
    "no points": (("phase-diagram", "--weight-var", "1:2:0"), "count of at least 1, got '1:2:0'"),
    "count in words": (("phase-diagram", "--weight-var", "2:1:x"), "start:stop:count, got '2:1:x'"),
    "infinite range": (("phase-diagram", "--weight-var", "0:inf:3"), "must be finite"),
    "one value again": (("phase-diagram", "--weight-var", "1:1:3"), "repeats one value 3 times"),
    "negative range": (("phase-diagram", "--weight-var", "-1:1:3"), "weight_var must be .*at least 0"),
    "too large": (("phase-diagram", "--weight-var", "1:2:100000000000000"), "not enough memory"),
    "one range": (("phase-diagram", "--weight-var", "1"), "two of .* --anticorrelation is a range"),
    "three ranges": (
        ("phase-diagram", "--bias-var", "0:1:3", "--anticorrelation", "0:1:3"),
        "two of .* --weight-var, --bias-var, --anticorrelation are ranges",
    ),
    "unknown quantity": (("phase-diagram", "--quantity", "chi1"), "did you mean 'chi_1'"),
    "no such directory": (("phase-diagram", "-o", "none/x"), "cannot write none/x.png: no such file"),
    "a directory": (("phase-diagram", "-o", "."), "--output must be a file's name, but . is a directory"),
    "unknown weights": (
        ("spectrum", "--weight-var", "1", "--weights", "x"),
        "gaussian or orthogonal, got 'x'",
    ),
    "correlated orthogonal weights": (
        ("spectrum", "--weight-var", "1", "--weights", "orthogonal", "--anticorrelation", "0.5"),
        "--anticorrelation has no place beside",
    ),
    "another kind of picture": (("phase-diagram", "-o", "x.jpg"), "must end in .png, .pdf, .svg or .npz"),
    "no size": (("phase-diagram", "--size", "big"), "width x height in inches, such as 3.4x2.6, got 'big'"),
    "no dots": (("phase-diagram", "--dpi", "0"), "--dpi must be at least 1, got 0"),
    "no framework": (("init", "--depth", "5", "--framework", "x"), "--framework must be nnx, linen, torch"),
    "two ways at once": (("critical-line", "--q", "1", "--bias-var", "1"), "--q and --bias-var are two ways"),
    "too long a name": (("phase-diagram", "-o", "x" * 300), r"cannot write x+(\.png)?: file name too long"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_error_is_one_sentence_and_exit_code_2(call, here, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"Error: [^\n]*\.\n", err)
    assert len(re.findall(r"[.?!](?=\s)", err)) == 1
    assert re.search(message, err, re.IGNORECASE)
    assert files(here) == []


@pytest.mark.parametrize("blocked", ["x.png", "x.npz"])
def test_an_unwritable_place_is_seen_before_computing(call, here, monkeypatch, blocked):
    (here / blocked).mkdir()
    monkeypatch.setattr(
        "meanfield.grids.phase_diagrams.phase_diagram", lambda *_, **__: pytest.fail("computed")
    )
    code, _, err = call("phase-diagram", *SMALL, "-o", "x")
    assert code == 2
    assert err == f"Error: cannot write {blocked}: it is a directory.\n"


def test_a_disk_that_fills_up_leaves_nothing_half_written(call, here, monkeypatch):
    def fail(draw, file, *look):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plotting, "write_picture", fail)
    code, _, err = call("phase-diagram", *SMALL, "-o", "x")
    assert (code, err) == (2, "Error: cannot write x.png: No space left on device.\n")
    assert files(here) == ["x.npz"]
    mf.PhaseDiagram.load("x.npz")


def test_an_interrupt_while_writing_leaves_nothing_half_written(call, here, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    code, out, err = call("phase-diagram", *SMALL)
    assert (code, out) == (130, "")
    assert re.fullmatch(r"Interrupted: \w[^\n]*\n", err)
    assert files(here) == []


# --- as its own process ------------------------------------------------------------


def start(*arguments):
    # A shell may start the tests in the background, where Control-C is ignored and the child inherits that.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = listen + "import runpy; runpy.run_module('meanfield', run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_process_without_a_terminal_writes_no_colours_and_no_traceback(here):
    process = start("phase-diagram", *SMALL, "-o", "x")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "\x1b" not in out + err
    assert files(here) == ["x.npz", "x.png"]


def test_help_comes_without_importing_jax():
    code = (
        "import sys; from meanfield.cli import main; main(['phase-diagram', '--help']); "
        "assert not {'jax', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_control_c_ends_it_with_one_line_and_code_130(here):
    process = start(
        "phase-diagram", "-a", "gelu", "--weight-var", "1:3:20000", "--anticorrelation", "0:1:500"
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert re.fullmatch(r"Interrupted: \w[^\n]*\n", err)
    assert files(here) == []


def test_an_interrupt_that_falls_into_a_callback_is_not_lost(monkeypatch, capsys):
    """Python prints an exception raised there and goes on; garbage collection calls such callbacks."""

    def swallowing(phase, info):
        gc.callbacks.remove(swallowing)
        raise KeyboardInterrupt

    def busy(*args, **kwargs):
        gc.callbacks.append(swallowing)
        gc.collect()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pass

    monkeypatch.setattr(phase_diagrams, "phase_diagram", busy)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        assert main(["phase-diagram", *SMALL]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert re.fullmatch(r"Interrupted: \w[^\n]*\n", capsys.readouterr().err)


# --- asymmetric priors ---------------------------------------------------------


@pytest.mark.slow
def test_fixed_point_with_a_special_weight_prints_error_bars_where_it_samples(call):
    prior = ("--weight-var", "1.2", "--bias-var", "0.02", "--anticorrelation", "1")
    code, out, err = call("fixed-point", *prior, "--special-weight", "beta(2,1)")
    assert (code, err) == (0, "")
    with jax.enable_x64(True):
        point = mf.asymmetric_fixed_point("relu", mf.AsymmetricPrior(1.2, 0.02, 1.0), particles=1 << 14)
    cells = {label: row[0] for label, row in numbers(out).items() if row}
    assert float(cells["q*"]) == pytest.approx(float(point.q), rel=1e-10)
    assert float(cells["inactive fraction"]) == pytest.approx(float(point.inactive), rel=1e-10)
    value, error = map(float, cells["c*"].split(" ± "))
    assert abs(value - point.c) <= 4 * point.c_error
    assert 0 < error < point.c_error  # the command samples more


def test_phase_diagram_with_a_special_weight_has_a_name_of_its_own(call, here):
    grid = ("--weight-var", "0.2:1.6:8", "--anticorrelation", "0:1:5", "--special-weight", "0.5")
    code, out, err = call("phase-diagram", *grid, "--quantity", "c")
    assert (code, err) == (0, "")
    assert files(here) == ["phase_diagram_relu_Constant_0.5.npz", "phase_diagram_relu_Constant_0.5.png"]
    assert "Constant(0.5)" in out
    diagram = mf.PhaseDiagram.load(here / "phase_diagram_relu_Constant_0.5.npz")
    assert diagram.special_weight == "Constant(0.5)"


def test_dead_nodes_of_gaussian_weights_are_exact(call):
    code, out, err = call("dead-nodes", "--inputs", "2", "--depth", "12", "--c0", "0.5")
    assert (code, err) == (0, "")
    with jax.enable_x64(True):
        c = mf.propagate("relu", mf.NormalPrior(2.0), c0=0.5, depth=12).c
    rows = numbers(out)
    for layer in (0, 1, 2, 5, 10, 12):
        assert float(rows[str(layer)][0]) == pytest.approx(0.25 + np.arcsin(c[layer]) / (2 * np.pi), rel=1e-5)
    assert "standard error" not in out and "weight variance 2 (unit gain)" in out


def test_dead_nodes_with_a_width_says_how_often_networks_are_born_dead(call):
    code, out, _ = call("dead-nodes", "--inputs", "1", "--depth", "12", "--width", "4")
    assert code == 0
    assert "born dead on one input with probability 0.539048." in out


def test_dead_nodes_of_asymmetric_weights_carry_error_bars(call):
    code, out, err = call(
        "dead-nodes", "--special-weight", "0.5", "--weight-var", "1.5", "--inputs", "3", "--depth", "3"
    )
    assert (code, err) == (0, "")
    assert "standard error" in out
    with jax.enable_x64(True):
        prior = mf.AsymmetricPrior(1.5, special_weight=0.5)
        expected = mf.dead_node_probability("relu", prior, 3, depth=3)
    value, error = map(float, numbers(out)["3"])
    assert value == pytest.approx(float(expected.probability[3]), rel=1e-5)
    assert error == pytest.approx(float(expected.standard_error[3]), rel=0.1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-nodes", "--special-weight", "0.5", "--weight-var", "1.5", "--inputs", "2", "--depth", "2"),
        ("dead-nodes", "--inputs", "2", "--depth", "2", "--width", "3"),
        ("fixed-point", "--weight-var", "2", "--bias-var", "0.1"),
        ("spectrum", "-a", "tanh", "--weight-var", "1.5", "--bias-var", "0.1", "--depth", "3"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_double_precision_never_leaves_its_context(call, arguments):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*float64.*")
        assert call(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fixed-point", "--weight-var", "1", "--special-weight", "beta(2"), "--special-weight"),
        (("fixed-point", "--weight-var", "1", "--special-weight", "beta(-1,2)"), "greater than 0"),
        (("fixed-point", "--weight-var", "1", "--special-weight=-1"), "at least 0"),
        (("fixed-point", "--weight-var", "1", "--special-weight", "0.5", "--all"), "--all"),
        (("phase-diagram", "--special-weight", "rai"), "--special-weight"),
        (("dead-nodes", "-a", "tanh"), "--weight-var"),
        (("dead-nodes", "-a", "tanh", "--weight-var", "1"), "no dead nodes"),
        (("dead-nodes", "-a", "squared_relu", "--weight-var", "1", "--width", "3"), "--width"),
        (("dead-nodes", "--inputs", "0"), "n_inputs"),
        (("dead-nodes", "--width", "0"), "width"),
        (("dead-nodes", "--depth", "-1"), "depth"),
        (("dead-nodes", "--c0", "2"), "c0"),
        (("dead-nodes", "--special-weight", "2"), "amplifies"),
    ],
)
def test_bad_asymmetric_input_is_one_sentence(call, here, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("Error: ") and err.count("\n") == 1
    assert files(here) == []


# --- compare and train -----------------------------------------------------------


def test_compare_prints_deviations_and_writes_picture_and_values(call, here):
    prior = ("-a", "tanh", "--weight-var", "1.5", "--bias-var", "0.1", "--anticorrelation", "1")
    sizes = ("--width", "64", "--depth", "6", "--networks", "16")
    code, out, err = call("compare", *prior, *sizes, "--method", "weightless")
    assert (code, err) == (0, "")
    assert files(here) == ["compare_tanh.npz", "compare_tanh.png"]
    assert "p = " in out and len(numbers(out)["6"]) == 5  # a deviation for each quantity
    with np.load("compare_tanh.npz") as saved:
        assert saved["networks"] == 16 and set(saved["quantity"]) >= {"q", "one_minus_c", "growth"}


@pytest.mark.slow
def test_spectrum_prints_edge_and_exponents_and_writes_picture_and_values(call, here):
    arguments = ("--weight-var", "2", "--bias-var", "0.1", "--depth", "3", "-a", "relu", "-o", "x")
    code, out, err = call("spectrum", *arguments, "--networks", "1", "--width", "12")
    assert (code, err) == (0, "") and files(here) == ["x.npz", "x.png"]
    assert re.search(r"fraction of zeros\s+0\.5\s", out) and re.search(r"quantile 0.25\s+-inf", out)
    with np.load(here / "x.npz") as saved:
        assert saved["measured"].shape == (1, 12)
        total = saved["mass"].sum() + saved["zero"] + saved["atom"]
        assert total == pytest.approx(1, abs=1e-6)


def test_train_prints_a_row_for_every_initialisation_and_resumes(call, here):
    sizes = ("--width", "8", "--depth", "2", "--steps", "20", "--evaluations", "4", "--seeds", "3")
    tuning = ("--tuning-seeds", "2", "--learning-rates", "0.01,0.1")
    command = ("train", "--task", "spirals", "-i", "he,anticorrelated(1, 2)", *sizes, *tuning)
    code, out, err = call(*command, "--checkpoint", "kept", "-o", "curves")
    assert (code, err) == (0, "")
    assert files(here) == ["curves.npz", "curves.png", "kept"]
    table = numbers(out)
    assert float(table["he"][2].split()[0]) == 1 and len(table["anticorrelated(1, 2)"]) == 5
    code, again, _ = call(*command, "--checkpoint", "kept", "-o", "curves", "--force")
    assert (code, again) == (0, out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare",), "weight-var"),
        (("compare", "--weight-var", "2", "--method", "x"), "--method must be weights or weightless"),
        (("compare", "--weight-var", "2", "--networks", "2"), "networks must be at least 8"),
        (("compare", "--weight-var", "-1"), "weight_var must be"),
        (("train", "--task", "digit"), "did you mean 'digits'"),
        (("train", "--task", "mnist"), "--data"),
        (("train", "--task", "mnist", "--data", "nowhere"), "there is no directory nowhere"),
        (("train", "--task", "digits", "-i", "hee"), "did you mean 'he'"),
        (("train", "--optimizer", "sdg", "-i", "he"), "did you mean 'sgd'"),
        (("train", "--learning-rates", "0.1,x"), "--learning-rates must be a number"),
        (("train", "--learning-rates", "0"), "learning_rates must be"),
        (("train", "-i", ","), "must name at least one"),
        (("train", "--steps", "7"), "steps must be a multiple of evaluations"),
        (("train", "-o", "no/such/folder/x"), "cannot write"),
    ],
)
def test_mistakes_in_compare_and_train_are_one_sentence(call, here, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert files(here) == []
