"""Residual layers: a branch added to the signal (THEORY of layers, section 1)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from meanfield.layers.base import Layer
from meanfield.layers.contract import keeps_contract
from meanfield.layers.drift import Increment
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Residual(Layer):
    r"""x' = skip x + scale f(x), where f is a layer that ends in weights.

    branch: the layer f (``Dense``, ``Chain``, ...). skip, scale: real numbers or arrays; derivatives may
        be taken with respect to both.

    For abs(skip) < 1 and a dense branch the fixed points are those of the branch with both variances
    times scale^2/(1 - skip^2), and every chi is skip^2 + (1 - skip^2) times its own. At skip = 1 the
    variance has no finite fixed point; where the branch bounds its signals it drifts (``drift``).

    Raises TypeError or ValueError for what is out of range.

    Source: Yang & Schoenholz 2017, arXiv:1712.08969.
    """

    branch: Layer
    skip: Any
    scale: Any

    def __init__(self, branch, *, skip=1.0, scale=1.0):
        if not isinstance(branch, Layer):
            raise TypeError(f"branch must be a layer, as meanfield.Chain makes one, got {branch!r}")
        keeps_contract(branch)
        if branch.stands_alone:
            raise ValueError(
                f"{type(branch).__name__} stands alone: its signals are not Gaussian, and it has a skip "
                "connection of its own"
            )
        if not branch.mixes:
            raise ValueError(
                "branch must end in weights, so that what it adds is independent of the signal: "
                "put a prior at its end, as in Chain(RMSNorm(), 'relu', prior)"
            )
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field("branch", branch)
        set_field("skip", validation.real("skip", skip))
        set_field("scale", validation.real("scale", scale))
        validation.same_shape(skip=self.skip, scale=self.scale)

    mixes = False

    @property
    def keeps_one(self):
        return self.branch.keeps_one

    @property
    def about_batch(self):
        return self.branch.about_batch

    def _sum(self, straight, through):
        return self.skip**2 * straight + self.scale**2 * through

    def variance_map(self, q):
        return self._sum(q, self.branch.variance_map(q))

    def covariance_map(self, q1, q2, c):
        return self._sum(c * jnp.sqrt(q1 * q2), self.branch.covariance_map(q1, q2, c))

    def pair_gain(self, q, theta):
        return self._sum(1.0, self.branch.pair_gain(q, theta))

    def pair_gain_at(self, q):
        gain = self.branch.pair_gain_at(q)
        return lambda theta: self._sum(1.0, gain(theta))

    def separation_map(self, q, one_minus_c):
        return self._sum(q * one_minus_c, self.branch.separation_map(q, one_minus_c))

    def tangent(self, q):
        return self._sum(1.0, self.branch.tangent(q))

    def gap(self, q):
        return self._sum(0.0, self.branch.gap(q))

    def slope_at_one(self, q):
        return self._sum(1.0, self.branch.slope_at_one(q))

    def slope(self, q, theta):
        return self._sum(1.0, self.branch.slope(q, theta))

    def mode_rates(self, q, theta, image_size):
        return tuple(self._sum(1.0, x) for x in self.branch.mode_rates(q, theta, image_size))

    @property
    def no_layer(self):
        return self.branch.no_layer

    def position_map(self, covariance):
        covariance = jnp.asarray(covariance)
        return self._sum(covariance, self._same_image(covariance, self.branch.position_map(covariance)))

    def position_slopes(self, covariance):
        through = self.branch.position_slopes(covariance)
        return lambda tangents: self._sum(tangents, self._same_image(tangents, through(tangents)))

    def _same_image(self, before, after):
        if before.shape != after.shape:
            image, other = (x.shape[: x.ndim // 2] for x in (before, after))
            raise ValueError(
                f"the branch of a Residual must keep the image, which it takes from {image} to {other}: put "
                "strides and averages between residual layers"
            )
        return after

    def variance_from_silence(self):
        return self._sum(0.0, self.branch.variance_from_silence())

    def opposite_gap(self, q):
        straight, through = self.skip**2 * q, self.scale**2 * self.branch.variance_map(q)
        return (2 * straight + through * self.branch.opposite_gap(q)) / (straight + through)

    def affine(self):
        of_branch = self.branch.affine()
        return of_branch and (self._sum(1.0, of_branch[0]), self.scale**2 * of_branch[1])

    def is_identity(self):
        return self.branch.is_identity() | (self.scale == 0)

    def asymptote(self, at_zero):
        of_branch = self.branch.asymptote(at_zero)
        if of_branch is None:
            return None
        branch, known, smooth = of_branch
        return replaced(self, branch=branch), known, smooth

    def drift(self):
        ends = self.branch.saturated()
        return ends and (Increment((ends[0],), (self.scale**2,)), ends[1] & (jnp.abs(self.skip) == 1))

    def growth_rows(self, q):
        return self.branch.growth_rows(q)

    def growth_from(self, row):
        value, slope = self.branch.growth_from(row)
        return self._sum(1.0, value), self.scale**2 * slope

    @property
    def is_sum_of_moments(self):
        return self.branch.is_sum_of_moments

    def growth_size(self, rows):
        of_moments, others = self.branch.growth_size(rows)
        return self.scale**2 * of_moments, self._sum(1.0, others)

    def growth_uncertainty(self, rows):
        return self.scale**2 * self.branch.growth_uncertainty(rows)

    def least_ratio(self, rows):
        return self._sum(1.0, self.branch.least_ratio(rows))

    def is_valid(self):
        return self.branch.is_valid() & jnp.isfinite(self.skip) & jnp.isfinite(self.scale)

    def guarded(self, valid):
        skip, scale = (jnp.where(valid, x, 0.5) for x in (self.skip, self.scale))
        return replaced(self, branch=self.branch.guarded(valid), skip=skip, scale=scale)

    def dtype(self):
        return jnp.result_type(self.branch.dtype(), *map(jnp.result_type, (self.skip, self.scale)))

    def error(self, q):
        return self.branch.error(q)

    def growth_error(self, q):
        return self.branch.growth_error(q)

    def moment_errors(self, q):
        return self.branch.moment_errors(q)

    def slope_error(self, q):
        return self.branch.slope_error(q)

    @property
    def traced(self):
        return self.branch.traced

    def moments(self):
        return self.branch.moments()

    def with_moments(self, duals):
        return replaced(self, branch=self.branch.with_moments(duals))

    def variances_met(self, q):
        return self.branch.variances_met(q)

    @property
    def has_section(self):
        return self.branch.has_section

    def near(self, q):
        return replaced(self, branch=self.branch.near(q))

    def section(self, q, gain):
        straight, through = self.skip**2, self.scale**2
        of_branch = (gain - straight) / jnp.where(through == 0, 1.0, through)
        return self.branch.section(q, of_branch).scaled(straight, through)

    def exact(self):
        return replaced(self, branch=self.branch.exact())

    @property
    def points_at_once(self):
        return self.branch.points_at_once
