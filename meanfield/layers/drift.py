"""What layers add to signals of unbounded variance that they otherwise leave as they are."""

import functools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from meanfield.layers.base import Layer
from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class Increment(Layer):
    """The sum of what independent branches add, each a layer that bounds its signals, times a factor.

    Q(q) and the gain times q do not depend on q.
    """

    branches: tuple[Layer, ...]
    factors: tuple[Any, ...]

    @classmethod
    def of(cls, drifts) -> "tuple[Increment, Any] | None":
        """Of layers one after the other, from ``drift`` of each."""
        if None in drifts:
            return None
        parts, known = zip(*drifts, strict=True)
        branches = tuple(branch for part in parts for branch in part.branches)
        factors = tuple(factor for part in parts for factor in part.factors)
        return cls(branches, factors), functools.reduce(jnp.logical_and, known)

    @property
    def keeps_one(self):
        return all(branch.keeps_one for branch in self.branches)

    def _sum(self, of):
        return sum(factor * of(branch) for factor, branch in zip(self.factors, self.branches, strict=True))

    def variance_map(self, q):
        return self._sum(lambda branch: branch.variance_map(q))

    def covariance_map(self, q1, q2, c):
        return self._sum(lambda branch: branch.covariance_map(q1, q2, c))

    def pair_gain(self, q, theta):
        return self._sum(lambda branch: branch.pair_gain(q, theta))

    def gap(self, q):
        return self._sum(lambda branch: branch.gap(q))

    def tangent(self, q):
        return self._sum(lambda branch: branch.tangent(q))

    def slope_at_one(self, q):
        return self._sum(lambda branch: branch.slope_at_one(q))

    def slope(self, q, theta):
        return self._sum(lambda branch: branch.slope(q, theta))

    def moments(self):
        return [pair for branch in self.branches for pair in branch.moments()]

    @property
    def has_section(self):
        return len(self.branches) == 1 and self.branches[0].has_section

    def section(self, q, gain):
        (branch,), (factor,) = self.branches, self.factors
        return branch.section(q, gain / jnp.where(factor == 0, 1.0, factor)).scaled(0.0, factor)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Either(Layer):
    """One of two layers, where both are solved for want of knowing which before a trace."""

    chosen: Any
    first: Layer
    second: Layer

    @classmethod
    def of(cls, first, second) -> "tuple[Either, Any]":
        """(layer, known) of two such pairs, the first where it is known."""
        return cls(first[1], first[0], second[0]), first[1] | second[1]

    @property
    def keeps_one(self):
        return self.first.keeps_one and self.second.keeps_one

    def _of(self, value):
        return jnp.where(self.chosen, value(self.first), value(self.second))

    def variance_map(self, q):
        return self._of(lambda layer: layer.variance_map(q))

    def covariance_map(self, q1, q2, c):
        return self._of(lambda layer: layer.covariance_map(q1, q2, c))

    def pair_gain(self, q, theta):
        return self._of(lambda layer: layer.pair_gain(q, theta))

    def gap(self, q):
        return self._of(lambda layer: layer.gap(q))

    def tangent(self, q):
        return self._of(lambda layer: layer.tangent(q))

    def slope_at_one(self, q):
        return self._of(lambda layer: layer.slope_at_one(q))

    def slope(self, q, theta):
        return self._of(lambda layer: layer.slope(q, theta))
