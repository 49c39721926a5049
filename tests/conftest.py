"""Fixtures that every test may ask for."""

import os

os.environ["MPLBACKEND"] = "Agg"

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test; JAX's global configuration stays as it was."""
    with jax.enable_x64(True):
        yield
