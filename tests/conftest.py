"""Fixtures that every test may ask for."""

import gc
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
# Compiling is most of what the tests do; the code they compile runs for milliseconds. With the least
# optimisation XLA compiles in a third of the time, and the workers share the cores, so that splitting one
# compilation over threads gains nothing. What one worker (or a program that a test starts) has compiled
# serves the others. What runs apart from pytest (benchmarks) has XLA's own settings.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    # From jaxlib 0.11 on a flag that ends the process.
    + " --xla_cpu_use_fusion_emitters=false" * (tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)),
)
# Threads of LAPACK wait for one another by spinning, on cores that others need hundreds of times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "meanfield-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest

from meanfield.cli import main
from meanfield.support.memory import give_back

# Products of matrices as they are written, on accelerators too: what is compared here is the arithmetic.
jax.config.update("jax_default_matmul_precision", "float32")


@pytest.fixture
def x64():
    """Double precision for one test; JAX's global configuration stays as it was."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def call(capsys):
    """(exit code, stdout, stderr) of ``meanfield`` with these arguments."""

    def call(*arguments):
        code = main(arguments)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
    """Compiled programs take memory, and memory mappings, of which Linux gives a process 65,530."""
    yield
    if _lines_of("maps") > 8_000 or _resident() > 1 << 30:
        _forget()


@pytest.fixture(autouse=True)
def forget_before_there_is_too_much():
    """The tests of one file share what is compiled, but three workers have to do with 6 GB."""
    yield
    if _resident() > 1.7 * (1 << 30):
        _forget()


def _forget() -> None:
    jax.clear_caches()
    gc.collect()
    give_back()


def _lines_of(name: str) -> int:
    path = Path("/proc/self") / name
    return path.read_text().count("\n") if path.exists() else 0


def _resident() -> int:
    """Bytes of memory in use, where the system tells."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0
