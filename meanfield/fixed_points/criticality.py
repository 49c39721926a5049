"""The edge of chaos: where chi_1 = 1."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from meanfield.dual import LinearPieces
from meanfield.layers import as_layer
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import NormalPrior
from meanfield.status import Status
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False)
class CriticalLine:
    """Points at which chi_1 = 1, each at its own variance q; all leaves of one shape.

    weight_var, bias_var: the prior there. chi_q: Q'(q). status: CONVERGED where the
    point lies on the critical line, UNSTABLE where q repels (|chi_q| >= 1), INVALID
    where no bias_var >= 0 makes q critical; the numbers are given at each.
    """

    weight_var: Float[Array, "..."]
    bias_var: Float[Array, "..."]
    q: Float[Array, "..."]
    chi_q: Float[Array, "..."]
    status: Int[Array, "..."]


def critical_line(activation, q, anticorrelation=0.0) -> CriticalLine:
    """The critical prior at each variance q > 0, in closed form: no fixed point is solved for.

    q and anticorrelation broadcast. Raises TypeError or ValueError.
    Source: THEORY section 6; Schoenholz et al. 2017.
    """
    q = validation.real("q", q, low=0.0, low_open=True)
    layer = as_layer(activation, NormalPrior(1.0, 0.0, anticorrelation))
    return pointwise(_critical_point, layer, q)


def _critical_point(layer, q) -> CriticalLine:
    valid = layer.is_valid() & (q > 0) & jnp.isfinite(q)
    layer = layer.guarded(valid)
    q = jnp.where(valid, q, 1.0)

    def per_weight(q):
        return layer.dual.variance(q) + (1 - layer.prior.anticorrelation) * layer.dual.mean(q) ** 2

    weight_var = 1 / layer.dual.slope_moment(q)
    moment, slope = jax.jvp(per_weight, (q,), (jnp.ones_like(q),))
    bias_var, chi_q = q - weight_var * moment, weight_var * slope
    eps = jnp.finfo(q.dtype).eps
    bias_var = jnp.where(jnp.abs(bias_var) <= 8 * eps * q, 0.0, bias_var)
    # A homogeneous activation without bias is critical at every q: marginal, not repelling.
    marginal = isinstance(layer.dual, LinearPieces) & (bias_var == 0)
    status = jnp.where(jnp.abs(chi_q) < 1, Status.CONVERGED, Status.UNSTABLE)
    status = jnp.where(marginal, Status.MARGINAL, status)
    status = jnp.where((bias_var >= 0) & (weight_var > 0), status, Status.INVALID)
    weight_var, bias_var, q, chi_q = (jnp.where(valid, x, jnp.nan) for x in (weight_var, bias_var, q, chi_q))
    status = jnp.where(valid, status, Status.INVALID).astype(jnp.int32)
    return CriticalLine(weight_var, bias_var, q, chi_q, status)


_SEARCH = np.geomspace(1e-12, 1e6, 361)


def critical_weight_var(activation, bias_var, anticorrelation=0.0) -> Float[Array, "..."]:
    """sigma_w^2 at the edge of chaos for each bias_var >= 0; NaN where there is no edge.

    bias_var and anticorrelation broadcast. The smallest one, if a line is crossed more
    than once with a stable variance below 10^6. Differentiable.
    Raises TypeError or ValueError. Source: THEORY section 6.
    """
    bias_var = validation.real("bias_var", bias_var, low=0.0)
    layer = as_layer(activation, NormalPrior(1.0, 0.0, anticorrelation))
    return pointwise(_critical_weight, layer, bias_var)


def _critical_weight(layer, bias_var):
    valid = layer.is_valid() & (bias_var >= 0) & jnp.isfinite(bias_var)
    layer = layer.guarded(valid)
    target = jnp.where(valid, bias_var, 0.1)
    if isinstance(layer.dual, LinearPieces):
        return _critical_weight_of_pieces(layer, target, valid)

    log_q = jnp.log(jnp.asarray(_SEARCH, target.dtype))
    line = jax.lax.stop_gradient(jax.vmap(lambda x: _critical_point(layer, jnp.exp(x)))(log_q))
    stable = jnp.abs(line.chi_q) < 1
    excess = line.bias_var - jax.lax.stop_gradient(target)
    crossing = stable[1:] & stable[:-1] & (excess[1:] >= 0) & (excess[:-1] < 0)
    found = jnp.any(crossing)
    cell = jnp.where(found, jnp.argmax(crossing), 0)

    def gap(x):
        return jnp.where(found, _critical_point(layer, jnp.exp(x)).bias_var - target, x - log_q[0])

    def solve(f, start):
        def step(_, state):
            x, low, high = state
            value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
            low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
            new = x - value / jnp.where(slope == 0, jnp.inf, slope)
            return jnp.where((new >= low) & (new <= high), new, (low + high) / 2), low, high

        return jax.lax.fori_loop(0, 40, step, (start, log_q[cell], log_q[cell + 1]))[0]

    start = (log_q[cell] + log_q[cell + 1]) / 2
    x = jax.lax.custom_root(gap, start, solve, lambda g, y: y / g(jnp.ones_like(y)))
    weight_var = 1 / layer.dual.slope_moment(jnp.exp(x))
    # Without bias, a line that starts at q = 0 has its end there.
    at_zero = (target == 0) & ~found & stable[0] & (excess[0] >= 0) & (line.bias_var[0] <= 1e-6 * _SEARCH[0])
    end = 1 / layer.dual.slope_moment(jnp.asarray(_SEARCH[0], target.dtype))
    weight_var = jnp.where(found, weight_var, jnp.where(at_zero, end, jnp.nan))
    return jnp.where(valid, weight_var, jnp.nan)


def _critical_weight_of_pieces(layer, bias_var, valid):
    """ReLU family: chi_1 does not depend on q. With bias, q* must be finite (THEORY section 7)."""
    one = jnp.ones_like(bias_var)
    weight_var = 1 / layer.dual.slope_moment(one)
    growth = weight_var * (
        layer.dual.variance(one) + (1 - layer.prior.anticorrelation) * layer.dual.mean(one) ** 2
    )
    eps = 8 * jnp.finfo(one.dtype).eps
    exists = jnp.where(bias_var > 0, growth < 1 - eps, jnp.abs(growth - 1) <= eps)
    return jnp.where(valid & exists, weight_var, jnp.nan)
