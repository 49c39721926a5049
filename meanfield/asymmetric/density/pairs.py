"""The correlation that pairs of signals settle at under an asymmetric prior, sampled.

At a fixed point the Gaussian part of h has a known variance s^2, and that of h1 - h2 an unknown
one, g. For given g the pair is a Markov chain that settles within some layers, and g must be
sigma_w^2 E (phi1 - phi2)^2 (the mean of phi1 - phi2 vanishes by symmetry, the bias cancels). Solving
for g, with the same random numbers for every g, avoids the slow approach of c to its limit. A few
groups of particles tell where the solution is about; all of them then move it to where it is.
"""

import jax
import jax.numpy as jnp

from meanfield.asymmetric.density.population import divided, group_statistics, groups_at_once, pair_layer
from meanfield.numerics.roots import nonzero

_BURN_IN, _AVERAGED = 24, 76  # layers
_STEPS = 12
_SCOUTS = 4  # groups that look for the solution
_APART = 0.1  # in log g: evaluations from which the slope is taken
_SMALLEST = 1e-10  # of g, in units of s^2
_RESPONSE = (8, 32)  # layers between which a change of the correlation is followed


def settled_pair(layer, noise_var, q, particles: int, key):
    """(1 - c, its standard error, chi_c, its standard error, whether the solution lies inside)."""
    prior = layer.prior
    groups, size = divided(particles)
    keys = jax.random.split(key, groups)

    def excess(log_gap, keys):
        """log of sigma_w^2 E (phi1 - phi2)^2 / g, and E (phi1 - phi2)^2 by group."""
        one_group = lambda key: _difference(layer, noise_var, jnp.exp(log_gap), key, size)
        by_group = jax.lax.map(one_group, keys, batch_size=groups_at_once(size))
        return jnp.log(prior.weight_var * jnp.mean(by_group)) - log_gap, by_group

    ends = jnp.log(noise_var * _SMALLEST), jnp.log(4 * noise_var)
    about, enclosed = _scouted(lambda log_gap: excess(log_gap, keys[:_SCOUTS])[0], *ends)
    log_gap, log_error, rest = _moved(lambda log_gap: excess(log_gap, keys), about, *ends)
    inside = enclosed & (jnp.abs(rest) < _APART)
    one_minus_c = jnp.exp(log_gap) * (1 + prior.special_weight.moment(2) / prior.weight_var) / (2 * q)
    rates = _rates(layer, q, one_minus_c, keys, size)
    chi_c = jnp.exp(jnp.mean(rates))
    return one_minus_c, one_minus_c * log_error, chi_c, chi_c * _standard_error(rates), inside


def _scouted(excess, low, high):
    """(where ``excess`` passes 0, whether it has two signs at the ends)."""

    def halve(bracket, _):
        # Regula falsi, made robust by a bisection in every other step.
        low, high, at_low, at_high, count = bracket
        secant = low + (high - low) * at_low / nonzero(at_low - at_high)
        inside = (secant > low) & (secant < high) & (count % 2 == 1)
        middle = jnp.where(inside, secant, (low + high) / 2)
        value = excess(middle)
        up = value > 0
        low, at_low = jnp.where(up, middle, low), jnp.where(up, value, at_low)
        high, at_high = jnp.where(up, high, middle), jnp.where(up, at_high, value)
        return (low, high, at_low, at_high, count + 1), None

    at_ends = excess(low), excess(high)
    start = (low, high, *at_ends, jnp.zeros((), int))
    (low, high, at_low, at_high, _), _ = jax.lax.scan(halve, start, length=_STEPS)
    root = jnp.clip(low + (high - low) * at_low / nonzero(at_low - at_high), low, high)
    return root, (at_ends[0] > 0) & (at_ends[1] <= 0)


def _moved(excess, log_gap, *ends):
    """(root, its standard error, the last step) by Newton's method, twice with one slope.

    What scouts find is off by a few of their standard errors.
    """
    around = log_gap + _APART * jnp.array([-1.0, 0.0, 1.0])
    low, value, high = jax.lax.map(lambda x: excess(x)[0], around)
    slope = (high - low) / (2 * _APART)
    slope = jnp.where(slope == 0, -1.0, slope)
    log_gap = jnp.clip(log_gap - value / slope, *ends)
    value, by_group = excess(log_gap)
    rest = -value / slope
    log_error = _standard_error(by_group) / jnp.mean(by_group) / jnp.abs(slope)
    return jnp.clip(log_gap + rest, *ends), log_error, rest


def _rates(layer, q, one_minus_c, keys, size):
    """log of the growth per layer of a change of the correlation, by group."""
    first, last = _RESPONSE

    def rate(key):
        start = lambda c: group_statistics(layer, (q, q, c), key, last, size)[0].one_minus_c
        c = 1 - one_minus_c
        _, change = jax.jvp(start, (c,), (jnp.ones_like(c),))
        return jnp.log(jnp.abs(change[last] / change[first])) / (last - first)

    return jax.lax.map(rate, keys, batch_size=groups_at_once(size))


def _standard_error(by_group):
    return jnp.std(by_group, ddof=1) / by_group.shape[0] ** 0.5


def _difference(layer, noise_var, gap, key, size):
    """E (phi1 - phi2)^2 of one group, once its pairs have settled at these noises."""

    def one_layer(state, index):
        special, square = state
        special, now = pair_layer(layer, noise_var, gap, jax.random.fold_in(key, index), size, special)
        return (special, square + jnp.where(index >= _BURN_IN, now, 0.0)), None

    state = (jnp.zeros((2, size), noise_var.dtype), jnp.zeros_like(noise_var))
    (_, square), _ = jax.lax.scan(one_layer, state, jnp.arange(_BURN_IN + _AVERAGED))
    return square / _AVERAGED
