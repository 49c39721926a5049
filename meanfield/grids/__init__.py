"""Fixed points over grids: phase diagrams and sweeps."""
