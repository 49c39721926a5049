"""Moments of an activation that unbounded signals see as two levels."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from meanfield.dual.base import Dual
from meanfield.dual.slopes import angle_of
from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class Levels(Dual):
    """phi = one level for x < 0 and another for x > 0: the sign of x, scaled and shifted.

    centre: the mean of the levels. square: half their difference, squared.
    """

    centre: Any
    square: Any

    def mean(self, q):
        return self.centre + 0 * q

    def variance(self, q):
        return self.square + 0 * q

    def covariance(self, q1, q2, c):
        return self.square * 2 / np.pi * jnp.arcsin(c)

    def separation(self, q, one_minus_c):
        return self.square * 2 / np.pi * angle_of(one_minus_c)

    def slope_moment(self, q):
        return jnp.full_like(q, jnp.inf)

    def chord(self, q, theta):
        return self.square * 2 / np.pi * theta / (2 * q * jnp.sin(theta / 2) ** 2)
