"""Panels along the curve of a spectrum: each with as much of its length as any other.

Between two marks a place on the curve is told by a phase from 0 to pi, s = low + (high - low) sin^2(phase/2),
in which square-root edges at both ends are smooth.
"""

import functools

import jax
import jax.numpy as jnp

from meanfield.numerics.roots import nonzero
from meanfield.spectra.resolvent import Product

_COARSE = 256
_REFINEMENTS = 2
_LOWEST = 1e-6  # phase, over pi, to which panels narrow towards a corner
_FEWEST = 4  # panels between two marks
_ON_AXIS = -25.0  # log tan(theta/2) of what lies outside the spectrum
_LITTLE, _IMPORTANCE = 3e-4, 0.25  # nodes thin out as this power of what is left, or tails take them all
_EVENLY = 0.3  # share of nodes that are spread evenly


def on_axis(w):
    """Whether log tan(theta/2) is that of a point outside the spectrum."""
    return w <= _ON_AXIS


def panels_along(product: Product, ends, panels: int, corner: bool, zero):
    """(segment of each panel, its first and last phase, a guess of log tan(theta/2) at any s).

    Each panel holds as much as any other of the length of the curve of (s, theta, log density), and more
    where little probability is left; no panel lies in a gap of the spectrum.

    ends: the marks, ascending; a segment lies between two of them. zero: P(d = 0).
    corner: whether to narrow panels towards marks by decades. Two orthogonal layers of a phi that is straight
        on half the line run into the pole there as the square root of the distance, until
        the few other slopes that equal that one round the corner off.
    """
    segments = ends.size - 1
    coarse = _COARSE if segments == 1 else max(_COARSE // 4, 3 * _COARSE // 2 // segments)
    even = jnp.linspace(0.0, 1.0, coarse + 2, dtype=ends.dtype)
    start = jnp.broadcast_to(_at_rung(even) if corner else jnp.pi * even, (segments, even.size))
    nowhere = jnp.linspace(ends[0], ends[-1], segments * coarse)
    refined = functools.partial(_refined, product, ends, _rung if corner else lambda x: x / jnp.pi, zero)
    phase, length, guess = jax.lax.fori_loop(
        0,
        _REFINEMENTS if segments == 1 else 2 * _REFINEMENTS,
        lambda _, state: refined(state[0], state[2]),
        (start, jnp.zeros(segments, ends.dtype), (nowhere, 0 * nowhere)),
    )
    return *_shared_out(phase, length, panels), lambda s: jnp.interp(s, *guess)


def _refined(product, ends, evenly, zero, phase, guess):
    """Phases at equal lengths of the curve, from its points at others; those lengths; its s and w.

    evenly: from 0 to 1 as the phase goes from 0 to pi, as nodes are spread where the curve asks for none.
    """
    low, high = ends[:-1, None], ends[1:, None]
    inner = phase[:, 1:-1]
    s = low + (high - low) * jnp.sin(inner / 2) ** 2
    w = product.half_angle(s.ravel(), jnp.interp(s.ravel(), *guess)).reshape(s.shape)
    length = _lengths(product, s, w, zero)
    nothing = on_axis(w[:, s.shape[1] // 2]) | (high - low <= jnp.finfo(s.dtype).tiny)[:, 0]
    total = jnp.where(nothing, 0.0, jnp.sum(length, axis=1))
    share = length / nonzero(total)[:, None] + _EVENLY * jnp.diff(evenly(inner))
    position = jnp.cumsum(jnp.pad(share, ((0, 0), (1, 0))), axis=1)
    phases = inner.at[:, 0].set(0.0).at[:, -1].set(jnp.pi)
    even = jnp.linspace(0.0, 1.0, phase.shape[1], dtype=s.dtype)
    moved = jax.vmap(lambda x, at: jnp.interp(even * x[-1], x, at))(position, phases)
    return moved, total, (s.ravel(), w.ravel())


def _lengths(product, s, w, zero):
    """Of the curve of (s, theta, log density) between neighbours, less where little is left; rows of s."""
    curve = product.at(s.ravel(), w.ravel())
    tiny = jnp.finfo(s.dtype).tiny
    coordinates = (s, curve.theta, jnp.log(jnp.maximum(curve.density, tiny)) / 2)
    length = sum(jnp.diff(c.reshape(s.shape)) ** 2 for c in coordinates) ** 0.5
    length = jnp.minimum(length, 2.0)  # what lies outside the spectrum needs no nodes
    left = jnp.clip(1 - zero - curve.survival.reshape(s.shape)[:, :-1], _LITTLE, 1.0)
    return length * left**_IMPORTANCE


def _shared_out(phase, length, panels: int):
    """(segment of each panel, its first and last phase), so many in a segment as its length is to all."""
    segments = length.size
    some = length > 0
    least = min(_FEWEST, max(1, panels // (2 * segments)))
    share = length / jnp.sum(length) * (panels - least * jnp.sum(some)) + jnp.where(some, least, 0)
    last = jnp.round(jnp.cumsum(share)).astype(int).at[-1].set(panels)
    number = jnp.arange(panels)
    segment = jnp.minimum(jnp.searchsorted(last, number, side="right"), segments - 1)
    before = jnp.concatenate([jnp.zeros(1, last.dtype), last])[segment]
    count = jnp.maximum(last[segment] - before, 1)
    even = jnp.linspace(0.0, 1.0, phase.shape[1], dtype=phase.dtype)

    def place(number):
        return jax.vmap(lambda x, i: jnp.interp(x, even, phase[i]))((number - before) / count, segment)

    return segment, (place(number), place(number + 1))


def _rung(phase):
    """From 0 to 1 as the phase goes from 0 to pi, evenly in its logarithm near both ends."""
    near = jnp.minimum(phase, jnp.pi - phase) / jnp.pi
    rung = jnp.log1p(2 * near / _LOWEST) / jnp.log1p(1 / _LOWEST) / 2
    return jnp.where(2 * phase < jnp.pi, rung, 1 - rung)


def _at_rung(rung):
    """The phase at which ``_rung`` is that."""
    near = _LOWEST / 2 * jnp.expm1(2 * jnp.minimum(rung, 1 - rung) * jnp.log1p(1 / _LOWEST))
    return jnp.pi * jnp.where(rung < 0.5, near, 1 - near)
