"""Convolutions that no uniform point describes: zeros around the image, averages over windows."""

from dataclasses import dataclass
from typing import Any

from meanfield.layers.pooling import NO_UNIFORM_POINT, WithoutUniformPoint
from meanfield.numerics.pytrees import register_dataclass, replaced


@register_dataclass
@dataclass(frozen=True, eq=False)
class PositionalConv(WithoutUniformPoint):
    """A ``Conv`` with zeros around its image, or behind averages: its variance depends on the position.

    ``Conv`` makes it. conv: the convolution. pool: an ``AveragePool`` that activations pass, or None.

    It has ``position_map`` alone: see ``propagate_positions``.
    """

    conv: Any
    pool: Any

    @property
    def no_layer(self):
        why = "zeros around the image tell positions apart" if self.pool is None else "averages mix positions"
        return NO_UNIFORM_POINT.format(why)

    def position_map(self, covariance):
        return self.conv.behind_pool(covariance, self.pool)

    def position_slopes(self, covariance):
        return self.conv.slopes_behind_pool(covariance, self.pool)

    # --- parameters -----------------------------------------------------------------------

    def is_valid(self):
        return self.conv.is_valid()

    def guarded(self, valid):
        return replaced(self, conv=self.conv.guarded(valid))

    def dtype(self):
        return self.conv.dtype()

    @property
    def traced(self):
        return self.conv.traced

    def moments(self):
        return self.conv.moments()

    def with_moments(self, duals):
        return replaced(self, conv=self.conv.with_moments(duals))

    def exact(self):
        return replaced(self, conv=self.conv.exact())

    @property
    def points_at_once(self):
        return self.conv.points_at_once
