"""Where the curve meets the real axis: points that no quadrature along it may straddle.

A squared slope of positive probability is a pole of u and v on the axis, and the curve may have a
corner there (two orthogonal layers: where projections just fail to meet). Slopes of two far
sizes, as those of a leaky ReLU, may leave a gap between two parts of the spectrum, with a
square-root edge on either side. Both exist only where phi has kinks, which bounds their number.
"""

import jax
import jax.numpy as jnp

from meanfield.numerics.roots import bisected
from meanfield.spectra.resolvent import Product

_LIKELY = 1e-4  # probability of a slope that makes it an atom
_REPEATED = 8  # nodes: an even phi' has pairs of equal values without being straight
_LOOKED = 200


def marks(product: Product, low, high, kinks: int):
    """Ascending s from low to high, shape (3 kinks + 3,), between which the curve is smooth."""
    some = [low, high]
    if kinks:
        some += [*_atoms(product, kinks + 1), *_gaps(product, kinks)]
    return jnp.sort(jnp.clip(jnp.stack(some), low, high))


def _atoms(product, most):
    law = product.slopes
    same = law.square[:, None] == law.square
    likely = jnp.where(jnp.sum(same, axis=1) >= min(_REPEATED, law.square.size // 2), same @ law.weight, 0.0)
    likely = jnp.where(law.square > 0, likely, 0.0)
    found = []
    for _ in range(most):
        value = law.square[jnp.argmax(likely)]
        found.append(jnp.where(jnp.max(likely) > _LIKELY, -jnp.log(value), jnp.inf))
        likely = jnp.where(law.square == value, 0.0, likely)
    return found


def _gaps(product, most):
    """Both ends of the gap between each of the widest jumps of the law, if the spectrum has one there."""
    law = product.slopes
    logs = -jnp.sort(-jnp.where(law.square > 0, jnp.log(law.square), -jnp.inf))
    widths = jnp.where(jnp.isfinite(logs[1:]), logs[:-1] - logs[1:], 0.0)
    ends = []
    for _ in range(most):
        i = jnp.argmax(widths)
        ends += _gap_between(product, -logs[i], -logs[i + 1])
        widths = widths.at[i].set(0.0)
    return ends


def _gap_between(product, low, high):
    share = jnp.sin(jnp.linspace(0.0, jnp.pi / 2, _LOOKED + 2, dtype=low.dtype)[1:-1]) ** 2
    slopes = jax.vmap(product.gap_slope)(low + (high - low) * share)
    lowest = jnp.argmin(slopes)
    middle = low + (high - low) * share[lowest]

    is_free = lambda s: product.gap_slope(s) < 0
    free = slopes[lowest] < 0
    return [jnp.where(free, bisected(is_free, middle, end)[0], jnp.inf) for end in (low, high)]
