"""What a first answer waits for: little is compiled, and what is compiled serves others."""

import logging
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meanfield as mf
from meanfield.cli import compiled as kept
from meanfield.numerics.compiling import compiled, is_tracing

GRID = dict(weight_var=np.linspace(0.5, 4, 21), bias_var=np.linspace(0.01, 0.5, 21))


@pytest.fixture
def programs(caplog):
    """The names of all programs that are compiled from now on."""
    before = jax.config.jax_log_compiles
    jax.config.update("jax_log_compiles", True)  # in all threads
    with caplog.at_level(logging.WARNING):
        yield lambda: [
            r.getMessage().split("Compiling ")[1].split()[0]
            for r in caplog.records
            if "Compiling " in r.getMessage()
        ]
    jax.config.update("jax_log_compiles", before)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["arctan", "sigmoid", "hard_tanh", lambda x: jnp.tanh(0.9 * x)])
def test_what_a_diagram_has_compiled_serves_every_activation(activation, programs):
    for first in ("tanh", "silu"):  # all cases together: silu has points that are not regular
        mf.phase_diagram(first, **GRID)
    before = len(programs())
    mf.phase_diagram(activation, **GRID)
    large = [name for name in programs()[before:] if "pointwise" in name]
    assert large == []


def test_a_point_at_other_values_or_of_another_name_compiles_nothing_large(programs):
    jax.clear_caches()
    mf.fixed_point("tanh", mf.NormalPrior(1.5, 0.1))
    before = len(programs())
    assert any("pointwise" in name for name in programs())
    mf.fixed_point("tanh", mf.NormalPrior(1.7, 0.2, 0.3), q0=2.0, c0=0.4)
    assert programs()[before:] == []
    mf.fixed_point("sigmoid", mf.NormalPrior(20.0, 0.2))
    mf.fixed_point("tanh", mf.NormalPrior([1.7, 1.8], 0.2))
    assert [name for name in programs()[before:] if "pointwise" in name] == []


def test_an_array_of_other_values_compiles_nothing(programs):
    weight_vars = np.linspace(0.5, 1.5, 5, dtype=np.float32)
    mf.fixed_point("sin", mf.NormalPrior(weight_vars, 0.1))
    before = len(programs())
    mf.fixed_point("sin", mf.NormalPrior(weight_vars + 0.1, 0.2), q0=0.5)
    assert [name for name in programs()[before:] if "pointwise" in name] == []


def test_in_haste_or_not_the_answer_is_the_same(x64):
    """Few points are compiled otherwise than many, and than what is part of another program."""
    prior = mf.NormalPrior(jnp.linspace(0.9, 3.0, 7), 0.1)
    alone = mf.fixed_point("tanh", prior)
    inside = jax.jit(lambda p: mf.fixed_point("tanh", p))(prior)
    for name in ("q", "one_minus_c", "chi_q", "chi_c", "chi_1"):
        np.testing.assert_allclose(getattr(alone, name), getattr(inside, name), rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(alone.status, inside.status)


def test_compiled_in_haste_goes_through_every_transformation():
    double = compiled(0)(lambda x: 2 * x)
    assert double(2.0) == 4 and jax.jit(double)(2.0) == 4 and jax.grad(double)(2.0) == 2
    np.testing.assert_array_equal(jax.vmap(double)(jnp.arange(3.0)), [0, 2, 4])
    assert not is_tracing(1.0)
    jax.jit(lambda x: np.testing.assert_(is_tracing(1.0)))(1.0)


# --- the command line's cache -------------------------------------------------------------


@pytest.fixture
def nothing_set(monkeypatch, tmp_path):
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("JAX_")] + [kept.SWITCH]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_the_command_line_keeps_what_it_compiled_in_the_users_cache_folder(nothing_set):
    kept.keep_what_is_compiled()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(nothing_set / "meanfield" / "compiled")
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) == 256 << 20


def test_but_not_where_it_should_not_or_cannot(nothing_set, monkeypatch, tmp_path):
    monkeypatch.setenv(kept.SWITCH, "off")
    kept.keep_what_is_compiled()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv(kept.SWITCH, str(blocked))
    kept.keep_what_is_compiled()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    monkeypatch.delenv(kept.SWITCH)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    kept.keep_what_is_compiled()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


@pytest.mark.slow
def test_two_commands_at_once_may_write_it(nothing_set):
    command = [sys.executable, "-m", "meanfield", "fixed-point", "-a", "erf", "--weight-var", "2"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    (first, _), (second, _) = (process.communicate() for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert first == second != ""
    assert list((nothing_set / "meanfield" / "compiled").iterdir())
