"""Layers at numbers, each on the host: where their variances end for certain."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from meanfield.dual.adaptive import AdaptiveDual, moments_of
from meanfield.fixed_points.certified import Reached, Rows, variance_reached_surely
from meanfield.layers import Layer
from meanfield.numerics.broadcasting import chosen
from meanfield.numerics.memo import Memo

MOST_POINTS = 16  # that are solved one by one
_ROWS: Memo[Rows] = Memo(64)


class OneByOne:
    """Layers like one that can be surveyed."""

    def __init__(self, example: Layer, make_duals: Callable[[], list] | None = None):
        """make_duals: makes the moments, on the host; left out, those that look where phi is rough."""
        self._structure = jax.tree.structure(example)
        self._activations = [activation for activation, _ in example.moments()]
        self._make_duals = make_duals or self._adaptive

    def _adaptive(self) -> list:
        return [AdaptiveDual(moments_of(activation)) for activation in self._activations]

    @functools.cached_property
    def _duals(self) -> list:
        """Made when first asked for: that may take a look at phi."""
        return self._make_duals()

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
        key = self._activations[0].key, type(self._duals[0])
        rows = _ROWS(key, lambda: Rows.at_nodes(layer))
        return variance_reached_surely(layer, q0, rows)
