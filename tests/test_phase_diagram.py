"""Phase diagrams: the fixed points of a grid, in bounded memory, saved whole."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import names, point, relative, solve

import meanfield as mf
from meanfield.fixed_points import strategies as points
from meanfield.grids.phase_diagrams import FIELDS

AXES = dict(
    weight_var=np.linspace(0.5, 4.0, 5),
    bias_var=np.array([0.0, 0.05, 0.3]),
    anticorrelation=np.linspace(-1, 1, 4),
)
VALUES = dict(weight_var=2.2, bias_var=0.1, anticorrelation=0.7)


def arguments(fixed):
    return AXES | {fixed: VALUES[fixed]}


@pytest.mark.parametrize("activation", ["relu", "cos"])
@pytest.mark.parametrize("fixed", AXES)
def test_a_diagram_is_its_fixed_points(activation, fixed):
    diagram = mf.phase_diagram(activation, **arguments(fixed))
    varying = [name for name in AXES if name != fixed]
    assert diagram.axes == tuple(varying)
    assert diagram.fixed == (fixed, VALUES[fixed])
    shape = tuple(len(AXES[name]) for name in varying)
    with jax.enable_x64(True):
        first, second = np.meshgrid(*(AXES[name] for name in varying), indexing="ij")
        prior = mf.NormalPrior(**dict(zip(varying, (first, second), strict=True)), **{fixed: VALUES[fixed]})
        expected = mf.fixed_point(activation, prior)
    for name in FIELDS:
        found = getattr(diagram, name)
        assert isinstance(found, np.ndarray) and found.shape == shape, name
        np.testing.assert_allclose(found, getattr(expected, name), rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_third_parameter_left_out_is_zero():
    diagram = mf.phase_diagram("relu", weight_var=AXES["weight_var"], bias_var=AXES["bias_var"])
    assert diagram.fixed == ("anticorrelation", 0.0)


def test_the_start_is_kept_and_used():
    few = dict(weight_var=np.array([2.4, 2.5]), bias_var=np.array([0.1, 0.11]), anticorrelation=0.5)
    low = mf.phase_diagram("squared_relu", **(few | dict(weight_var=np.array([0.4, 0.5]))), q0=0.1)
    high = mf.phase_diagram("squared_relu", **(few | dict(weight_var=np.array([0.4, 0.5]))), q0=9.0, c0=1.0)
    assert names(low.status) == ["CONVERGED"] * 4
    assert names(high.status) == ["UNBOUNDED"] * 4
    assert (high.q0, high.c0) == (9.0, 1.0)
    assert np.all(high.c == 1)


def test_a_diagram_is_double_precision_and_leaves_the_configuration_alone():
    before = dict(jax.config.values)
    diagram = mf.phase_diagram("erf", **arguments("bias_var"))
    assert dict(jax.config.values) == before
    assert not jax.config.jax_enable_x64
    assert jax.numpy.zeros(1).dtype == np.float32
    for name in FIELDS:
        kind = np.int8 if name in ("status", "phase") else np.float64
        assert getattr(diagram, name).dtype == kind, name
    # Only double precision gets this far.
    row = point(AXES["weight_var"][3], 0.1, AXES["anticorrelation"][0])
    with jax.enable_x64(True):
        assert relative(diagram.q[3, 0], solve("erf", [row]).q[0]) <= 1e-13


@pytest.mark.parametrize("chunk", [16, 64])
def test_chunks_bound_the_memory_and_change_nothing(monkeypatch, chunk):
    grid = dict(weight_var=np.linspace(0.5, 4, 13), anticorrelation=np.linspace(-1, 1, 11), bias_var=0.1)
    whole = mf.phase_diagram("relu", **grid)
    sizes = []
    solve_chunk = points.DirectSolver.solve

    def counted(self, columns, device):
        sizes.append(len(columns[0]))
        return solve_chunk(self, columns, device)

    monkeypatch.setattr(points.DirectSolver, "solve", counted)
    monkeypatch.setattr(points, "chunk_size", lambda size, most: chunk)
    pieces = mf.phase_diagram("relu", **grid)
    assert sizes == [chunk] * -(-143 // chunk)
    # A shape of its own may round the last bit its own way, which a fixed point multiplies by its condition.
    with np.errstate(divide="ignore"):
        condition = np.fmax(1, 1 / np.abs(1 - whole.chi_q)) * np.fmax(1, 1 / np.abs(1 - whole.chi_c))
    for name in FIELDS:
        new, old = getattr(pieces, name), getattr(whole, name)
        same = (new == old) | (np.isnan(new) & np.isnan(old))
        assert np.all(same | (np.abs(new - old) <= 2e-15 * condition * np.abs(old)))


@given(size=st.integers(1, 10**9), most=st.sampled_from([1 << 8, 1 << 14, 1 << 17]))
def test_chunks_are_bounded_and_of_few_shapes(size, most):
    chunk = points.chunk_size(size, most)
    assert 0 < chunk <= most and (chunk == most or size <= chunk < 2 * size + 16)
    assert chunk % 16 == 0 and (chunk <= 256 or chunk.bit_count() == 1)


@pytest.mark.slow
def test_a_tabulated_diagram_agrees_with_the_quadrature_to_ten_digits():
    grid = dict(weight_var=np.linspace(0.6, 3.5, 25), bias_var=np.geomspace(0.01, 1, 17))
    diagram = mf.phase_diagram("tanh", **grid)
    assert set(names(diagram.status)) == {"CONVERGED"}
    index = np.random.default_rng(5).integers(0, (25, 17), (16, 2))
    rows = [point(grid["weight_var"][i], grid["bias_var"][j]) for i, j in index]
    with jax.enable_x64(True):
        expected = solve("tanh", rows)
    for name in ("q", "c", "chi_1", "chi_c"):
        assert relative(getattr(diagram, name)[tuple(index.T)], getattr(expected, name)) <= 1e-10, name


# --- files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diagram():
    return mf.phase_diagram("leaky_relu(0.1)", **arguments("bias_var"), q0=0.5)


def test_save_and_load_give_back_the_same_bits(diagram, tmp_path):
    path = diagram.save(tmp_path / "grid.npz")
    assert path == tmp_path / "grid.npz"
    again = mf.PhaseDiagram.load(path)
    assert again.activation == diagram.activation == "leaky_relu(0.1)"
    assert again.special_weight == diagram.special_weight == ""
    assert again.names == diagram.names
    for name in (*diagram.names, *FIELDS, "q0", "c0"):
        value, other = getattr(diagram, name), getattr(again, name)
        assert other.dtype == value.dtype and other.shape == value.shape
        assert other.tobytes() == value.tobytes(), name
    assert again.axes == diagram.axes and again.fixed == diagram.fixed
    assert [p.name for p in tmp_path.iterdir()] == ["grid.npz"]


def test_the_suffix_is_added_and_an_old_file_replaced(diagram, tmp_path):
    (tmp_path / "grid.npz").write_bytes(b"old")
    assert diagram.save(str(tmp_path / "grid")) == tmp_path / "grid.npz"
    assert mf.PhaseDiagram.load(tmp_path / "grid.npz").q.shape == diagram.q.shape
    assert diagram.save(tmp_path / "version-1.2").name == "version-1.2.npz"


def test_an_unwritable_path_leaves_nothing_behind(diagram, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        diagram.save(tmp_path / "nowhere" / "grid.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OSError, match=r"folder\.npz"):
        diagram.save(tmp_path / "folder.npz")
    (tmp_path / "file").write_text("a file is no folder")
    with pytest.raises(OSError, match="file"):
        diagram.save(tmp_path / "file" / "grid.npz")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder.npz"]


def test_a_write_that_fails_midway_keeps_the_old_file(diagram, tmp_path, monkeypatch):
    path = diagram.save(tmp_path / "grid.npz")
    before = path.read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        diagram.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["grid.npz"]


def test_a_file_that_is_no_diagram_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("not a diagram")
    with pytest.raises(ValueError, match=r"text\.npz is not a phase diagram"):
        mf.PhaseDiagram.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", q=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz is not a phase diagram"):
        mf.PhaseDiagram.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="missing"):
        mf.PhaseDiagram.load(tmp_path / "missing.npz")


def test_to_xarray_names_its_dimensions(diagram):
    data = diagram.to_xarray()
    assert data["c"].dims == ("weight_var", "anticorrelation")
    np.testing.assert_array_equal(data["c"], diagram.c)
    np.testing.assert_array_equal(data["anticorrelation"], AXES["anticorrelation"])
    expected = {"activation": "leaky_relu(0.1)", "special_weight": "", "bias_var": 0.1, "q0": 0.5, "c0": 0.0}
    assert data.attrs == expected
    assert set(data.data_vars) == set(FIELDS)


def test_the_thesis_diagram_has_its_four_phases():
    diagram = mf.phase_diagram(
        "relu", weight_var=np.array([1.5, 2.3, 3.5]), anticorrelation=np.array([-0.5, 0.9]), bias_var=0.1
    )
    chaotic = (diagram.phase == mf.Phase.CHAOTIC).tolist()
    bounded = (diagram.status == mf.Status.CONVERGED).tolist()
    assert chaotic == [[False, False], [False, True], [False, True]]
    assert bounded == [[True, True], [False, True], [False, False]]


# --- tables, and the points that they do not serve ------------------------------------


def close_to_fixed_points(name, diagram, sample=60, rtol=1e-9):
    """Status, q, c and the chi's at random points against ``fixed_point``, which knows no tables."""
    rng = np.random.default_rng(5)
    (first, second), (fixed, value) = diagram.axes, diagram.fixed
    i, j = (rng.integers(0, np.size(getattr(diagram, axis)), sample) for axis in (first, second))
    prior = {first: getattr(diagram, first)[i], second: getattr(diagram, second)[j], fixed: value}
    with jax.enable_x64(True):
        exact = mf.fixed_point(name, mf.NormalPrior(**prior), q0=float(diagram.q0))
    np.testing.assert_array_equal(diagram.status[i, j], exact.status)
    np.testing.assert_array_equal(diagram.phase[i, j], exact.phase)
    for field in ("q", "one_minus_c", "chi_q", "chi_c", "chi_1"):
        expected = np.asarray(getattr(exact, field))
        # Near the edge of chaos 1 - c* hangs on the small difference of chi_1 and 1.
        with np.errstate(divide="ignore"):
            condition = 1 + 1e-3 / np.abs(exact.chi_1 - 1) if field == "one_minus_c" else 1.0
        same = (diagram_field := getattr(diagram, field)[i, j]) == expected
        close = np.abs(diagram_field - expected) <= rtol * condition * np.abs(expected) + (
            1e-10 if "chi" in field else 1e-13
        )
        assert np.all(same | close | (np.isnan(diagram_field) & np.isnan(expected))), field
    return set(np.unique(diagram.status))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, q0, grid, statuses",
    [
        # Two basins, one of them unbounded: q0 lies between fixed points.
        ("silu", 2.0, dict(weight_var=np.linspace(1.5, 3, 40), bias_var=np.linspace(0, 0.4, 25)), {0, 1, 2}),
        # Q rises and falls: no point is regular.
        ("cos", 1.0, dict(weight_var=np.linspace(0.5, 20, 40), anticorrelation=np.linspace(0, 1, 20)), {0}),
    ],
)
def test_points_that_are_not_regular_are_solved_one_by_one(name, q0, grid, statuses):
    diagram = mf.phase_diagram(name, **{"bias_var": 0.01} | grid, q0=q0)
    assert statuses <= close_to_fixed_points(name, diagram)


def test_q_need_only_increase_on_the_way(monkeypatch):
    def wavy(x):
        return jax.numpy.tanh(1.3 * x) + 0.1 * jax.numpy.sin(x)  # of waves at the largest q nothing is known

    def refuse(*_):
        raise AssertionError("a point was taken for an irregular one")

    grid = dict(weight_var=np.linspace(0.5, 2, 20), bias_var=np.linspace(0.01, 0.5, 21))
    monkeypatch.setattr(points, "_variance", refuse)
    diagram = mf.phase_diagram(wavy, **grid)
    monkeypatch.undo()
    assert diagram.q.max() < 3
    assert close_to_fixed_points(wavy, diagram, sample=12) == {mf.Status.CONVERGED}
    assert close_to_fixed_points(wavy, mf.phase_diagram(wavy, **grid, q0=1e4), 12) == {mf.Status.CONVERGED}


def test_a_diagram_of_a_bounded_piecewise_linear_activation_is_that_of_its_closed_form():
    grid = dict(weight_var=np.linspace(0.5, 4, 40), bias_var=np.linspace(0.01, 0.5, 25))
    assert close_to_fixed_points("hard_tanh", mf.phase_diagram("hard_tanh", **grid)) == {0}


@pytest.mark.slow
def test_the_devices_of_a_mesh_give_the_bits_of_one():
    """Eight of them; two for an activation by tables, whose program takes long to compile for each."""
    code = """
import jax, numpy as np, meanfield as mf
for name, n, m, shape in (("relu", 1024, 1024, (4, 2)), ("tanh", 256, 160, (1, 2))):
    mesh = jax.make_mesh(shape, ("a", "b"), devices=jax.devices()[: shape[0] * shape[1]])
    grid = dict(weight_var=np.linspace(0.5, 4, n), bias_var=np.linspace(0.0, 0.5, m), anticorrelation=0.9)
    one, several = mf.phase_diagram(name, **grid), mf.phase_diagram(name, **grid, mesh=mesh)
    for field in ("q", "c", "one_minus_c", "chi_q", "chi_c", "chi_1", "chi_perp", "status", "phase"):
        assert getattr(one, field).tobytes() == getattr(several, field).tobytes(), (name, field)
print(jax.device_count())
"""
    flags = {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | flags)
    assert (run.returncode, run.stdout) == (0, "8\n"), run.stderr


def test_a_mesh_must_be_one():
    with pytest.raises(TypeError, match="mesh must be"):
        mf.phase_diagram("relu", weight_var=np.linspace(1, 2, 3), bias_var=np.linspace(0, 1, 3), mesh=8)
