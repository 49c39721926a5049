"""Means over windows of an image."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp

from meanfield.layers.base import Layer
from meanfield.layers.windows import Windows, halves, sizes, spatial, strides_of
from meanfield.numerics.pytrees import register_dataclass

NO_UNIFORM_POINT = (
    "{}, so that one variance and one correlation do not describe its image: follow the covariances between "
    "positions with propagate_positions, or take a circular Conv without averages"
)


class WithoutUniformPoint(Layer):
    """A layer that tells positions apart: it has the map of covariances and refuses all others."""

    def variance_map(self, q):
        raise ValueError(self.no_layer)

    def pair_gain(self, q, theta):
        raise ValueError(self.no_layer)

    def covariance_map(self, q1, q2, c):
        raise ValueError(self.no_layer)


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class AveragePool(WithoutUniformPoint):
    r"""Means over windows of an image.

    window: positions along every axis; the size of the image for a mean over all of it. strides: from one
        window to the next, a number or one an axis; by default windows lie side by side. What no whole
        window covers is left out.

    As a layer it averages pre-activations; inside of a ``Conv`` (``pool=``) activations, before the weights.
    Positions far apart are less alike than near ones, so that its image has no variance that a layer could
    keep: it has ``position_map``, linear and exact, and is followed by ``propagate_positions``.

    Raises TypeError or ValueError naming the argument that is wrong.

    Source: Novak et al. 2019, arXiv:1810.05148.
    """

    window: tuple[int, ...] = field(metadata={"static": True})
    strides: tuple[int, ...] = field(metadata={"static": True})

    mixes = False
    no_layer = NO_UNIFORM_POINT.format("AveragePool mixes positions")

    def __init__(self, window: Sequence[int], strides=None):
        window = sizes("window", window)
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "strides", strides_of(strides, window, window))

    def position_map(self, covariance):
        covariance = jnp.asarray(covariance)
        half, _ = halves(covariance, len(self.window))
        axes = spatial(len(half), len(self.window))
        for group in (axes, tuple(a + len(half) for a in axes)):
            covariance = self._mean(covariance, group)
        return covariance

    def position_slopes(self, covariance):
        return self.position_map

    def averaged(self, x):
        """Means over the windows of what every place has one of."""
        return self._mean(x, spatial(x.ndim, len(self.window)))

    def _mean(self, x, axes):
        windows = Windows(self.window, self.strides, "VALID")
        image = windows.fitting("window", [x.shape[a] for a in axes])
        return windows.mean(x, [axes], image)
