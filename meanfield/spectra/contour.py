r"""Integrals over squared slopes t = d^2 against 1/(1 - y t), with y however near the real axis.

On nodes along the real line those integrals see each node for itself as soon as y comes nearer
to 1/t than the nodes lie to each other: the law is continuous, its stand-in is not. Here the
line of z is bent so that arg t rises, away from the poles of 1/(1 - y t) for y above the axis:
the same integrals by Cauchy's theorem, and smooth along the bent line. It is bent by

    z = x + i eta(x),    eta = c h(x) sign(dt/dx) smoothed,

h the width of the panels, which narrow towards kinks and zeros of phi', where the line returns to the
axis. Beside it phi' is the polynomial through its values in the panel, or log phi'^2 is,
whichever settles faster.

Sources: Hackbusch & Sauter, Numer. Math. 1994, and Helsing & Ojala, J. Comput. Phys. 227 (2008), treat near
poles in other ways; the bent line is made here.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex
from numpy.polynomial import legendre

from meanfield.dual.quadrature import _tail
from meanfield.numerics.legendre import gauss_legendre, polynomials, to_coefficients
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import nonzero
from meanfield.spectra.slopes import SlopeLaw, silent_points, slope

_ORDER = 16
_MANY = 3  # kinks and zeros of phi' with panels of their own: more of them share as many, to bound memory
_BEND, _TURN = 0.5, 1.5
_GRID = 128  # points on each side of a kink or zero, by which panels are placed
_NEAREST = 1e-8  # of the activation's scale: where panels stop narrowing towards a kink
_GRADED, _FALL, _STEEPEST = 2.0, 4.0, 8.0  # what a panel may span: of log distance and log t; per point
_DEEP = 60.0  # below the largest log t: where panels span more and more of it
_SETTLED = 1e-9
_NEAR_CROSSING = 64  # units in the last place
_RELEVANT = 6.2  # standard deviations beyond which panels widen


@register_dataclass
@dataclass(frozen=True, eq=False)
class BentLaw:
    """Values of t relative to the largest, and weights, at complex nodes: sums are integrals over t."""

    value: Complex[Array, " nodes"]
    weight: Complex[Array, " nodes"]

    @classmethod
    def of(cls, layer, law: SlopeLaw, q, panels: int) -> "BentLaw":
        """The law at variance q > 0, ``panels`` on each side of a kink, twice as many with zeros of phi'."""
        if layer.dual.pieces:
            value, weight = law.square, law.weight
        else:
            value, weight = _bent(layer.activation, q, panels, law.least * law.largest)
            value = value / law.largest
            weight = weight / jnp.sum(weight)
        kind = jnp.result_type(law.square.dtype, jnp.complex64)
        return cls(value.astype(kind), weight.astype(kind))

    @property
    def zero(self):
        """P(d = 0)."""
        return jnp.sum(jnp.where(self.value == 0, self.weight.real, 0.0))


def _bent(activation, q, panels, least):
    root = jnp.sqrt(q)
    dtype, tail = root.dtype, _tail(root.dtype)
    silent = silent_points(activation)
    points = tuple(sorted({*activation.kinks, *silent})) or activation.landmarks
    panels = panels * (2 if silent else 1) * min(len(points), _MANY) // len(points)
    kinked = np.isin(points, (*activation.kinks, *silent))
    scale = jnp.minimum(1.0, activation.scale / root)
    centre = jnp.clip(jnp.asarray(points, dtype) / root, -tail, tail)
    middle = (centre[1:] + centre[:-1]) / 2
    tails = jnp.asarray([-tail], dtype), jnp.asarray([tail], dtype)
    lengths = centre - jnp.concatenate([tails[0], middle]), jnp.concatenate([middle, tails[1]]) - centre
    breaks = [tails[0]]
    for i, start in enumerate(centre):
        left, right = (
            length[i]
            * _fractions(activation, root, scale, start, sign, length[i], bool(kinked[i]), panels, least)
            for sign, length in zip((-1, 1), lengths, strict=True)
        )
        breaks += [start - left[-2::-1], start + right[1:]]
    at = jnp.concatenate(breaks)
    fixed = np.zeros(at.size, bool)
    fixed[panels :: 2 * panels] = kinked
    crossings = jnp.asarray(silent, dtype) / root
    return _along(activation, root, at, fixed, least, crossings)


def _along(activation, root, breaks, fixed, least, crossings):
    """(t, weights) on panels between breaks of z, bent but where ``fixed``.

    Panels with t < least are 0, but for those that phi' merely passes through zero in: they are ``least``.
    """
    rule = _rule()
    width = jnp.diff(breaks)
    divisor = jnp.where(width > 0, width, 1.0)[:, None]
    node, share = (jnp.asarray(x, root.dtype) for x in ((1 + rule.node) / 2, rule.weight / 2))
    d = slope(activation, root * (breaks[:-1, None] + width[:, None] * node))
    silent = jnp.any(d**2 < least, axis=1)
    bend = _bends(d, width, divisor, jnp.pad(silent, (1, 0)) | jnp.pad(silent, (0, 1)) | fixed)
    corner = breaks + 1j * bend
    step = jnp.diff(corner)[:, None]
    z = corner[:-1, None] + step * node
    weight = step * share * jnp.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    value = _continued(d, 2 * (step * node + 1j * bend[:-1, None]) / divisor - 1)
    # So near a crossing, slopes are rounding: that they vanish has probability zero all the same.
    reach = _NEAR_CROSSING * jnp.finfo(root.dtype).eps * (1 + jnp.abs(crossings))
    crossed = jnp.any(jnp.abs(breaks[:-1, None] + width[:, None] / 2 - crossings) <= reach, axis=1)
    value = jnp.where(silent[:, None], jnp.where(crossed, least, 0.0)[:, None], value)
    return value.ravel(), weight.ravel()


def _bends(d, width, divisor, fixed):
    """How far each break is off the axis.

    0 where fixed, and beside panels that are not smooth or hold a zero of phi' that nobody knew of.
    """
    h = jnp.minimum(jnp.append(width, width[-1]), jnp.append(width[:1], width))
    crossed = jnp.min(d, axis=1) * jnp.max(d, axis=1) < 0
    rough = jnp.pad(crossed | (_series(d)[2][:, 0] > _SETTLED), 1)
    h = jnp.where(fixed | rough[1:] | rough[:-1], 0.0, h)
    # l' and l'' of l = log d^2 at the ends of panels, times d^2/2, from both sides of each.
    ends = jnp.asarray(_rule().ends, d.dtype)
    size = jnp.max(jnp.abs(d), axis=1, keepdims=True)
    scaled = d / nonzero(size)
    value, first, second = (scaled @ ends[n].T * (2 / divisor) ** n for n in range(3))
    above = lambda x: jnp.append(x[:, 0], x[-1, 1])
    below = lambda x: jnp.append(x[:1, 0], x[:, 1])
    both = [_bend(side(value), side(first), side(second), h) for side in (above, below)]
    return jax.lax.stop_gradient((both[0] + both[1]) / 2)


def _bend(d, first, second, h):
    """c h l'/sqrt(l'^2 + (2 h l'')^2), which keeps the sign of l' and is smooth through its zeros.

    No more than turns t by ``_TURN``, or the next pole of 1/(1 - y t) would be met.
    """
    rise, turn = d * first, 2 * h * (d * second - first**2)
    size = jnp.sqrt(rise**2 + turn**2)
    bend = _BEND * h * rise / nonzero(size)
    most = _TURN * d**2 / jnp.where(rise == 0, 1.0, 2 * jnp.abs(rise))
    return jnp.where(rise == 0, 0.0, jnp.clip(bend, -most, most))


def _series(d):
    """Legendre coefficients of d or log d in each panel, whether of the latter, and how badly they settle."""
    transform = jnp.asarray(_rule().transform, d.dtype).T
    size = jnp.abs(d)
    some = jnp.all(size > 0, axis=1, keepdims=True)
    plain, logs = d @ transform, jnp.log(jnp.where(some, size, 1.0)) @ transform
    unsettled = lambda c: jnp.max(jnp.abs(c[:, -3:]), axis=1, keepdims=True)
    least, most = jnp.min(size, axis=1, keepdims=True), jnp.max(size, axis=1, keepdims=True)
    of_logs, of_plain = unsettled(logs), unsettled(plain) / nonzero(most)
    use_logs = some & (of_logs * least <= of_plain * most)
    return jnp.where(use_logs, logs, plain), use_logs, jnp.where(use_logs, of_logs, of_plain)


def _continued(d, place):
    """d^2 at complex places of the panels (-1 to 1 is the panel), from d at its nodes."""
    coefficients, use_logs, _ = _series(d)
    sums = sum(coefficients[:, n, None] * p for n, p in enumerate(polynomials(place, _ORDER)))
    return jnp.where(use_logs, jnp.exp(2 * jnp.where(use_logs, sums, 0.0)), sums**2)


def _fractions(activation, root, scale, start, sign, length, kinked, panels, least):
    """Ends of panels between 0 and 1: each spans as much of log r, z and log t as any other."""
    nearest = scale * (_NEAREST if kinked else 0.5)
    grade = jnp.log1p(length / nearest)
    grid = jnp.linspace(0.0, 1.0, _GRID, dtype=root.dtype)
    r = nearest * jnp.expm1(grid * grade)
    z = start + sign * r
    size = jnp.abs(slope(activation, root * z))
    logs = jnp.log(jnp.maximum(size**2, least))
    fall = jnp.abs(jnp.diff(logs)) / (1 + (jnp.max(logs) - logs[1:]) / _DEEP)
    far = 1 + (jnp.abs(z[1:]) / _RELEVANT) ** 12
    cost = (jnp.minimum(fall, _STEEPEST) / _FALL + jnp.diff(r)) / far + jnp.diff(grid) * grade / _GRADED
    position = jnp.concatenate([jnp.zeros(1, cost.dtype), jnp.cumsum(cost)])
    even = jnp.linspace(0.0, 1.0, panels + 1, dtype=cost.dtype)
    fraction = jnp.interp(even * position[-1], position, r / nonzero(r[-1]))
    return jax.lax.stop_gradient(fraction.at[0].set(0.0).at[-1].set(1.0))


@dataclass(frozen=True)
class _Rule:
    node: np.ndarray
    weight: np.ndarray
    transform: np.ndarray  # values at nodes to coefficients of Legendre polynomials
    ends: np.ndarray  # and to the polynomial's value and two derivatives at -1 and 1


@functools.cache
def _rule() -> _Rule:
    transform, each = to_coefficients(_ORDER), np.eye(_ORDER)
    ends = [legendre.legval([-1, 1], legendre.legder(each, n)) for n in range(3)]
    return _Rule(*gauss_legendre(_ORDER), transform, np.stack([e.T @ transform for e in ends]))
