"""What a network of given depth does to signals and gradients that start as given."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from meanfield.maps import propagate
from meanfield.numerics.broadcasting import pointwise


@dataclass(frozen=True)
class Outcome:
    """Numbers after ``depth`` layers of one prior.

    q0, q: variance at the start and at the end. one_minus_c0, one_minus_c: 1 - c of two signals there.
    gradient: squared norm of a gradient at the first layer over that at the last, the product of
    sigma_w^2 E phi'^2 over the layers.
    """

    q0: float
    q: float
    one_minus_c0: float
    one_minus_c: float
    gradient: float

    @property
    def kept(self) -> float:
        """Share of the distance 1 - c of two signals that is left."""
        return self.one_minus_c / self.one_minus_c0

    @property
    def change(self) -> float:
        """By how many factors e gradient, variance and distance change in all; infinite where one is lost."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.abs(np.log([self.gradient, self.q / self.q0, self.kept]))
        return float(np.sum(np.where(np.isnan(logs), np.inf, logs)))


def outcomes(layer, q0, c0: float, depth: int) -> list[Outcome]:
    """One ``Outcome`` for each prior of a layer whose prior has arrays of shape (n,), or no shape."""
    path = propagate(layer, q0=q0, c0=c0, depth=depth)
    slopes = pointwise(_tangent, layer, path.q[:-1])
    gradient = jnp.exp(jnp.sum(jnp.log(slopes), axis=0))
    columns: list[Any] = [path.q[0], path.q[-1], path.one_minus_c[0], path.one_minus_c[-1], gradient]
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for x in columns))
    return [Outcome(*(float(x) for x in row)) for row in zip(*arrays, strict=True)]


def _tangent(layer, q):
    return layer.tangent(q)
