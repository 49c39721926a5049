"""The minimal recurrent network with a gate (THEORY of layers, section 6)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.dual import Dual, dual_of
from meanfield.layers.one_activation import OneActivation
from meanfield.layers.recurrent import apart, check_input, guarded_input, input_is_valid
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.priors import gaussian_prior
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class MinimalRNN(OneActivation):
    r"""One step of a minimalRNN of untied gates: h_t = u h_(t-1) + (1 - u) z_t, u = sigmoid(W h + V z + b).

    prior: of W and b; no anticorrelation matters, since states have mean 0. input_weight_var: of V, at least
        0. input_var: variance of z_t, greater than 0. input_correlation: of z_t between the two signals of a
        pair, from 0 to 1; None, the default, gives both the same input. Numbers or arrays; derivatives may
        be taken with respect to all. tied: whether W is one for all times, which is refused.

    States are not Gaussian, but what the gates see is: q is the variance of the state, and an activation
    cannot follow. A gate of W drawn once for all times depends on the state that it multiplies, through
    their common past: no map of one time is closed.

    Raises TypeError or ValueError for what is out of range, and ValueError for tied gates.

    Source: Chen, Pennington & Schoenholz 2018, arXiv:1806.05394.
    """

    prior: Any
    input_weight_var: Any
    input_var: Any
    input_correlation: Any
    activation: Activation
    dual: Dual

    mixes = False
    no_positions = (
        "a recurrent layer reads an input of its own at every position, whose covariances it does not know: "
        "use Conv or Dense"
    )
    stands_alone = True

    def __init__(self, prior, *, input_weight_var=1.0, input_var=1.0, input_correlation=None, tied=False):
        if tied:
            raise ValueError(
                "tied gates have no closed map of one time: leave tied out, for fresh weights at every step, "
                "or draw networks, as the page on recurrent networks does"
            )
        set_field = lambda name, value: object.__setattr__(self, name, value)
        set_field("prior", gaussian_prior(prior))
        validation.real("weight_var", prior.weight_var, low=0.0, low_open=True)
        set_field("input_weight_var", validation.real("input_weight_var", input_weight_var, low=0.0))
        check_input(self, input_var, input_correlation, low_open=True)
        validation.same_shape(
            weight_var=prior.weight_var, input_weight_var=self.input_weight_var, input_var=self.input_var
        )
        activation = as_activation("sigmoid")
        set_field("dual", dual_of(activation))
        set_field("activation", activation.plain)

    # --- the maps: E u_1 u_2 = E (1 - u_1)(1 - u_2) = Cov(u_1, u_2) + 1/4, as sigmoid - 1/2 is odd ---------

    @property
    def keeps_one(self):
        return self.input_correlation is None

    def _gate(self, covariance, of_input):
        """Covariance of the gates' pre-activations."""
        return self.prior.weight_var * covariance + self.input_weight_var * of_input + self.prior.bias_var

    def _met(self, q):
        return self._gate(q, self.input_var)

    def _opening(self, q):
        """E u^2; of gates that see nothing 1/4."""
        gate = self._met(q)
        seen = gate > 0
        return jnp.where(seen, self.dual.variance(jnp.where(seen, gate, 1.0)), 0.0) + 0.25

    def variance_map(self, q):
        """Q(q) = (q + Z) E u^2."""
        return (q + self.input_var) * self._opening(q)

    def covariance_map(self, q1, q2, c):
        covariance, common = c * jnp.sqrt(q1 * q2), self.input_var - apart(self)
        g1, g2 = self._met(q1), self._met(q2)
        gates = jnp.clip(self._gate(covariance, common) / jnp.sqrt(g1 * g2), -1, 1)
        return (covariance + common) * (self.dual.covariance(g1, g2, gates) + 0.25)

    def separation_map(self, q, one_minus_c):
        delta, gate = q * one_minus_c, self._met(q)
        gates = self.dual.separation(gate, self._gates_apart(delta) / gate)
        return self._parted(q, delta, gates)

    def _gates_apart(self, delta):
        """Half the mean squared difference of the gates' pre-activations."""
        return self.prior.weight_var * delta + self.input_weight_var * apart(self)

    def _parted(self, q, delta, gates):
        """delta', from that of the states and of the gates."""
        return self._together(q, delta) * gates + (delta + apart(self)) * self._opening(q)

    def _together(self, q, delta):
        return q - delta + self.input_var - apart(self)

    def pair_gain(self, q, theta):
        half = jnp.sin(theta / 2) ** 2
        delta, gate = 2 * q * half, self._met(q)
        if not self.keeps_one:
            return self._parted(q, delta, self._gates(q, delta)[0]) / delta
        # The angle of the gates is a multiple of theta near 0, with derivatives there.
        angle = 2 * jnp.arcsin(jnp.sqrt(self.prior.weight_var * q / gate) * jnp.sin(theta / 2))
        gates = self.prior.weight_var * self.dual.chord(gate, angle)
        return self._together(q, delta) * gates + self._opening(q)

    def _gates(self, q, delta):
        """delta of the gates and its derivative over that of their pre-activations, at an acute angle."""
        gate, difference = self._met(q), self._gates_apart(delta)
        differ = difference > 0
        angle = 2 * jnp.arcsin(jnp.sqrt(jnp.where(differ, difference / gate, 0.5) / 2))
        chord = jnp.where(differ, self.dual.chord(gate, angle), 0.0)
        rate = jnp.where(differ, self.dual.slope_covariance(gate, angle), self.dual.slope_moment(gate))
        return chord * difference, rate

    def tangent(self, q):
        """chi_perp = E u^2 + sigma_w^2 (q + Z) E u'^2: of states that meet the same input."""
        slopes = self.dual.slope_moment(self._met(q))
        return self._opening(q) + self.prior.weight_var * (q + self.input_var) * slopes

    def gap(self, q):
        if self.keeps_one:
            return jnp.zeros_like(q)
        zero = jnp.zeros_like(q)
        return self._parted(q, zero, self._gates(q, zero)[0])

    def slope_at_one(self, q):
        return self.tangent(q) if self.keeps_one else self._slope(q, jnp.zeros_like(q))

    def slope(self, q, theta):
        return self._slope(q, 2 * q * jnp.sin(theta / 2) ** 2)

    def _slope(self, q, delta):
        """d delta'/d delta."""
        gates, rate = self._gates(q, delta)
        return self._together(q, delta) * self.prior.weight_var * rate - gates + self._opening(q)

    # --- parameters -----------------------------------------------------------------------

    def is_valid(self):
        weights = jnp.isfinite(self.input_weight_var) & (self.input_weight_var >= 0)
        active = (self.prior.weight_var > 0) & (self.input_var > 0)
        return self.prior.is_valid() & weights & active & input_is_valid(self)

    def guarded(self, valid):
        return replaced(
            self,
            prior=self.prior.guarded(valid),
            input_weight_var=jnp.where(valid, self.input_weight_var, 0.5),
            **guarded_input(self, valid),
        )

    def dtype(self):
        numbers = (self.prior, self.input_weight_var, self.input_var, self.input_correlation)
        return jnp.result_type(float, *jax.tree.leaves(numbers))
