"""The dense layer: an activation, weights behind it, and what stands between the two."""

import functools
import operator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.dual import Dual, Homogeneous1, Levels, dual_of
from meanfield.layers.base import Layer
from meanfield.layers.dense_limits import dense_limit, ends_of, is_quadratic
from meanfield.layers.drift import Either
from meanfield.layers.normalisation import WithinBatch
from meanfield.layers.one_activation import OneActivation
from meanfield.layers.parts import Sent, is_nothing
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.priors import gaussian_prior
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Dense(OneActivation):
    """Fully connected layer of infinite width: ``h' = W phi(h) + b`` with W, b from ``prior``.

    activation: an ``Activation``, a name or a callable. prior: a ``NormalPrior`` or
        ``OrthogonalPrior``.
    dual (set by itself): the Gaussian moments of the activation. between: what the activations pass
        on the way to the weights (``Chain`` puts it there).

    Raises TypeError or ValueError naming the argument that is neither.
    """

    activation: Activation
    prior: Any
    dual: Dual
    between: tuple

    def __init__(self, activation, prior, dual=None, between=()):
        activation = as_activation(activation)
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field("prior", gaussian_prior(prior))
        set_field("dual", (activation.dual or dual_of(activation)) if dual is None else dual)
        set_field("activation", activation.plain)
        set_field("between", tuple(between))

    # --- the maps (THEORY section 3) --------------------------------------------

    @property
    def keeps_one(self):
        return all(part.keeps_one for part in self.between)

    @property
    def about_batch(self):
        return any(part.about_batch for part in self.between)

    @property
    def no_positions(self):
        return next((part.no_positions for part in self.between if part.no_positions), "")

    def within_batch(self):
        prior = self.prior.without_bias()
        if validation.is_traced(self.prior):
            prior = replaced(prior, weight_var=jnp.where(self.prior.is_valid(), prior.weight_var, jnp.nan))
        return replaced(self, prior=prior, between=(*self.between, WithinBatch()))

    def _behind(self, mean, variance):
        """What the weights multiply, from the mean and the variance of the activations."""
        sent = Sent(mean, variance)
        for part in self.between:
            sent = part.on_activations(sent)
        return sent

    def _sent(self, q):
        return self._behind(self.dual.mean(q), self.dual.variance(q))

    def variance_map(self, q):
        """Q(q) = sigma_w^2 [v - kappa m^2] + sigma_b^2."""
        sent = self._sent(q)
        return self.prior.propagate_moments(sent.variance, sent.mean**2)

    def variance_from_silence(self):
        zero = jnp.zeros((), self.dtype())
        sent = self._behind(self.dual.mean(zero) if self.dual.is_table else self.activation(zero), zero)
        return self.prior.propagate_moments(sent.variance, sent.mean**2)

    def covariance_map(self, q1, q2, c):
        """Q_12 at two variances and a correlation."""
        return self._covariance(q1, q2, self.dual.covariance(q1, q2, c))

    def _covariance(self, q1, q2, covariance):
        first = Sent(self.dual.mean(q1), self.dual.variance(q1))
        second = first if q2 is q1 else Sent(self.dual.mean(q2), self.dual.variance(q2))
        for part in self.between:
            covariance = part.on_pair(first, second, covariance)
            first, second = part.on_activations(first), part.on_activations(second)
        return self.prior.propagate_moments(covariance, first.mean * second.mean)

    def pair_gain(self, q, theta):
        """(1 - C(c)) / (1 - c) times Q(q) / q, with c = cos theta in [0, 1)."""
        gain = self._weight(q) * self.dual.chord(q, theta)
        return gain if self.keeps_one else gain + self.gap(q) / (2 * q * jnp.sin(theta / 2) ** 2)

    def pair_gain_at(self, q):
        weight, chord = self._weight(q), self.dual.chord_at(q)
        if self.keeps_one:
            return lambda theta: weight * chord(theta)
        gap = self.gap(q) / (2 * q)
        return lambda theta: weight * chord(theta) + gap / jnp.sin(theta / 2) ** 2

    def tangent(self, q):
        """chi_perp = sigma_w^2 E phi'^2; the gain's limit at theta = 0, where the noise is the same."""
        weight = self.prior.weight_var
        return (weight * self._sent(q).tangent if self.between else weight) * self.dual.slope_moment(q)

    def slope_at_one(self, q):
        return self._weight(q) * self.dual.slope_moment(q)

    def slope_excess(self, q):
        """q chi_perp - Q(q), which is (chi_1 - 1) Q(q), with nothing lost where the two are close."""
        origin, shift = self.activation(jnp.zeros_like(q)), self.dual.mean_shift(q)
        kappa = self.prior.anticorrelation
        means = kappa * shift**2 - (1 - kappa) * origin * (origin + 2 * shift)
        return self.prior.weight_var * (self.dual.slope_excess(q) + means) - self.prior.bias_var

    def slope(self, q, theta):
        """C'(c) times Q(q) / q = sigma_w^2 E phi'(u1) phi'(u2)."""
        return self._weight(q) * self.dual.slope_covariance(q, theta)

    def _weight(self, q):
        """What squared differences of activations are multiplied by."""
        weight = self.prior.weight_var
        return weight * self._sent(q).share if self.between else weight

    def gap(self, q):
        return self.prior.weight_var * self._sent(q).gap

    def separation_map(self, q, one_minus_c):
        """E (h1' - h2')^2 / 2, half the pair's squared distance one layer on, at equal variances."""
        separation = self._weight(q) * self.dual.separation(q, one_minus_c)
        return separation if self.keeps_one else separation + self.gap(q)

    def fixed_angle(self, q, scale, chi_1):
        if not (self.dual.closed_angle and self.keeps_one):
            return super().fixed_angle(q, scale, chi_1)
        chaotic = chi_1 > 1 + 4 * jnp.finfo(chi_1.dtype).eps
        weight = jnp.where(chaotic, self._weight(q) * scale, 1.0)
        return jnp.where(chaotic, self.dual.angle_at_chord(1 / weight), 0.0)

    def opposite_gap(self, q):
        """1 - C(-1), from E (phi(u) - phi(-u))^2: 2 for odd maps, 0 for even ones."""
        return 1 - self._covariance(q, q, self.dual.reflected_covariance(q)) / self.variance_map(q)

    # --- what is special ----------------------------------------------------------------

    def affine(self):
        steps = [part.affine() for part in self.between]
        if self.dual.pieces is None or None in steps:
            return None
        one = jnp.ones((), self.dtype())
        if any(is_nothing(growth) for growth, _ in steps):
            return 0.0, self.variance_map(one)
        sent = self._sent(one)
        free = self.prior.without_bias()
        return free.propagate_moments(sent.variance, sent.mean**2), self.prior.bias_var

    def is_identity(self):
        """Where C(c) = c in every layer: phi linear, without bias."""
        return self.dual.is_straight() & (self.prior.bias_var == 0) & self.keeps_one

    def limit(self, at_zero):
        if self.between:
            return super().limit(at_zero)
        ends = self._ends()
        chosen = jax.tree.map(lambda zero, far: jnp.where(at_zero, zero, far), *ends)
        return dense_limit(self.prior, chosen, is_quadratic(self.dual, ends))

    def asymptote(self, at_zero):
        ends = jax.tree.map(lambda zero, far: jnp.where(at_zero, zero, far), *self._ends())
        known = ends.degree == 1
        bounded = ends.left**2 + ends.right**2 == 0
        stand_in = jnp.where(known, jnp.sqrt(jnp.finfo(self.dtype()).tiny), 1.0)
        usable = known & ~bounded
        pieces = Homogeneous1(*(jnp.where(usable, x, stand_in) for x in (ends.left, ends.right)))
        between = tuple(part.asymptote(at_zero)[0] for part in self.between)
        layer = replaced(self, prior=self.prior.without_bias(), dual=pieces, between=between)
        return layer, known, known & ends.smooth

    @property
    def bounds(self):
        return any(part.bounds for part in self.between)

    def saturated(self):
        """What signals far from the activation's scale see: its two levels, or its slopes before a norm."""
        levels = self._levels()
        return Either.of(levels, self._normed_slopes()) if self.bounds else levels

    def _normed_slopes(self):
        far = self._ends()[1]
        known = (far.degree == 1) & far.smooth & (far.left**2 + far.right**2 >= _FLAT)
        slopes = Homogeneous1(jnp.where(known, far.left, 0.0), jnp.where(known, far.right, 1.0))
        between = tuple(part.saturated()[0] if part.bounds else part for part in self.between)
        return replaced(self, dual=slopes, between=between), known

    def _levels(self):
        far = self._ends()[1]
        sizes = jnp.asarray(_NEARLY_FAR, self.dtype()), jnp.asarray(_FAR, self.dtype())
        nearly, square = (self.dual.variance(q) for q in sizes)
        bounded = (far.degree == 1) & far.smooth & (far.left**2 + far.right**2 < _FLAT)
        known = bounded & (jnp.abs(nearly - square) <= 1e-6 * square) & (square > 0)
        levels = Levels(self.dual.mean(sizes[1]), jnp.where(known, square, 1.0))
        return replaced(self, dual=levels), known

    def _ends(self):
        return ends_of(self.activation, self.dual, self.dtype())

    # --- growth at many variances ---------------------------------------------------------

    def growth_rows(self, q):
        """What Q/q - 1 and its slope in log q are linear in: shape (nodes, 5), the same for all priors."""
        if self.between:
            return super().growth_rows(q)

        values, slopes = self.dual.line_rates(q)
        variance, mean_square = (x / q for x in values)
        columns = [variance, mean_square, 1 / q, slopes[0] - variance, slopes[1] - mean_square]
        on_host = all(isinstance(x, np.ndarray) for x in columns)
        return (np if on_host else jnp).stack(columns, axis=-1)

    def growth_from(self, row):
        if self.between:
            return super().growth_from(row)
        prior = self.prior
        weight, common = prior.weight_var, prior.weight_var * (1 - prior.anticorrelation)
        value = weight * row[..., 0] + common * row[..., 1] + prior.bias_var * row[..., 2]
        slope = weight * row[..., 3] + common * row[..., 4] - prior.bias_var * row[..., 2]
        return value, slope

    @property
    def is_sum_of_moments(self):
        return not self.between

    def growth_size(self, rows):
        prior = self.prior
        square = (1 + abs(prior.anticorrelation)) * prior.weight_var * (rows[..., 0] + rows[..., 1])
        return square, prior.bias_var * rows[..., 2]

    def growth_uncertainty(self, rows):
        share = abs(1 - self.prior.anticorrelation)
        return self.prior.weight_var * (rows[..., 0] + share * rows[..., 1])

    def least_ratio(self, rows):
        share = np.minimum(1 - self.prior.anticorrelation, 1.0)
        return (
            self.prior.weight_var * (rows[..., 0] + share * rows[..., 1]) + self.prior.bias_var * rows[..., 2]
        )

    # --- parameters -----------------------------------------------------------------------

    def is_valid(self):
        finite = (abs(p) < np.inf for p in self.activation.params)
        parts = (part.is_valid() for part in self.between)
        return functools.reduce(operator.and_, (*finite, *parts), self.prior.is_valid())

    def guarded(self, valid):
        prior = self.prior.guarded(valid)
        activation, dual = self.activation, self.dual
        if activation.params:
            activation, dual = jax.tree.map(_finite, (activation, dual))
        between = tuple(part.guarded(valid) for part in self.between)
        return replaced(self, activation=activation, prior=prior, dual=dual, between=between)

    def dtype(self):
        parts = [part.dtype() for part in self.between]
        return jnp.result_type(float, *parts, *jax.tree.leaves((self.prior, self.activation.params)))

    @property
    def has_section(self):
        return self.keeps_one

    def section(self, q, gain):
        weight = self._weight(q)
        return self.dual.angle_section(q, gain / weight).scaled(0.0, weight)


_NEARLY_FAR, _FAR = 2.0**60, 2.0**100
_FLAT = 1e-24


def as_dense(activation, prior=None) -> Dense:
    """A dense layer from one, or from an activation (object, name or callable) and a prior.

    Raises TypeError or ValueError naming the argument that is neither.
    """
    if not isinstance(activation, Layer):
        return Dense(activation, prior)
    if prior is not None:
        raise TypeError("prior must be left out where a layer is given: the layer has its own")
    if type(activation) is not Dense or activation.between:
        raise TypeError(f"this is known of dense layers alone, got a {type(activation).__name__}")
    return activation


def _finite(x):
    """x where it is finite; indices of tables stay as they are."""
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.where(jnp.isfinite(x), x, 0.5) if inexact else x
