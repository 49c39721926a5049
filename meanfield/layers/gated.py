"""Gated linear units: GLU, GEGLU, SwiGLU (THEORY of layers, section 5)."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.dual import Dual, Homogeneous1, dual_of
from meanfield.layers.dense_limits import ends_of
from meanfield.layers.gate_section import GateSection
from meanfield.layers.limits import LimitMap
from meanfield.layers.normalisation import Scaling
from meanfield.layers.one_activation import OneActivation
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.priors import gaussian_prior
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class GLU(OneActivation):
    r"""Gated linear unit: x' = W3 [phi(W1 x + b1) * (W2 x + b2)] + b3, with an elementwise product.

    activation: phi, an ``Activation``, a name or a callable: "sigmoid" makes the GLU, "gelu" GEGLU, "silu"
        SwiGLU. gate, up, down: priors of W1, W2 and W3 with their biases.
    dual (set by itself): the Gaussian moments of the activation.

    It takes pre-activations to pre-activations: in a ``Chain`` it stands where a dense layer does, usually
    behind a norm. All three matrices multiply signals of mean 0, so that no anticorrelation changes
    anything. For gates that grow, Q goes like q^2 far out: without a norm a fixed point repels. Behind
    ``RMSNorm`` and without biases chi_1 = 1 + E (u phi')^2 / E phi^2 > 1 (2 for ReLU): always chaotic.

    Raises TypeError or ValueError naming the argument that is wrong.

    Source: Dauphin et al., arXiv:1612.08083; Shazeer, arXiv:2002.05202.
    """

    activation: Activation
    gate: Any
    up: Any
    down: Any
    dual: Dual

    def __init__(self, activation, *, gate, up, down):
        activation = as_activation(activation)
        set_field = lambda name, value: object.__setattr__(self, name, value)
        for name, prior in dict(gate=gate, up=up, down=down).items():
            set_field(name, gaussian_prior(prior, name))
        validation.real("weight_var of gate", gate.weight_var, low=0.0, low_open=True)
        set_field("dual", activation.dual or dual_of(activation))
        set_field("activation", activation.plain)

    # --- the maps -----------------------------------------------------------------------

    def _met(self, q):
        """Variance of the gate's pre-activations."""
        return self.gate.weight_var * q + self.gate.bias_var

    def _up_var(self, q):
        """Variance of the other factor, and its covariance for that of a pair."""
        return self.up.weight_var * q + self.up.bias_var

    def _opening(self, q):
        """E phi^2 of the gate."""
        gate_var = self._met(q)
        return self.dual.variance(gate_var) + self.dual.mean(gate_var) ** 2

    def variance_map(self, q):
        """Q(q) = sigma_3^2 E phi(g)^2 (sigma_2^2 q + sigma_b2^2) + sigma_b3^2."""
        return self.down.weight_var * self._opening(q) * self._up_var(q) + self.down.bias_var

    def variance_from_silence(self):
        opening = self._opening_of_silence()
        return self.down.weight_var * opening * self.up.bias_var + self.down.bias_var

    def _opening_of_silence(self):
        zero = jnp.zeros((), self.dtype())
        biased = self.gate.bias_var > 0
        at_zero = self.dual.mean(zero) if self.dual.is_table else self.activation(zero)
        return jnp.where(biased, self._opening(jnp.where(biased, zero, 1.0)), at_zero**2)

    def covariance_map(self, q1, q2, c):
        covariance = c * jnp.sqrt(q1 * q2)
        g1, g2 = self._met(q1), self._met(q2)
        gates = jnp.clip(self._met(covariance) / jnp.sqrt(g1 * g2), -1, 1)
        opening = self.dual.covariance(g1, g2, gates) + self.dual.mean(g1) * self.dual.mean(g2)
        return self.down.weight_var * opening * self._up_var(covariance) + self.down.bias_var

    def pair_gain(self, q, theta):
        """Half the squared difference of products: each factor's, times the other factor's moment."""
        return self.pair_gain_at(q)(theta)

    def pair_gain_at(self, q):
        gate_var, chord = self._met(q), self.dual.chord_at(self._met(q))
        of_up, of_gate = self._weights(q)
        shrink = jnp.sqrt(self.gate.weight_var * q / gate_var)

        def gain(theta):
            gate_angle = 2 * jnp.arcsin(shrink * jnp.sin(theta / 2))
            return of_up + of_gate * chord(gate_angle) * self._up_var(q * jnp.cos(theta))

        return gain

    def _weights(self, q):
        """What differences of the factor that is not gated, and what those of the gate are multiplied by."""
        down = self.down.weight_var
        return down * self.up.weight_var * self._opening(q), down * self.gate.weight_var

    def separation_map(self, q, one_minus_c):
        of_up, _ = self._weights(q)
        delta, gate_var = q * one_minus_c, self._met(q)
        gates = self.dual.separation(gate_var, self.gate.weight_var * delta / gate_var)
        return of_up * delta + self.down.weight_var * gates * self._up_var(q - delta)

    def tangent(self, q):
        """chi_perp = sigma_3^2 [sigma_2^2 E phi^2 + sigma_1^2 E phi'^2 (sigma_2^2 q + sigma_b2^2)]."""
        of_up, of_gate = self._weights(q)
        return of_up + of_gate * self.dual.slope_moment(self._met(q)) * self._up_var(q)

    has_section = True

    def section(self, q, gain):
        gate_var = self._met(q)
        of_up, of_gate = self._weights(q)
        shrink = jnp.sqrt(self.gate.weight_var * q / gate_var)
        usable = jnp.where(of_gate > 0, of_gate, 1.0)
        up, spread = self.up.bias_var, self.up.weight_var * q
        near = GateSection.near(self.dual.section(gate_var), (gain - of_up) / usable, up, spread, shrink)
        return near.scaled(of_up, of_gate)

    # --- what is special ------------------------------------------------------------------

    def asymptote(self, at_zero):
        """Linear at vanishing variance, where the gate stays open and the other factor has no bias."""
        opening = self._opening_of_silence()
        known = jnp.asarray(at_zero) & (self.up.bias_var == 0) & (opening > 0)
        growth = self.down.weight_var * self.up.weight_var * opening
        return Scaling(jnp.where(known, growth, 1.0)), known, known

    def limit(self, at_zero):
        """As for every layer; where Q goes like q^2, the correlation map alone."""
        linear = super().limit(at_zero)
        ends = ends_of(self.activation, self.dual, self.dtype())
        gate = jax.tree.map(lambda zero, far: jnp.where(at_zero, zero, far), *ends)
        straight = (gate.degree == 1) & (gate.left**2 + gate.right**2 > 0)
        closed = (self.up.bias_var == 0) & (self._opening_of_silence() == 0)
        square = straight & (closed | ~jnp.asarray(at_zero))
        pieces = Homogeneous1(*(jnp.where(square, x, 1.0) for x in (gate.left, gate.right)))
        priors = {name: getattr(self, name).without_bias() for name in ("gate", "up", "down")}
        map_alone = LimitMap.of_homogeneous(replaced(self, dual=pieces, **priors), square, square)
        rate = jnp.full_like(map_alone.growth, jnp.nan)
        map_alone = dataclasses.replace(map_alone, growth=rate, chi_perp=rate)
        return jax.tree.map(lambda one, other: jnp.where(square, one, other), map_alone, linear)

    # --- parameters -----------------------------------------------------------------------

    def is_valid(self):
        finite = [jnp.all(jnp.isfinite(p)) for p in self.activation.params]
        priors = [prior.is_valid() for prior in (self.gate, self.up, self.down)]
        return jnp.all(jnp.array([self.gate.weight_var > 0, *priors, *finite]))

    def guarded(self, valid):
        safe = super().guarded(valid)
        return replaced(self, gate=safe.gate, up=safe.up, down=safe.down)
