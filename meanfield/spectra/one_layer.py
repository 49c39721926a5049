"""One orthogonal layer: its squared singular values are sigma_w^2 d^2, no free product is left."""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from meanfield.dual.quadrature import _tail
from meanfield.spectra.panels import panel_rule
from meanfield.spectra.slopes import slope


def one_orthogonal_layer(layer, law, q, points) -> dict:
    """The spectrum's fields, from nodes in z carried over to log |phi'(sqrt(q) z)|.

    Masses are exact to quadrature. Density and distribution function sum over all z with one
    slope, found by interpolation: their error is of second order in 1/points. Where phi is
    straight at its largest slope that is the atom; other straight parts are nodes of infinite density.
    """
    root, tail = jnp.sqrt(q), _tail(q.dtype)
    kinks = jnp.clip(jnp.asarray(layer.activation.landmarks, q.dtype) / root, -tail, tail)
    panel, *rule = panel_rule(points)
    within, weight = (jnp.asarray(x, q.dtype) for x in rule)
    even = jnp.linspace(-tail, tail, int(panel[-1]) + 2 - kinks.size, dtype=q.dtype)
    breaks = jnp.sort(jnp.concatenate([even, kinks]))
    width = jnp.diff(breaks)[panel]
    z = breaks[panel] + width * within
    mass = width * weight * jnp.exp(-z * z / 2) / jnp.sqrt(2 * jnp.pi)

    def logarithm(z):
        square = slope(layer.activation, root * z) ** 2
        relative = square / law.largest
        square = jnp.where(relative < law.least, 0.0, square)
        value = jnp.log(jnp.where(square > 0, relative, 1.0)) / 2
        return jnp.where(square > 0, value, -jnp.inf), relative == 1

    log_s, at_top = logarithm(z)
    flat = jnp.sum(jnp.where(at_top, mass, 0.0))
    flat = jnp.where(flat > 1e-6, flat, 0.0)
    silent = jnp.isneginf(log_s)
    zero = jnp.sum(jnp.where(silent, mass, 0.0))
    mass = jnp.where(silent | (at_top & (flat > 0)), 0.0, mass)
    order = jnp.argsort(log_s)
    log_s, mass = log_s[order], mass[order]

    # Edges between nodes; each cell spreads its probability evenly over the log s it covers.
    edges = jnp.concatenate([breaks[:1], breaks[panel] + width * jnp.clip(within, 0, 1), breaks[-1:]])
    edges = jnp.sort(jnp.concatenate([edges, kinks - 1e-9, kinks + 1e-9]))
    cell = jnp.diff(ndtr(edges))
    ends = logarithm(edges)[0]
    low, high = jnp.minimum(ends[:-1], ends[1:]), jnp.maximum(ends[:-1], ends[1:])
    spread = jnp.where(jnp.isfinite(low), high - low, jnp.inf)

    finite, divisor = jnp.isfinite(spread), jnp.where(spread > 0, spread, 1)

    def at(x):
        inside = (low < x) & (x <= high) & (spread > 0)
        density = jnp.sum(jnp.where(inside & finite, cell / divisor, 0))
        share = jnp.where(finite & (spread > 0), (x - low) / divisor, 1)
        below = jnp.where(high <= x, cell, jnp.where(inside, cell * jnp.clip(share, 0, 1), 0))
        return density, jnp.sum(below)

    density, cdf = jax.lax.map(at, log_s, batch_size=64)
    return dict(
        log_singular_value=log_s,
        density=density,
        mass=mass,
        cdf=cdf,
        zero=zero,
        atom=flat,
        log_atom=jnp.where(flat > 0, 0.0, -jnp.inf),
        log_largest=jnp.where(law.unbounded, jnp.inf, jnp.max(log_s)),
    )
