"""RMS, layer and batch normalisation (THEORY of layers, sections 2 and 8)."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax.numpy as jnp

from meanfield.layers.base import Layer
from meanfield.layers.parts import Part
from meanfield.numerics.pytrees import register_dataclass, replaced
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

    def on_activations(self, sent):
        return sent.times(self.by)

    def on_pair(self, first, second, covariance):
        return self.by * covariance


@dataclass(frozen=True, eq=False, init=False, repr=False)
class _Norm(_Homogeneous):
    """A stream divided by its size.

    damping: eps; None where that is the number 0 for good, so that no variance matters behind the norm.
    """

    gain: Any
    damping: Any

    bounds = True

    def __init__(self, gain=1.0, eps=0.0):
        gain = validation.real("gain", gain, low=0.0, low_open=True)
        eps = validation.real("eps", eps, low=0.0)
        validation.same_shape(gain=gain, eps=eps)
        object.__setattr__(self, "gain", gain)
        object.__setattr__(self, "damping", None if isinstance(eps, Real) and eps == 0 else eps)

    def __repr__(self):
        return f"{type(self).__name__}(gain={self.gain!r}, eps={self.eps!r})"

    @property
    def eps(self):
        return 0.0 if self.damping is None else self.damping

    def factor(self, q):
        return self.gain**2 / (q + self.eps)

    def variance_map(self, q):
        # Without eps exactly gain^2, at q = 0 (where the limit from above is meant) too.
        silent = (q == 0) & (self.eps == 0)
        return self.gain**2 * jnp.where(silent, 1.0, q / jnp.where(silent, 1.0, q + self.eps))

    def affine(self):
        return (0.0, self.gain**2) if self.damping is None else None

    def asymptote(self, at_zero):
        some = jnp.asarray(self.eps) > 0
        at_small = jnp.where(some, self.gain**2 / jnp.where(some, self.eps, 1.0), jnp.inf)
        # Nothing, but with a square root that has a derivative.
        at_large = jnp.finfo(self.dtype()).tiny
        return Scaling(jnp.where(at_zero, at_small, at_large)), jnp.asarray(True), jnp.asarray(True)

    def saturated(self):
        return replaced(self, damping=None), jnp.asarray(True)

    def is_valid(self):
        return jnp.isfinite(self.gain) & (self.gain > 0) & jnp.isfinite(self.eps) & (self.eps >= 0)


@register_dataclass
@dataclass(frozen=True, eq=False, init=False, repr=False)
class RMSNorm(_Norm):
    r"""Root mean square normalisation, x -> gain x / sqrt(mean x^2 + eps).

    gain: greater than 0, of every neuron. eps: at least 0, in units of a squared signal. Numbers or
        arrays; derivatives may be taken with respect to both. An eps that is the number 0 belongs to the
        structure of the pytree, not to its leaves: all signals behind the norm are then of one variance.

    In a ``Chain`` it stands on the stream of pre-activations, or between an activation and the
    weights behind it. Raises TypeError or ValueError for what is out of range.

    Source: Zhang & Sennrich, arXiv:1910.07467.
    """

    # --- between an activation and its weights --------------------------------------------

    def _factor(self, sent):
        """What squares of activations are multiplied by."""
        return self.gain**2 / (sent.variance + sent.mean**2 + self.eps)

    def on_activations(self, sent):
        """What the weights multiply behind the norm."""
        return sent.times(self._factor(sent))

    def on_pair(self, first, second, covariance):
        """The centred covariance of two signals' normalised activations."""
        return jnp.sqrt(self._factor(first) * self._factor(second)) * covariance


@register_dataclass
@dataclass(frozen=True, eq=False, init=False, repr=False)
class LayerNorm(RMSNorm):
    r"""Layer normalisation, x -> gain (x - mean x) / sqrt(var x + eps); arguments and errors as ``RMSNorm``.

    On the stream, whose mean is 0, it is RMS normalisation. Centring activations is what weights of
    anticorrelation 1 do: behind it the anticorrelation of the weights changes nothing.

    Source: Ba, Kiros & Hinton, arXiv:1607.06450.
    """

    def _factor(self, sent):
        return self.gain**2 / (sent.variance + self.eps)

    def on_activations(self, sent):
        return super().on_activations(sent).centred()


@register_dataclass
@dataclass(frozen=True, eq=False, init=False, repr=False)
class BatchNorm(_Norm):
    r"""Batch normalisation before an activation, at a large batch; arguments and errors as ``RMSNorm``.

    Every neuron's pre-activation less its mean over the batch, over its standard deviation there. In a
    ``Chain`` an activation and its weights follow: ``Chain(BatchNorm(), "relu", prior)``.

    What all signals of the batch share is taken away by the next norm, biases and the mean of the activations
    with it. The statistics are those of what is left: q is the variance about the mean of the batch, c the
    correlation there, which is 0 between two signals picked at random (-1/(B - 1) in a batch of B). So
    neither the bias variance nor the anticorrelation matters, chi_1 = gain^2 E phi'^2 / Var phi at the
    variance gain^2, whatever the weights: at least 1, and 1 only of affine activations. Gradients explode
    unless a skip connection goes past. The pre-activations with what they share have the variance
    ``q_map(activation, prior, q=gain**2)``, and the correlation ``c_map(..., c=0, q=gain**2)``.

    Source: Ioffe & Szegedy, arXiv:1502.03167; Yang et al. 2019, arXiv:1902.08129.
    """

    about_batch = True
    no_positions = (
        "BatchNorm counts signals from the mean of their batch, which covariances between the positions of "
        "few images do not have: use LayerNorm or RMSNorm"
    )


@register_dataclass
@dataclass(frozen=True, eq=False)
class WithinBatch(Part):
    """What a batch shares, taken away: the mean of the activations. Behind all other parts."""

    about_batch = True
    no_positions = BatchNorm.no_positions

    def on_activations(self, sent):
        return sent.centred()

    def on_pair(self, first, second, covariance):
        return covariance

    def affine(self):
        return 1.0, 0.0

    def asymptote(self, at_zero):
        return self, jnp.asarray(True), jnp.asarray(True)
