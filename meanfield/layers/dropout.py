"""Dropout between an activation and its weights (THEORY of layers, section 3)."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp

from meanfield.layers.parts import Part
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False)
class Dropout(Part):
    r"""Dropout of activations: each is kept with probability ``keep`` and then divided by it, else 0.

    keep: 0 < keep <= 1, a number or an array; derivatives may be taken with respect to it. shared: whether
        both signals of a pair meet the same masks. By default each has its own, as two examples of a
        batch have.

    A part: in a ``Chain`` it stands between an activation and the weights behind it. With shared masks the
    layer is a dense one of weight_var / keep and anticorrelation keep * anticorrelation. With masks of
    their own equal signals part: C(1) < 1, one correlation attracts all others, and the phase of a
    ``FixedPoint`` is that of the gradient, from chi_perp; chi_1 is still C'(1).

    Raises TypeError or ValueError for what is out of range.

    Source: Srivastava et al. 2014; Schoenholz et al. 2017, arXiv:1611.01232.
    """

    keep: Any
    shared: bool = field(default=False, metadata={"static": True})

    def __post_init__(self):
        object.__setattr__(self, "keep", validation.real("keep", self.keep, low=0.0, high=1.0, low_open=True))
        if not isinstance(self.shared, bool):
            raise TypeError(f"shared must be True or False, got {self.shared!r}")

    @property
    def keeps_one(self):
        return self.shared

    @property
    def no_positions(self):
        return _ITS_OWN if self.shared else ""

    def on_activations(self, sent):
        """What the weights multiply behind the masks: E x^2 becomes E x^2 / keep."""
        noise = (1 / self.keep - 1) * (sent.variance + sent.mean**2)
        behind = replace(sent, variance=sent.variance + noise, tangent=sent.tangent / self.keep)
        if self.shared:
            return replace(behind, share=sent.share / self.keep, gap=sent.gap / self.keep)
        return replace(behind, gap=sent.gap + noise)

    def on_pair(self, first, second, covariance):
        """The centred covariance of two signals behind the masks."""
        if not self.shared:
            return covariance
        return covariance + (1 / self.keep - 1) * (covariance + first.mean * second.mean)

    def affine(self):
        return 1 / self.keep, 0.0

    def asymptote(self, at_zero):
        return self, jnp.asarray(True), jnp.asarray(True)

    def is_valid(self):
        return jnp.isfinite(self.keep) & (self.keep > 0) & (self.keep <= 1)


_ITS_OWN = (
    "Dropout(shared=True) does not say whether positions of one image share their masks: take shared=False, "
    "where every position of every signal has its own"
)
