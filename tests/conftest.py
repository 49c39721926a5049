"""Fixtures that every test may ask for."""

import os
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
# Compiling is most of what the tests do; the code they compile runs for milliseconds.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
# What one worker, or the last run, has compiled is not compiled again.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test; JAX's global configuration stays as it was."""
    with jax.enable_x64(True):
        yield
