"""One orthogonal layer: its squared singular values are sigma_w^2 d^2, no free product is left."""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from meanfield.dual.quadrature import _tail
from meanfield.numerics.legendre import panel_rule
from meanfield.numerics.roots import nonzero
from meanfield.spectra.slopes import slope

_LIKELY = 1e-6  # probability of the largest slope that makes it an atom
_BESIDE_KINK = 1e-9


def one_orthogonal_layer(layer, law, q, points) -> dict:
    """The spectrum's fields, from nodes in z carried over to log |phi'(sqrt(q) z)|.

    Masses are exact to quadrature. Density and distribution function sum over all z with one
    slope, found by interpolation: their error is of second order in 1/points. Where phi is
    straight at its largest slope that is the atom; other straight parts are nodes of infinite density.
    """
    log_slope = functools.partial(_log_slope, layer.activation, law, jnp.sqrt(q))
    z, mass, edges = _nodes(layer.activation, q, points)
    log_s, at_top = log_slope(z)
    atom = jnp.sum(jnp.where(at_top, mass, 0.0))
    atom = jnp.where(atom > _LIKELY, atom, 0.0)
    silent = jnp.isneginf(log_s)
    zero = jnp.sum(jnp.where(silent, mass, 0.0))
    mass = jnp.where(silent | (at_top & (atom > 0)), 0.0, mass)
    order = jnp.argsort(log_s)
    log_s, mass = log_s[order], mass[order]
    law_at = functools.partial(_law_at, jnp.diff(ndtr(edges)), log_slope(edges)[0])
    density, cdf = jax.lax.map(law_at, log_s, batch_size=64)
    return dict(
        log_singular_value=log_s,
        density=density,
        mass=mass,
        cdf=cdf,
        zero=zero,
        atom=atom,
        log_atom=jnp.where(atom > 0, 0.0, -jnp.inf),
        log_largest=jnp.where(law.unbounded, jnp.inf, jnp.max(log_s)),
    )


def _nodes(activation, q, points):
    """Nodes z with their Gaussian masses, on panels that end at kinks, and the edges of cells around them."""
    tail = _tail(q.dtype)
    kinks = jnp.clip(jnp.asarray(activation.landmarks, q.dtype) / jnp.sqrt(q), -tail, tail)
    panel, *rule = panel_rule(points)
    within, weight = (jnp.asarray(x, q.dtype) for x in rule)
    even = jnp.linspace(-tail, tail, int(panel[-1]) + 2 - kinks.size, dtype=q.dtype)
    breaks = jnp.sort(jnp.concatenate([even, kinks]))
    width = jnp.diff(breaks)[panel]
    z = breaks[panel] + width * within
    mass = width * weight * jnp.exp(-z * z / 2) / jnp.sqrt(2 * jnp.pi)
    edges = [breaks[:1], z, breaks[-1:], kinks - _BESIDE_KINK, kinks + _BESIDE_KINK]
    return z, mass, jnp.sort(jnp.concatenate(edges))


def _log_slope(activation, law, root, z):
    """log |phi'(root z)| over the largest, -inf where that counts as zero, and whether it is the largest."""
    square = slope(activation, root * z) ** 2
    relative = square / law.largest
    some = (square > 0) & (relative >= law.least)
    return jnp.where(some, jnp.log(jnp.where(some, relative, 1.0)) / 2, -jnp.inf), relative == 1


def _law_at(probability, ends, x):
    """(density, distribution function) at log s = x; each cell of z spreads evenly over the log s it covers.

    ends: log s at the edges of cells.
    """
    low, high = jnp.minimum(ends[:-1], ends[1:]), jnp.maximum(ends[:-1], ends[1:])
    spread = jnp.where(jnp.isfinite(low), high - low, jnp.inf)
    finite, divisor = jnp.isfinite(spread), nonzero(spread)
    inside = (low < x) & (x <= high) & (spread > 0)
    density = jnp.sum(jnp.where(inside & finite, probability / divisor, 0))
    share = jnp.where(finite & (spread > 0), (x - low) / divisor, 1)
    partly = jnp.where(inside, probability * jnp.clip(share, 0, 1), 0)
    return density, jnp.sum(jnp.where(high <= x, probability, partly))
