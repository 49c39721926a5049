"""Fixtures that every test may ask for."""

import gc
import os

os.environ["MPLBACKEND"] = "Agg"
# Compiling is most of what the tests do; the code they compile runs for milliseconds. XLA's older
# emitters compile twice as fast, and the workers share the cores, so that splitting one compilation
# over threads gains nothing. What runs apart from pytest (benchmarks) has XLA's own settings.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import pytest

# Tracing makes many objects that live on; looking through them often takes a twentieth of the time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def x64():
    """Double precision for one test; JAX's global configuration stays as it was."""
    with jax.enable_x64(True):
        yield
