"""Layers at numbers, each on the host: where their variances end for certain."""

import functools
from typing import Any

import jax
import numpy as np

from meanfield.dual import shipped_lines
from meanfield.dual.adaptive import AdaptiveDual, moments_of
from meanfield.fixed_points.certified import Reached, Rows, variance_reached_surely
from meanfield.layers import Layer
from meanfield.numerics.broadcasting import chosen
from meanfield.numerics.memo import Memo

MOST_POINTS = 16  # that are solved one by one
_ROWS: Memo[Rows] = Memo(64)


class OneByOne:
    """Layers like one that can be surveyed."""

    def __init__(self, example: Layer):
        self._structure = jax.tree.structure(example)
        self._activations = [activation for activation, _ in example.moments()]

    @functools.cached_property
    def _duals(self) -> list:
        """Made when first asked for: all that do not come with the package take a look at phi."""
        return [shipped_lines(a) or AdaptiveDual(moments_of(a)) for a in self._activations]

    @staticmethod
    def leaves(layers: Any, index: Any) -> tuple[float, ...]:
        """The parameters of one of many layers."""
        return tuple(map(float, jax.tree.leaves(chosen(index, layers))))

    def layer(self, leaves: tuple[float, ...]) -> Layer:
        return jax.tree.unflatten(self._structure, leaves).with_moments(iter(self._duals))

    def reached(self, leaves: tuple[float, ...], q0: float) -> Reached:
        """Where signals of variance q0 end; status None where this is not the way to find out."""
        layer = self.layer(leaves)
        if not (layer.is_sum_of_moments and layer.is_valid()):
            return Reached(np.nan, None)
        rows = _ROWS(self._activations[0].key, lambda: Rows.at_nodes(layer))
        return variance_reached_surely(layer, q0, rows)
