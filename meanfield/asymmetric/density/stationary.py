"""Stationary laws: one family, by noise level, serves the fixed points of all priors.

At a fixed point the noise s is constant and the law is that of the Markov chain
h' = B phi(h) + s z. A prior enters through s alone: s^2 = sigma_w^2 [E phi^2 - kappa (E phi)^2] + sigma_b^2.
Stability follows from the response of the chain: two sequences of moments per law
turn into chi_q and chi_perp under any prior.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.asymmetric.density.channel import Signals, bent, transported, transported_tangent, unresolved
from meanfield.asymmetric.density.grid import Kernel
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import implicit_root, newton_step, nonzero

_TERMS = 48  # of the response sequences; beyond them they are geometric
_MOST_STEPS = 3000
_AGREE = 0.1  # of a ratio: what the last ones may differ by


@register_dataclass
@dataclass(frozen=True, eq=False)
class StationaryLaw:
    """What a prior needs to know of the chain x' = B phi(noise x) / next_noise + z.

    mean, activity: E phi and E phi^2, divided by next_noise and its square.
    inactive: P(x <= 0). error: relative numerical error.
    slope_response: E phi'^2 delta^2 after 0, 1, ... layers of B alone, from a unit transverse tangent.
    activity_response, mean_response: change of activity and mean 0, 1, ... layers after a
        relative change of the noise's variance by one unit.
    """

    mean: jax.Array
    activity: jax.Array
    inactive: jax.Array
    error: jax.Array
    slope_response: jax.Array
    activity_response: jax.Array
    mean_response: jax.Array


def stationary_law(kernel: Kernel, activation: Activation, noise, next_noise) -> StationaryLaw:
    """The chain's law, and its responses; arguments are scalars."""
    grid = kernel.grid
    signals = Signals.of(grid, activation, noise)
    law = _solve(kernel, signals, next_noise)
    phi = signals.phi / next_noise
    masses = signals.masses(law)
    mean, activity = jnp.sum(masses * phi), jnp.sum(masses * phi**2)
    points, weights = jnp.asarray(grid.points, law.dtype), jnp.asarray(grid.weights, law.dtype)
    expected = jnp.stack([jnp.ones_like(mean), kernel.mean * mean, kernel.square * activity + 1])
    found = jnp.stack([jnp.sum(weights * law * points**k) for k in range(3)])
    width = jnp.sqrt(expected[2]) ** jnp.arange(3)

    def tangent_layer(tangent, _):
        after = transported_tangent(kernel, signals, next_noise, tangent)
        return after, signals.expect(signals.slope**2, tangent)

    def law_layer(change, _):
        change = change - jnp.sum(weights * change) * law  # rounding adds mass, which would stay
        responses = signals.expect(phi**2, change), signals.expect(phi, change)
        return transported(kernel, signals, next_noise, change), responses

    _, slopes = jax.lax.scan(tangent_layer, law, length=_TERMS)
    change = bent(kernel, signals, next_noise, law)
    _, (activities, means) = jax.lax.scan(law_layer, change, length=_TERMS)
    return StationaryLaw(
        mean=mean,
        activity=activity,
        inactive=jnp.sum(masses * (signals.x < 0)),
        error=jnp.max(jnp.abs(found - expected) / width) + unresolved(grid, law) + signals.unresolved(law),
        slope_response=slopes,
        activity_response=activities,
        mean_response=means,
    )


def _solve(kernel: Kernel, signals: Signals, next_noise):
    """The chain's invariant density, by iteration; differentiable as an implicit function."""
    grid = kernel.grid
    weights, start = jnp.asarray(grid.weights, next_noise.dtype), grid.gaussian(next_noise.dtype)
    tolerance = 64 * jnp.finfo(next_noise.dtype).eps

    def residual(law):
        # The second term fixes the mass, which the chain conserves.
        return transported(kernel, signals, next_noise, law) - law + (1 - jnp.sum(weights * law)) * start

    def iterate(step, initial):
        def unfinished(state):
            _, change, size, count = state
            return (change > tolerance * size) & (count < _MOST_STEPS)

        def once(state):
            value, _, _, count = state
            change = step(value)
            size = jnp.sum(weights * jnp.abs(value))
            return value + change, jnp.sum(weights * jnp.abs(change)), size, count + 1

        infinite = jnp.asarray(jnp.inf, initial.dtype)
        return jax.lax.while_loop(unfinished, once, (initial, infinite, jnp.ones_like(infinite), 0))[0]

    def solve(f, initial):
        return iterate(f, initial)

    def neumann(f, target):
        return iterate(lambda value: f(value) - target, -target)

    def solve_linear(f, target):
        return jax.lax.custom_linear_solve(f, target, neumann, transpose_solve=neumann)

    return jax.lax.custom_root(residual, start, solve, solve_linear)


def growth_rate(weight_var, response):
    """mu with weight_var sum_k response_k mu^(-k-1) = 1: the growth per layer of what responds so.

    That is the dominant solution of e_{l+1} = weight_var sum_k response_k e_{l-k}, the
    sequence continued geometrically beyond its terms. Where the dominant ones are complex,
    their modulus.
    """
    size, dtype = response.shape[0], response.dtype
    last, ratio = response[-1], _ratio_beyond(response)
    mu, modulus = _power_iteration(*jax.lax.stop_gradient((weight_var * response, ratio)))

    def excess(mu):
        powers = mu ** -(jnp.arange(size, dtype=dtype) + 1)
        tail = last * powers[-1] * ratio / (mu - ratio)
        return weight_var * (jnp.sum(response * powers) + tail) - 1

    safe = jnp.where(jnp.isfinite(mu) & (mu != 0), mu, 1.0)
    polished = implicit_root(excess, safe, newton_step)
    close = jnp.abs(polished - mu) <= 1e-3 * jnp.abs(mu)
    uncoupled = jnp.where(jnp.all(weight_var * response == 0), ratio, modulus)
    return jnp.where(close, polished, uncoupled)


def _ratio_beyond(response):
    """Of neighbours beyond the terms; 0 where the last ones agree on none, which then are rounding."""
    ratios = response[-3:] / nonzero(response[-4:-1])
    agree = jnp.all(jnp.abs(ratios - ratios[-1]) <= _AGREE * jnp.abs(ratios[-1]))
    return jnp.clip(jnp.where(agree & (response[-2] != 0), ratios[-1], 0.0), -0.999, 0.999)


def _power_iteration(coefficients, ratio):
    """Last growth factor of the recurrence, and the geometric mean of many."""
    size = coefficients.shape[0]

    def step(state, _):
        history, tail = state
        new = jnp.sum(coefficients * history) + tail
        tail = ratio * (tail + coefficients[-1] * history[-1])
        moved = jnp.concatenate([new[None], history[:-1]])
        norm = jnp.maximum(jnp.max(jnp.abs(moved)), jnp.abs(tail))
        norm = nonzero(norm)
        factor = new / nonzero(history[0])
        return (moved / norm, tail / norm), (factor, jnp.log(norm))

    start = jnp.zeros_like(coefficients).at[0].set(1.0), jnp.zeros_like(ratio)
    _, (factors, logs) = jax.lax.scan(step, start, length=8 * size)
    return factors[-1], jnp.exp(jnp.mean(logs[4 * size :]))
