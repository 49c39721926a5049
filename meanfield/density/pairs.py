"""The correlation that pairs of signals settle at under an asymmetric prior, sampled."""

import jax
import jax.numpy as jnp

from meanfield.density.population import divided, group_statistics

_LAYERS = 200
_SETTLED = 120  # layers averaged over, at the end
_RESPONSE = (10, 40)  # layers between which a change of the correlation is followed


def settled_pair(layer, q, c0, particles: int, seed: int):
    """(1 - c, its error, chi_c, its error, whether 1 - c is steady), from a start at (q, c0).

    1 - c is an average over the last layers, and over independent groups whose spread
    gives the error. chi_c is the factor by which a small change of c0 shrinks per layer.
    """
    groups, size = divided(particles)
    keys = jax.random.split(jax.random.key(seed), groups)
    first, last = _RESPONSE
    safe_c0 = jnp.where(jnp.abs(c0) == 1, 0.0, c0)

    def settled(key):
        gap = group_statistics(layer, (q, q, c0), key, _LAYERS, size)[0].one_minus_c[-_SETTLED:]
        half = _SETTLED // 2
        return jnp.mean(gap), jnp.mean(gap[:half]) - jnp.mean(gap[half:])

    def response(key):
        gap_from = lambda c: group_statistics(layer, (q, q, c), key, last, size)[0].one_minus_c  # noqa: E731
        _, change = jax.jvp(gap_from, (safe_c0,), (jnp.ones_like(c0),))
        return jnp.log(jnp.abs(change[last] / change[first])) / (last - first)

    gaps, drifts = jax.lax.map(settled, keys, batch_size=4)
    rates = jax.lax.map(response, keys, batch_size=4)
    error = lambda x: jnp.std(x, ddof=1) / groups**0.5  # noqa: E731
    steady = jnp.abs(jnp.mean(drifts)) <= 5 * error(drifts)
    chi_c = jnp.exp(jnp.mean(rates))
    return jnp.mean(gaps), error(gaps), chi_c, chi_c * error(rates), steady
