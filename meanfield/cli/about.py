"""The command ``info``."""

from meanfield import __version__
from meanfield.cli.app import app
from meanfield.cli.tables import new_table, print_table

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy")


@app.command("info")
def _info() -> None:
    """Versions, backend, devices and precision.

    \b
    Example:
      meanfield info
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import jax
    import jax.numpy as jnp

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    with jax.enable_x64(True):
        double = jnp.zeros((), jnp.float64).dtype == jnp.float64
    table = new_table()
    table.add_row("meanfield", __version__)
    for package in _VERSIONED:
        table.add_row(package, installed(package))
    table.add_row("Python", platform.python_version())
    table.add_row("backend", jax.default_backend())
    table.add_row("devices", ", ".join(str(device) for device in jax.devices()))
    table.add_row("precision", "float64" if double else "float32 (this backend has no float64)")
    print_table(table)
