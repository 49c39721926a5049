"""Where the tokens of a transformer end: every fixed point of the angle, and how gradients grow there."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from meanfield.layers import Transformer
from meanfield.layers.attention import Tokens
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import bisected, implicit_root, newton_step
from meanfield.support import validation

_MOST = 5  # fixed points beside c = 1
_NEAREST = 1e-6  # 1 - c below it is not searched
_HALVINGS, _NEWTON_STEPS = 36, 4
_APART = np.concatenate([np.geomspace(_NEAREST, 0.02, 12, endpoint=False), np.linspace(0.02, 1.0, 50)])


@register_dataclass
@dataclass(frozen=True, eq=False)
class TokenPhases:
    r"""Fixed points of the correlation of two tokens, ascending; shape (..., 6), NaN beyond their number.

    Last comes collapse, c = 1, which is always fixed. c: correlation; one_minus_c: 1 - c. chi_c: slope C'(c)
    of the map of a block (of what blocks add, with pre-norms). stable: whether chi_c < 1.
    growth: of the two modes of a squared tangent or gradient, shape (..., 6, 2), larger first: at collapse
    that of the tokens' mean and that of their differences.

    With post-norms deviations go like chi_c^l and gradients like growth^l in l blocks, with pre-norms like
    l^(chi_c - 1) and l^growth.
    """

    c: Float[Array, "... points"]
    one_minus_c: Float[Array, "... points"]
    chi_c: Float[Array, "... points"]
    stable: Bool[Array, "... points"]
    growth: Float[Array, "... points modes"]

    def reached(self, c0) -> Float[Array, "..."]:
        """The correlation at which tokens of correlation c0 end; c0 broadcasts with the blocks.

        An unstable fixed point is the border of two basins, and is kept by what starts on it exactly.
        Raises TypeError or ValueError for c0 outside 0 to 1.
        """
        c0 = jnp.asarray(validation.real("c0", c0, low=0.0, high=1.0))[..., None]
        above = jnp.where(self.stable & (self.c >= c0), self.c, jnp.inf)
        below = jnp.where(self.stable & (self.c <= c0), self.c, -jnp.inf)
        border = jnp.isfinite(self.c) & ~self.stable
        up, down = jnp.min(above, axis=-1), jnp.max(below, axis=-1)
        between = lambda low, high: jnp.any(border & (self.c >= low) & (self.c <= high), axis=-1)
        up_free = jnp.isfinite(up) & ~between(c0, up[..., None])
        down_free = jnp.isfinite(down) & ~between(down[..., None], c0)
        on_border = jnp.max(jnp.where(border & (self.c == c0), self.c, -jnp.inf), axis=-1)
        reached = jnp.where(up_free, up, jnp.where(down_free, down, jnp.nan))
        return jnp.where(jnp.isfinite(on_border), on_border, reached)


def token_phases(block: Transformer) -> TokenPhases:
    """All correlations at which the tokens of a transformer's blocks stay, stable or not.

    The c-map of attention is not convex, so that tokens can collapse or stay apart by where they start. A
    grid of 62 correlations is searched; two fixed points between neighbours of it, or one of 1 - c < 1e-6,
    are not seen. Of arrays of parameters, all points. Differentiable. Raises TypeError.
    Source: THEORY section 12; Cowsik et al. 2024, arXiv:2403.02579.
    """
    if not isinstance(block, Transformer):
        raise TypeError(f"block must be a meanfield.Transformer, got {block!r}: for layers use fixed_points")
    return TokenPhases(**pointwise(_phases, block, optimization=2))


def _phases(block) -> dict:
    valid = block.is_valid()
    grid = jnp.asarray(_APART, block.dtype())
    excess = lambda apart, coarse=False: block.limit_map(apart, coarse) / apart - 1

    above = jax.lax.map(lambda apart: excess(apart, True) > 0, grid)
    (places,) = jnp.nonzero(above[1:] != above[:-1], size=_MOST, fill_value=-1)

    def refined(found):
        # Newton's method ends at the root of fine sums from that of coarse ones. Most places are empty.
        place, steps = jnp.maximum(found, 0), jnp.where(found >= 0, _HALVINGS, 0)
        signed = lambda apart: (excess(apart, True) > 0) == above[place]
        low, high = jax.lax.stop_gradient(bisected(signed, grid[place], grid[place + 1], steps))
        further = jnp.where(found >= 0, _NEWTON_STEPS, 0)

        def solve(gap, start):
            step = lambda _, x: jnp.clip(newton_step(gap, x), _NEAREST, 1.0)
            return jax.lax.fori_loop(0, further, step, start)

        apart = implicit_root(excess, (low + high) / 2, solve)
        slope = jax.jvp(block.limit_map, (apart,), (jnp.ones_like(apart),))[1]
        return apart, slope, _growth(block, apart)

    found = jax.lax.map(refined, places)
    none = jnp.zeros_like(grid[0])
    collapse = none, _slope_at_collapse(block), _growth(block, none)
    # Roots come in the order of 1 - c, results in that of c.
    joined = [jnp.concatenate([x[::-1], end[None]]) for x, end in zip(found, collapse, strict=True)]
    known = jnp.append((places >= 0)[::-1], True) & valid
    order = jnp.argsort(~known, stable=True)
    masked = [jnp.where(known.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan)[order] for x in joined]
    apart, slope, growth = masked
    return dict(c=1 - apart, one_minus_c=apart, chi_c=slope, stable=slope < 1, growth=growth)


def _slope_at_collapse(block):
    """C'(1): attention keeps what tokens share and takes away what parts them."""
    one = jnp.ones((), block.dtype())
    mlp_q, mlp_rate = block.mlp.variance_map(one), block.mlp.slope_at_one(one)
    (a, b), (c, d) = ((x**2, y**2) for x, y in (block.attention, block.feedforward))
    if block.norm == "pre":
        return d * mlp_rate / (b * block.value_var + d * mlp_q)
    return a / (a + b * block.value_var) * (c + d * mlp_rate) / (c + d * mlp_q)


def _growth(block, apart):
    """Eigenvalues of the matrix that tangents are multiplied by, the larger first."""
    one = jnp.ones_like(apart)
    (a, b), (c, d) = ((x**2, y**2) for x, y in (block.attention, block.feedforward))
    attention, mlp = block.tangents(apart)
    unit = jnp.eye(2, dtype=attention.dtype)
    if block.norm == "pre":
        matrix = (b * attention + d * mlp) / block.added(apart).q
    else:
        raw = a + b * block.attended(apart).q
        between = block.mixed(Tokens(one, apart)).delta
        mlp = block.tangents_of_mlp(between)
        matrix = (
            (c * unit + d * mlp) / (c + d * block.mlp.variance_map(one)) @ (a * unit + b * attention) / raw
        )
    half, spread = jnp.trace(matrix) / 2, (matrix[0, 0] - matrix[1, 1]) ** 2 + 4 * matrix[0, 1] * matrix[1, 0]
    root = jnp.sqrt(jnp.maximum(spread, 0.0)) / 2
    return jnp.stack([half + root, half - root])
