"""Density evolution: the law of pre-activations, layer by layer, without sampling noise."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.asymmetric.density.channel import Signals, transported, transported_tangent, unresolved
from meanfield.asymmetric.density.grid import STEP, Kernel, kernel_of
from meanfield.asymmetric.density.layer import AsymmetricLayer
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import nonzero
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False)
class Law:
    """A law of pre-activations on the nodes of a quadrature rule, ascending.

    h: nodes. density: of h, at the nodes. mass: density times the rule's weights, so
    that ``jnp.sum(law.mass * f(law.h))`` is the mean of a smooth f.
    """

    h: Float[Array, "... nodes"]
    density: Float[Array, "... nodes"]
    mass: Float[Array, "... nodes"]


@register_dataclass
@dataclass(frozen=True, eq=False)
class DensityEvolution:
    """One signal followed through the layers; shape (depth + 1, ...), entry 0 the start.

    q: second moment E h^2 of the pre-activations (about 0: their mean is not zero).
    mean: E h. noise_var: variance of the Gaussian part of h, the rest being the
        special weight's. inactive: P(h <= 0). activity: E phi(h)^2.
    growth: of the squared norm of a transverse perturbation, from the layer before
        (1 in entry 0); its logarithm over 2 is the transverse Lyapunov exponent.
    error: estimated relative numerical error, summed over the layers so far: by how
        much the law misses the exact relations between moments, and what its panels
        do not resolve.
    law: of h in the last layer.
    """

    q: Float[Array, "layers ..."]
    mean: Float[Array, "layers ..."]
    noise_var: Float[Array, "layers ..."]
    inactive: Float[Array, "layers ..."]
    activity: Float[Array, "layers ..."]
    growth: Float[Array, "layers ..."]
    error: Float[Array, "layers ..."]
    law: Law

    @property
    def gain(self) -> Float[Array, "layers ..."]:
        """E phi(h)^2 in each layer over that of the layer before; shape (depth, ...)."""
        return self.activity[1:] / self.activity[:-1]


def density_evolution(activation, prior=None, *, q0=1.0, depth=50, step=STEP) -> DensityEvolution:
    r"""The law of h in every layer, for one input, starting from a Gaussian of variance q0.

    activation: an ``Activation``, a name, or any elementwise JAX function.
    prior: an ``AsymmetricPrior``; its leaves broadcast with q0 > 0.
    depth: number of layers, at least 0. step: width of the panels in units of the
        noise, 0.25 to 4; 2 resolves laws to about 1e-10.

    The law follows h' = B phi(h) + s z with s^2 = sigma_w^2 [E phi^2 - kappa (E phi)^2] + sigma_b^2
    at infinite width. Laws whose special part is thousands of times as wide as their Gaussian
    part are beyond the panels: see ``error``.

    Raises TypeError or ValueError for arguments wrong before tracing.
    Source: THEORY section 8.
    """
    layer = AsymmetricLayer.of(activation, prior)
    depth = validation.count("depth", depth, low=0)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    _check_noise(layer.prior)
    kernel = kernel_of(layer.prior.special_weight, float(validation.number("step", step)))
    result = pointwise(_evolve, layer, q0, shared=(kernel,), static=(depth,), optimization=2)
    layers_first = {name: jnp.moveaxis(value, -1, 0) for name, value in vars(result).items() if name != "law"}
    return DensityEvolution(**layers_first, law=result.law)


def _check_noise(prior) -> None:
    if validation.is_traced(prior):
        return
    if np.any((np.asarray(prior.weight_var) == 0) & (np.asarray(prior.bias_var) == 0)):
        raise ValueError("weight_var and bias_var must not both be 0: the law then has no density")


def _evolve(layer: AsymmetricLayer, q0, kernel: Kernel, depth: int) -> DensityEvolution:
    valid = layer.is_valid() & (q0 > 0)
    layer = layer.guarded(valid)
    q0 = jnp.where(valid, q0, 1.0)
    points = jnp.asarray(kernel.grid.points, q0.dtype)
    start = kernel.grid.gaussian(q0.dtype)
    one = jnp.ones_like(q0)
    state = _State(jnp.sqrt(q0), start, start, one, (one, 0 * one, one))

    def layer_by_layer(state, _):
        observed, after = _observed_and_next(layer, kernel, state)
        return after, observed

    last, observed = jax.lax.scan(layer_by_layer, state, length=depth)
    final, _ = _observed_and_next(layer, kernel, last)
    fields = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), observed, final)
    fields["error"] = jnp.cumsum(fields["error"])
    fields = {name: jnp.where(valid, value, jnp.nan) for name, value in fields.items()}
    weights = jnp.asarray(kernel.grid.weights, q0.dtype)
    law = Law(last.noise * points, last.law / last.noise, last.law * weights)
    law = jax.tree.map(lambda x: jnp.where(valid, x, jnp.nan).astype(q0.dtype), law)
    return DensityEvolution(**fields, law=law)


def noise_after(layer: AsymmetricLayer, q0, kernel: Kernel, depth: int):
    """(noise s, second moment q) of a signal ``depth`` layers after a Gaussian of variance q0."""
    result = _evolve(layer, q0, kernel, depth)
    return jnp.sqrt(result.noise_var[-1]), result.q[-1]


@register_dataclass
@dataclass(frozen=True, eq=False)
class _State:
    """A layer's law.

    noise: s. law: density of x = h/s. tangent: that of E[delta^2; x], of integral 1, and
    growth: its last. expected: the first moments of x, from the layer before.
    """

    noise: jax.Array
    law: jax.Array
    tangent: jax.Array
    growth: jax.Array
    expected: tuple


def _observed_and_next(layer: AsymmetricLayer, kernel: Kernel, state: _State):
    grid, prior = kernel.grid, layer.prior
    one = jnp.ones_like(state.noise)
    signals = Signals.of(grid, layer.activation, state.noise)
    masses = signals.masses(state.law)
    moments = [jnp.sum(masses * signals.x**k) for k in range(3)]
    mean, activity = (jnp.sum(masses * signals.phi**k) for k in (1, 2))
    noise = jnp.sqrt(prior.propagate_moments(activity - mean**2, mean**2))
    safe = nonzero(noise)
    law = transported(kernel, signals, safe, state.law)

    sent = signals.expect(signals.slope**2, state.tangent)
    carried = transported_tangent(kernel, signals, safe, state.tangent)
    tangent = carried + prior.weight_var * sent * law
    growth = (prior.weight_var + kernel.square) * sent

    width = jnp.sqrt(moments[2])
    errors = [jnp.abs(moments[k] - state.expected[k]) / width**k for k in range(3)]
    errors += [unresolved(grid, state.law), signals.unresolved(state.law)]
    observed = dict(
        q=moments[2] * state.noise**2,
        mean=moments[1] * state.noise,
        noise_var=state.noise**2,
        inactive=jnp.sum(masses * (signals.x < 0)),
        activity=activity,
        growth=state.growth,
        error=jnp.max(jnp.stack(errors)),
    )
    return observed, _State(
        noise,
        law,
        tangent / nonzero(growth),
        growth,
        (one, kernel.mean * mean / safe, kernel.square * activity / safe**2 + 1),
    )
