"""Fixed points of many asymmetric priors at once."""

import jax
import numpy as np

from meanfield.asymmetric.density.fixed_point import deterministic_points, settled_fixed_point
from meanfield.asymmetric.prior import AsymmetricPrior
from meanfield.fixed_points.strategies import FIELDS, PointSolver, on_host, store
from meanfield.priors import PARAMETERS


class AsymmetricSolver(PointSolver):
    """From tables of stationary laws; where the start matters, layer by layer."""

    most = 1 << 12

    def __init__(self, activation, law, q0: float, c0: float):
        self._activation, self._law, self._start = activation, law, (q0, c0)

    def _prior(self, columns) -> AsymmetricPrior:
        return AsymmetricPrior(**dict(zip(PARAMETERS, columns, strict=True)), special_weight=self._law)

    def solve(self, columns, device=None):
        solved, several = jax.device_get(
            deterministic_points(self._activation, self._prior(columns), *self._start)
        )
        values = on_host({name: getattr(solved, name) for name in FIELDS})
        (unsure,) = np.nonzero(several)
        if unsure.size:
            q0, c0 = self._start
            some = settled_fixed_point(
                self._activation, self._prior([c[unsure] for c in columns]), q0=q0, c0=c0
            )
            store(values, unsure, on_host({name: getattr(some, name) for name in FIELDS}), len(unsure))
        return values
