"""Importing the package is cheap, and every public name resolves."""

import subprocess
import sys

import pytest

import meanfield as mf

HEAVY = ("flax", "optax", "matplotlib", "typer", "rich", "scipy.integrate", "xarray")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_neither_models_nor_pictures():
    code = (
        f"import jax, sys; before = set(sys.modules); import meanfield; "
        f"print([m for m in {HEAVY} if m in sys.modules and m not in before])"
    )
    assert run(code).strip() == "[]"


def test_a_fixed_point_needs_neither_models_nor_pictures():
    code = (
        "import jax, sys; before = set(sys.modules); import meanfield as mf; "
        "mf.fixed_point('relu', mf.NormalPrior(1.0, 0.1)); "
        "print([m for m in ('flax', 'optax', 'matplotlib') if m in sys.modules and m not in before])"
    )
    assert run(code).strip() == "[]"


def test_importing_every_name_starts_no_backend_and_changes_no_configuration():
    code = (
        "import jax; before = {k: v for k, v in jax.config.values.items()}; import meanfield as mf; "
        "[getattr(mf, n) for n in mf.__all__]; from jax._src import xla_bridge; "
        "print(xla_bridge.backends_are_initialized(), before == jax.config.values)"
    )
    assert run(code).split() == ["False", "True"]


@pytest.mark.parametrize("name", mf.__all__)
def test_every_public_name_resolves(name):
    assert getattr(mf, name) is not None
    assert name in dir(mf)


@pytest.mark.parametrize("name", [n for n in mf.__all__ if n != "activations"])
def test_every_public_name_says_what_it_is(name):
    assert len(getattr(mf, name).__doc__.split()) >= 5
