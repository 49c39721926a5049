"""Sweeps: fixed points over grids of any size, written to disk by any number of processes."""

from meanfield.sweeps.run import Sweep as Sweep
from meanfield.sweeps.run import sweep as sweep
