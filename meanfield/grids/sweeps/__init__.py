"""Sweeps: fixed points over grids of any size, written to disk by any number of processes."""

from meanfield.grids.sweeps.run import Sweep as Sweep
from meanfield.grids.sweeps.run import sweep as sweep
