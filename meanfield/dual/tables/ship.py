"""Make the tables that come with the package: ``python -m meanfield.dual.tables.ship``."""

import jax

from meanfield.activations.names import NAMED
from meanfield.dual.choice import dual_of, is_tabulable
from meanfield.dual.tables.build import SHIPPED, DualTables, shipped_file


def main() -> None:
    """Write a file for every named activation that is solved by tables."""
    for activation in NAMED.values():
        source, path = dual_of(activation), shipped_file(activation)
        if path is None or not is_tabulable(source):
            continue
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        with jax.enable_x64(True):
            tables = DualTables(source, activation)
            tables.build(SHIPPED)
        tables.write(path)
        size, error = path.stat().st_size / 1024, tables.errors[SHIPPED].max()
        print(f"{activation.name:12} {size:6.0f} kB, error {error:.0e}")


if __name__ == "__main__":
    main()
