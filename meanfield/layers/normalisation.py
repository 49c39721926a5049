"""RMS and layer normalisation, of the stream or of activations (THEORY of layers, section 2)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from meanfield.layers.base import Layer
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import validation


class _Homogeneous(Layer):
    """A layer that multiplies a pair by one number, which depends on the variance alone."""

    mixes = False
    keeps_angle = True

    def factor(self, q):
        """Q(q)/q."""
        raise NotImplementedError

    def variance_map(self, q):
        return self.factor(q) * q

    def pair_gain(self, q, theta):
        return self.factor(q)

    def separation_map(self, q, one_minus_c):
        return self.variance_map(q) * one_minus_c

    def slope(self, q, theta):
        return self.factor(q)

    def covariance_map(self, q1, q2, c):
        return c * jnp.sqrt(self.variance_map(q1) * self.variance_map(q2))

    def opposite_gap(self, q):
        return 2 * jnp.ones_like(q)


@register_dataclass
@dataclass(frozen=True, eq=False)
class Scaling(_Homogeneous):
    """Signals times the square root of a number: what a norm is to very small or very large ones."""

    by: Any

    def factor(self, q):
        return self.by + 0 * q

    def affine(self):
        return self.by, 0.0

    def asymptote(self, at_zero):
        return self, jnp.asarray(True), jnp.asarray(True)

    def on_activations(self, mean, variance, share):
        root = jnp.sqrt(self.by)
        return root * mean, self.by * variance, self.by * share

    def on_pair(self, first, second, covariance):
        (mean1, variance1), (mean2, variance2) = first, second
        root = jnp.sqrt(self.by)
        return (
            (root * mean1, self.by * variance1),
            (root * mean2, self.by * variance2),
            self.by * covariance,
        )


@register_dataclass
@dataclass(frozen=True, eq=False)
class RMSNorm(_Homogeneous):
    r"""Root mean square normalisation, x -> gain x / sqrt(mean x^2 + eps).

    gain: greater than 0, of every neuron. eps: at least 0, in units of a squared signal. Numbers or
        arrays; derivatives may be taken with respect to both.

    In a ``Chain`` it stands on the stream of pre-activations, or between an activation and the
    weights behind it. Raises TypeError or ValueError for what is out of range.

    Source: Zhang & Sennrich, arXiv:1910.07467.
    """

    gain: Any = 1.0
    eps: Any = 0.0

    def __post_init__(self):
        object.__setattr__(self, "gain", validation.real("gain", self.gain, low=0.0, low_open=True))
        object.__setattr__(self, "eps", validation.real("eps", self.eps, low=0.0))
        validation.same_shape(gain=self.gain, eps=self.eps)

    def factor(self, q):
        return self.gain**2 / (q + self.eps)

    def variance_map(self, q):
        # Without eps exactly gain^2, at q = 0 (where the limit from above is meant) too.
        silent = (q == 0) & (self.eps == 0)
        return self.gain**2 * jnp.where(silent, 1.0, q / jnp.where(silent, 1.0, q + self.eps))

    def asymptote(self, at_zero):
        some = jnp.asarray(self.eps) > 0
        at_small = jnp.where(some, self.gain**2 / jnp.where(some, self.eps, 1.0), jnp.inf)
        # Nothing, but with a square root that has a derivative.
        at_large = jnp.finfo(self.dtype()).tiny
        return Scaling(jnp.where(at_zero, at_small, at_large)), jnp.asarray(True), jnp.asarray(True)

    def is_valid(self):
        return jnp.isfinite(self.gain) & (self.gain > 0) & jnp.isfinite(self.eps) & (self.eps >= 0)

    # --- between an activation and its weights --------------------------------------------

    def _of_activations(self, mean, variance):
        """(mean, variance, factor) of normalised activations."""
        factor = self.gain**2 / (variance + mean**2 + self.eps)
        return jnp.sqrt(factor) * mean, factor * variance, factor

    def on_activations(self, mean, variance, share):
        """Mean and variance of normalised activations, and by how much their squared differences grew."""
        mean, variance, factor = self._of_activations(mean, variance)
        return mean, variance, factor * share

    def on_pair(self, first, second, covariance):
        """(mean, variance) of two signals' normalised activations, and their centred covariance."""
        (*first, factor1), (*second, factor2) = (self._of_activations(*x) for x in (first, second))
        return tuple(first), tuple(second), jnp.sqrt(factor1 * factor2) * covariance


@register_dataclass
@dataclass(frozen=True, eq=False)
class LayerNorm(RMSNorm):
    r"""Layer normalisation, x -> gain (x - mean x) / sqrt(var x + eps); arguments and errors as ``RMSNorm``.

    On the stream, whose mean is 0, it is RMS normalisation. Centring activations is what weights of
    anticorrelation 1 do: behind it the anticorrelation of the weights changes nothing.

    Source: Ba, Kiros & Hinton, arXiv:1607.06450.
    """

    def _of_activations(self, mean, variance):
        factor = self.gain**2 / (variance + self.eps)
        return jnp.zeros_like(mean), factor * variance, factor
