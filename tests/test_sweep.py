"""Sweeps: what the store holds, and that nothing but the parameters decides it."""

import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray

import meanfield as mf
from meanfield.cli import main
from meanfield.grids.phase_diagrams import FIELDS
from meanfield.grids.processes import place_among_processes
from meanfield.grids.sweeps.grid import Grid, chunk_shape
from meanfield.priors import PARAMETERS

# 60 chunks of at most 50 points, the last of an axis shorter.
SMALL = {"weight_var": np.linspace(0.5, 4.0, 60), "anticorrelation": np.linspace(-1, 1, 47), "bias_var": 0.1}
OPTIONS = ("--weight-var", "0.5:4:60", "--anticorrelation", "-1:1:47", "--bias-var", "0.1", "--chunk", "50")


def contents(store) -> dict[str, bytes]:
    """Every file of a store."""
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in Path(store).rglob("*") if p.is_file()}


def chunks_done(store) -> int:
    return len(list(Path(store).glob("done/c.*")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The store of one process that nobody disturbed."""
    path = tmp_path_factory.mktemp("undisturbed") / "relu.zarr"
    assert mf.sweep("relu", path, **SMALL, chunk=50).computed == 60 * 47
    return contents(path)


def start(*options, code: str = "import runpy; runpy.run_module('meanfield', run_name='__main__')"):
    """``meanfield sweep`` as a process of its own."""
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", listen + code, "sweep", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


# --- what the store holds --------------------------------------------------------


def test_values_are_those_of_fixed_point_and_axes_have_names(tmp_path, x64):
    axes = {"slope": np.array([0.0, 0.3, 1.0]), "weight_var": np.linspace(0.5, 3, 11)}
    axes |= {"anticorrelation": np.array([-2.0, 0.0, 0.9, 1.0])}
    done = mf.sweep("leaky_relu", tmp_path / "s", **axes, bias_var=0.2, chunk=20)
    assert done.shape == (3, 11, 4) and list(done.axes) == list(axes)
    _, weight_var, anticorrelation = np.meshgrid(*axes.values(), indexing="ij")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xarray.open_zarr(tmp_path / "s").load()
    for i, a in enumerate(axes["slope"]):
        prior = mf.NormalPrior(weight_var[i], 0.2, anticorrelation[i])
        expected = mf.fixed_point(mf.activations.leaky_relu(float(a)), prior)
        for name in FIELDS:
            value = getattr(expected, name)
            field = found[name].sel(slope=a)
            assert field.dims == ("weight_var", "anticorrelation")
            np.testing.assert_allclose(field.values, value, rtol=1e-13, err_msg=name)


def test_xarray_sees_coordinates_attributes_and_codes(tmp_path):
    done = mf.sweep("relu", tmp_path / "s", **SMALL, c0=0.5)
    found = done.to_xarray()
    for name in ("weight_var", "anticorrelation"):
        np.testing.assert_array_equal(found[name], SMALL[name])
    assert {name: found.attrs[name] for name in ("activation", "bias_var", "q0", "c0", "special_weight")} == {
        "activation": "relu", "bias_var": 0.1, "q0": 1.0, "c0": 0.5, "special_weight": ""
    }  # fmt: skip
    assert found.q.dtype == np.float64 and found.status.dtype == found.phase.dtype == np.int8
    assert found.status.attrs["flag_meanings"].split()[mf.Status.UNBOUNDED] == "unbounded"
    assert bool(found.done.all())
    phases, statuses = done.counts()
    assert phases == {code: int((found.phase == code).sum()) for code in mf.Phase}
    assert statuses == {code: int((found.status == code).sum()) for code in mf.Status}


def test_an_unfinished_store_opens_too_and_says_what_is_missing(tmp_path):
    mf.sweep("relu", tmp_path / "s", **SMALL, chunk=50)
    for path in (tmp_path / "s").glob("*/c.7.0"):
        path.unlink()
    found = xarray.open_zarr(tmp_path / "s")
    assert not bool(found.done[7, 0]) and int((~found.done).sum()) == 1
    assert bool(np.isnan(found.q[7]).all()) and bool((found.status[7] == -1).all())


def test_the_start_can_be_an_axis(tmp_path):
    axes = {"q0": np.array([0.5, 1.0, 4.0]), "c0": np.array([-1.0, 0.0, 1.0])}
    done = mf.sweep("relu", tmp_path / "s", weight_var=2.0, **axes, bias_var=np.array([0.0]), chunk=4)
    found = done.to_xarray()
    assert found.q.dims == ("q0", "c0", "bias_var")
    np.testing.assert_array_equal(found.q[..., 0], np.repeat(axes["q0"], 3).reshape(3, 3))  # marginal
    np.testing.assert_array_equal(found.c[:, 2], 1.0)


def test_a_family_can_be_a_function(tmp_path):
    def mirrored(slope):
        return mf.activations.leaky_relu(-slope)

    done = mf.sweep(mf.activations.leaky_relu, tmp_path / "a", weight_var=1.0, slope=np.array([0.1, 0.2]))
    assert done.name == "leaky_relu" and done.shape == (2,)
    done = mf.sweep(mirrored, tmp_path / "b", weight_var=0.5, bias_var=0.1, slope=np.array([0.5, 1.0]))
    np.testing.assert_allclose(done.to_xarray().q, 0.1 / (1 - 0.25 * np.array([1.25, 2.0])), rtol=1e-14)


@pytest.mark.parametrize("shape", [(1,), (7,), (10**9,), (1000, 1000, 1000), (3, 5, 7, 11), (100, 1, 300)])
@pytest.mark.parametrize("limit", [1, 2, 50, 4096, 1 << 18])
def test_chunks_are_bounded_and_about_equal(shape, limit):
    chunk = chunk_shape(shape, limit)
    assert math.prod(chunk) <= limit
    for n, length in zip(shape, chunk, strict=True):
        parts = -(-n // length)
        assert 1 <= length <= n and parts * length - n < parts


def test_a_chunk_of_a_billion_points_takes_the_memory_of_a_chunk():
    axes = {name: np.linspace(0, 1, 1000) for name in ("weight_var", "bias_var", "anticorrelation")}
    fixed = {"q0": 1.0, "c0": 0.0}
    grid = Grid(lambda: mf.activations.relu, (), PARAMETERS, axes, fixed, chunk_shape((1000,) * 3, 4096))
    tracemalloc.start()
    last = math.prod(grid.chunks) - 1
    ((_, _, columns),) = grid.pieces(last)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert grid.size == 10**9 and peak < 1e6
    block = grid.block(last)
    assert [b.stop for b in block] == [1000, 1000, 1000]
    assert columns["bias_var"][-1] == columns["anticorrelation"][-1] == 1.0


# --- many processes ------------------------------------------------------------


def test_four_processes_write_the_same_bytes_as_one(tmp_path, undisturbed):
    store = tmp_path / "s"
    share = [("--processes", "4", "--process", str(i)) for i in range(4)]
    finish(*(start(*OPTIONS, *s, "-o", str(store)) for s in share))
    assert contents(store) == undisturbed


def test_two_processes_inside_jax_distributed_write_the_same_bytes_as_one(tmp_path, undisturbed):
    address = free_address()
    code = (
        "import sys, jax, numpy as np; jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[2])); "
        "import meanfield as mf; mf.sweep('relu', sys.argv[4], weight_var=np.linspace(0.5, 4, 60), "
        "anticorrelation=np.linspace(-1, 1, 47), bias_var=0.1, chunk=50)"
    )
    finish(*(start(str(i), address, str(tmp_path / "s"), code=code) for i in range(2)))
    assert contents(tmp_path / "s") == undisturbed


def test_a_killed_process_takes_no_other_down_and_its_share_is_done(tmp_path, undisturbed):
    store = tmp_path / "s"
    together = ("--coordinator", free_address(), "--processes", "2", "-o", str(store))
    coordinator, other = (start(*OPTIONS, *together, "--process", str(i)) for i in range(2))
    wait_for(lambda: chunks_done(store) >= 2, coordinator)
    coordinator.kill()
    coordinator.communicate()
    finish(other)
    assert contents(store) == undisturbed


def test_a_coordinator_that_is_not_there_is_one_error(monkeypatch):
    monkeypatch.setattr("meanfield.grids.processes.PATIENCE_SECONDS", 0.2)
    address = free_address()
    with pytest.raises(OSError, match=f"not met at the coordinator {address}: Connection refused"):
        place_among_processes(address, 2, 1)


# --- crashes ---------------------------------------------------------------------


@pytest.mark.slow
def test_killed_ten_times_at_random_then_finished_ends_with_the_same_bytes(tmp_path, undisturbed):
    store, chance = tmp_path / "s", random.Random(0)
    killed = 0
    while killed < 10:
        process = start(*OPTIONS, "-o", str(store))
        before = chunks_done(store)
        # A few more chunks, so that the last kill still finds some missing; some die at once.
        more = chance.choice([0, 1, 2, 3])
        if more:
            wait_for(lambda n=before + more: chunks_done(store) >= n, process)
            time.sleep(chance.uniform(0, 0.03))
        else:
            time.sleep(chance.uniform(0, 2))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        killed += 1
    assert 0 < chunks_done(store) < 60
    finish(start(*OPTIONS, "-o", str(store)))
    assert contents(store) == undisturbed


def test_a_half_written_chunk_is_never_taken_for_a_whole_one(tmp_path, undisturbed):
    store = tmp_path / "s"
    mf.sweep("relu", store, **SMALL, chunk=50)
    for name in ("done/c.3.0", "done/c.5.0", "q/c.5.0", "phase/c.5.0", "weight_var/c.0"):
        (store / name).unlink()
    whole = (store / "q/c.3.0").read_bytes()
    (store / "q/c.3.0").write_bytes(whole[: len(whole) // 2])  # half of it on disk
    (store / "c/c.5.0.__lock").write_bytes(b"half" * 1000)  # never renamed
    (store / "c/c.9.0.__lock").write_bytes(b"half" * 1000)  # of a chunk that another process finished
    assert mf.sweep("relu", store, **SMALL, chunk=50).computed == 2 * 47
    assert contents(store) == undisturbed


def test_a_process_killed_before_anything_was_written_leaves_a_usable_place(tmp_path, undisturbed):
    store = tmp_path / "s"
    store.mkdir()
    (store / "zarr.json.__lock").write_bytes(b"half" * 10_000)
    mf.sweep("relu", store, **SMALL, chunk=50)
    assert contents(store) == undisturbed


def test_a_finished_sweep_computes_nothing(tmp_path, undisturbed, monkeypatch):
    mf.sweep("relu", tmp_path / "s", **SMALL, chunk=50)
    monkeypatch.setattr("meanfield.grids.sweeps.run.solve_points", lambda *_, **__: pytest.fail("computed"))
    assert mf.sweep("relu", tmp_path / "s", **SMALL, chunk=50).computed == 0
    assert contents(tmp_path / "s") == undisturbed


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_full_disk_is_one_error_and_the_same_call_goes_on(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    grid = {"weight_var": np.random.default_rng(0).uniform(1, 2, 4000), "bias_var": np.array([0.1, 0.2])}
    mf.sweep("relu", tmp_path / "whole", **grid, chunk=2000)
    kept = mf.sweep("relu", tmp_path / "s", weight_var=grid["weight_var"], bias_var=0.1, chunk=50)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*/full: File too large$"):
            mf.sweep("relu", tmp_path / "full", **grid, chunk=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.size == 4000
    mf.sweep("relu", tmp_path / "full", **grid, chunk=2000)
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


# --- what cannot be ----------------------------------------------------------------

OTHERS = {
    "axis": ({"weight_var": np.linspace(0.5, 4, 61)}, "weight_var was 60 values from 0.5 to 4 .* now 61 "),
    "values": ({"weight_var": np.linspace(0.5, 4, 60) ** 1.0001}, "weight_var was 60 values"),
    "number": ({"bias_var": 0.2}, r"bias_var was 0.1 and is now 0.2"),
    "number for axis": ({"bias_var": np.array([0.1, 0.2])}, "bias_var was 0.1 and is now 2 values"),
    "start": ({"c0": 0.5}, r"c0 was 0.0 and is now 0.5"),
    "chunk": ({"chunk": 100}, r"chunk was \[1, 47\] and is now \[2, 47\]"),
    "activation": ({"activation": "tanh"}, "activation was relu and is now tanh"),
    "function of one name": (
        {"activation": mf.Activation(jax.nn.softplus, kinks=(), name="relu")},
        "activation's values was",
    ),
}


@pytest.mark.parametrize("other, message", OTHERS.values(), ids=OTHERS)
def test_another_sweep_in_the_same_place_is_refused_and_nothing_lost(
    tmp_path_factory, undisturbed, other, message
):
    store = tmp_path_factory.getbasetemp() / "kept.zarr"
    if not store.exists():
        mf.sweep("relu", store, **SMALL, chunk=50)
    arguments = {"activation": "relu", **SMALL, "chunk": 50, **other}
    with pytest.raises(ValueError, match=f"kept.zarr holds another sweep: {message}"):
        mf.sweep(store=store, **arguments)
    assert contents(store) == undisturbed


def test_places_that_hold_something_else_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "full" / "mine.__lock").write_text("mine")
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    for name, kind, message in (
        ("file", OSError, "cannot write .*file: it is a file"),
        ("full", ValueError, "full is not empty and holds no sweep"),
        ("zarr", ValueError, "zarr holds no sweep"),
        ("no/such", OSError, "cannot write .*such: No such file or directory"),
    ):
        before = contents(tmp_path)
        with pytest.raises(kind, match=message):
            mf.sweep("relu", tmp_path / name, **SMALL)
        assert contents(tmp_path) == before


WRONG = {
    "no axis": ({"weight_var": 1.0}, ValueError, "at least one of .* must be a 1-d array"),
    "two dimensions": ({"weight_var": np.ones((2, 2))}, ValueError, r"weight_var must be .* shape \(2, 2\)"),
    "negative": ({"weight_var": np.array([1.0, -1])}, ValueError, "weight_var must be .* got -1"),
    "anticorrelation": ({"anticorrelation": 2.0}, ValueError, "anticorrelation must be .* at most 1"),
    "correlation": ({"c0": np.array([2.0])}, ValueError, "c0 must be .* between -1 and 1"),
    "empty": ({"bias_var": np.array([])}, ValueError, "bias_var must not be empty"),
    "text": ({"bias_var": "0.1"}, TypeError, "bias_var must be a real number"),
    "chunk": ({"chunk": 0}, ValueError, "chunk must be at least 1"),
    "unknown activation": ({"activation": "rellu"}, ValueError, "did you mean 'relu'"),
    "unknown family": ({"activation": "leaky", "slope": 1.0}, ValueError, "leaky_relu"),
    "no family": ({"slope": 1.0}, TypeError, "'relu' has no parameters .* slope; families are celu, elu"),
    "misspelt axis": ({"activation": "elu", "bias_vra": 1.0}, TypeError, "did you mean bias_var"),
    "misspelt parameter": ({"activation": "elu", "alhpa": 1.0}, TypeError, "did you mean alpha"),
    "whole activation": ({"activation": "elu(1)", "alpha": 1.0}, TypeError, "no parameters to be given"),
    "nameless parameters": ({"activation": "polynomial", "a": 1.0}, TypeError, "none that has a name"),
    "no activation": ({"activation": lambda a: a, "a": 1.0}, TypeError, "must return an Activation, got 1.0"),
    "one of two": ({"process": 0}, TypeError, "process and processes"),
    "too high": ({"process": 2, "processes": 2}, ValueError, "process must be less than processes, got 2"),
    "special weight": ({"special_weight": 0.5, "q0": 0.0}, ValueError, "q0 must be greater than 0"),
}  # fmt: skip


@pytest.mark.parametrize("wrong, kind, message", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_seen_before_anything_is_written(tmp_path, wrong, kind, message):
    with pytest.raises(kind, match=message):
        mf.sweep(**{"activation": "relu", "store": tmp_path / "s", "weight_var": np.ones(3), **wrong})
    assert not (tmp_path / "s").exists()


# --- the command -----------------------------------------------------------------


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """(exit code, stdout, stderr) of ``meanfield sweep`` with these arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        code = main(("sweep", *arguments))
        return (code, *capsys.readouterr())

    return call


def test_command_writes_the_store_and_says_what_was_found_and_where(call, tmp_path, undisturbed):
    code, out, err = call(*OPTIONS)
    assert (code, err) == (0, "")
    assert [p.name for p in tmp_path.iterdir()] == ["sweep_relu.zarr"]
    assert contents(tmp_path / "sweep_relu.zarr") == undisturbed
    assert "relu, weight_var x anticorrelation (60 x 47)" in out
    assert "Computed: 2820 of 2820 points\nStore: sweep_relu.zarr\n" in out
    found = xarray.open_zarr("sweep_relu.zarr")
    assert re.search(rf"chaotic +{int((found.phase == mf.Phase.CHAOTIC).sum())} ", out)
    assert re.search(rf"unbounded +{int((found.status == mf.Status.UNBOUNDED).sum())} ", out)
    assert "Computed: 0 of 2820 points" in call(*OPTIONS)[1]


def test_parameters_of_the_activation_are_axes_of_the_command(call):
    code, out, _ = call("-a", "leaky_relu", "-p", "slope=0:0.5:3", "--weight-var", "1", "-o", "x")
    assert code == 0 and "leaky_relu, slope (3)" in out
    np.testing.assert_array_equal(xarray.open_zarr("x").slope, [0, 0.25, 0.5])


def test_help_shows_an_example(call):
    code, out, _ = call("--help")
    assert code == 0
    assert out.partition("Example:\n")[2].strip().startswith("meanfield sweep -a elu -p alpha=")


MISTAKES = {
    "no weight variance": ((), "missing option '--weight-var'"),
    "no axis": (("--weight-var", "1"), "must be a 1-d array"),
    "range": (("--weight-var", "1:2"), "start:stop:count, got '1:2'"),
    "parameter": (("--weight-var", "1:2:3", "-p", "slope"), "--parameter must be name="),
    "parameter's range": (("--weight-var", "1", "-p", "slope=1:2"), "--parameter slope must be"),
    "no parameter": (("--weight-var", "1", "-p", "q0=1:2:3"), "q0 is none of an activation"),
    "misspelt": (("--weight-var", "1", "-a", "elu", "-p", "alhpa=1:2:3"), "did you mean alpha"),
    "unknown": (("--weight-var", "1:2:3", "-a", "rellu"), "did you mean 'relu'"),
    "place": (("--weight-var", "1:2:3", "-o", "none/x"), "cannot write none/x: no such file"),
    "one of two": (("--weight-var", "1:2:3", "--process", "0"), "must be given together"),
    "too high": (("--weight-var", "1:2:3", "--process", "2", "--processes", "2"), "from 0 to 1, got 2"),
    "address": (("--weight-var", "1:2:3", "--coordinator", "here"), "must be host:port, or auto, got 'here'"),
    "no place": (("--weight-var", "1:2:3", "--coordinator", "a:1"), "must be given with the coordinator a:1"),
}  # fmt: skip


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_sentence_and_exit_code_2(call, tmp_path, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"Error: [^\n]*\.\n", err)
    assert message.lower() in err.lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_control_c_says_how_to_go_on_and_loses_nothing(tmp_path, undisturbed):
    store = tmp_path / "s"
    process = start(*OPTIONS, "-o", str(store))
    wait_for(lambda: chunks_done(store) >= 3, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "Interrupted: the same command takes up where this one ended.\n"
    finish(start(*OPTIONS, "-o", str(store)))
    assert contents(store) == undisturbed


# --- the solver that chunks ask -----------------------------------------------------


@pytest.mark.slow
def test_what_a_process_solved_before_changes_no_bit_of_a_chunk():
    """The tables of an activation grow by what is asked for."""
    code = """
import hashlib, sys
import numpy as np
import meanfield as mf
from meanfield.grids.points import solve_points

def digest(weight_var):
    columns = {"weight_var": weight_var, "bias_var": 0.1 * weight_var**3, "anticorrelation": np.zeros(512)}
    solved = solve_points(mf.activations.tanh, columns, q0=1.0, c0=0.0)
    return hashlib.sha256(b"".join(x.tobytes() for x in solved.values())).hexdigest()

small, large = np.linspace(0.5, 0.9, 512), np.linspace(2, 40, 512)
if sys.argv[1] == "up":
    print(digest(small), digest(large))
else:
    print(*[digest(large), digest(small)][::-1])
"""
    outputs = [
        subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, check=True).stdout
        for way in ("up", "down")
    ]
    assert outputs[0] == outputs[1]
