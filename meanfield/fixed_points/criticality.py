"""The edge of chaos: where chi_1 = 1."""

import warnings
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from meanfield.fixed_points.critical_search import Found, node_at, rounding, searched
from meanfield.fixed_points.result import as_table, masked
from meanfield.layers import Dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import NormalPrior
from meanfield.status import Status
from meanfield.support import validation


class NoCriticalPointWarning(UserWarning):
    """``critical_weight_var`` is NaN: there is no edge of chaos at that bias variance."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class CriticalLine:
    """Points at which chi_1 = 1, each at its own variance q; all leaves of one shape.

    weight_var, bias_var: the prior there. chi_q: Q'(q). status:

    * CONVERGED: the point lies on the critical line.
    * VANISHING: the point is the line's end at q = 0, without bias (tanh: weight_var 1).
    * MARGINAL: without bias, every variance is a fixed point (ReLU: weight_var 2).
    * UNSTABLE: q repels (|chi_q| >= 1), so that no signals get there; the numbers are given.
    * INVALID: no bias_var >= 0 makes q critical, or no q is critical at that bias_var.
    """

    weight_var: Float[Array, "..."]
    bias_var: Float[Array, "..."]
    q: Float[Array, "..."]
    chi_q: Float[Array, "..."]
    status: Int[Array, "..."]

    __repr__ = as_table


def critical_line(activation, q, anticorrelation=0.0) -> CriticalLine:
    """The critical prior at each variance q > 0, in closed form: no fixed point is solved for.

    q and anticorrelation broadcast. Raises TypeError or ValueError.
    Source: THEORY section 6; Schoenholz et al. 2017.
    """
    q = validation.real("q", q, low=0.0, low_open=True)
    layer = _unit_layer(activation, anticorrelation)
    layer.look_at(q)
    return pointwise(_at_variance, layer, q)


def critical_point(activation, bias_var, anticorrelation=0.0) -> CriticalLine:
    """The critical prior with each bias_var >= 0: ``critical_line`` solved for the variance q.

    Of several points on the line, that with the least weight_var; where all repel, that of those,
    UNSTABLE; where chi_1 = 1 at no q, NaN and INVALID. Without bias the line's end at q = 0 counts,
    VANISHING; where MARGINAL, 1 stands for any q. Searched is q up to 1e20, in single
    precision up to 1e12; points within 1e-4 of one another (relative, in q) may be missed.

    bias_var and anticorrelation broadcast. Differentiable.
    Raises TypeError or ValueError. Source: THEORY section 6.
    """
    bias_var = validation.real("bias_var", bias_var, low=0.0)
    return pointwise(_at_bias, _unit_layer(activation, anticorrelation), bias_var)


def critical_weight_var(activation, bias_var, anticorrelation=0.0) -> Float[Array, "..."]:
    """sigma_w^2 at the edge of chaos for each bias_var >= 0; NaN where there is no edge.

    That of ``critical_point`` where its status is CONVERGED, VANISHING or MARGINAL. Where there is
    none a ``NoCriticalPointWarning`` says why, unless the call is traced.
    bias_var and anticorrelation broadcast. Differentiable.
    Raises TypeError or ValueError. Source: THEORY section 6.
    """
    point = critical_point(activation, bias_var, anticorrelation)
    if not validation.is_traced(point):
        _warn_where_none(activation, anticorrelation, jax.device_get(point))
    return jnp.where(point.status == Status.UNSTABLE, jnp.nan, point.weight_var)


def _unit_layer(activation, anticorrelation) -> Dense:
    """The layer with weight variance 1 and without bias, from which all others follow."""
    return Dense(activation, NormalPrior(1.0, 0.0, anticorrelation)).exact()


def _at_variance(layer, q) -> CriticalLine:
    valid = layer.is_valid() & (q > 0) & jnp.isfinite(q)
    layer = layer.guarded(valid)
    q = jnp.where(valid, q, 1.0)
    node = node_at(layer, q)
    lost = rounding(q)
    bias_var = jnp.where(jnp.abs(node.bias_var) <= lost * q, 0.0, node.bias_var)
    status = jnp.where(node.attracts, Status.CONVERGED, Status.UNSTABLE)
    marginal = (bias_var == 0) & (jnp.abs(node.contraction) <= lost)
    status = jnp.where(marginal, Status.MARGINAL, status)
    status = jnp.where((bias_var >= 0) & (node.weight_var > 0), status, Status.INVALID)
    line = CriticalLine(node.weight_var, bias_var, q, 1 - node.contraction, status)
    return masked(line, valid)


def _at_bias(layer, bias_var) -> CriticalLine:
    valid = layer.is_valid() & (bias_var >= 0) & jnp.isfinite(bias_var)
    layer = layer.guarded(valid)
    target = jnp.where(valid, bias_var, 0.1)
    found: Found = searched(layer, target)
    node = node_at(layer, jnp.exp(found.log_q))
    q = jnp.where(found.at_zero, 0.0, jnp.exp(found.log_q))
    status = jnp.where(found.at_zero, Status.VANISHING, Status.CONVERGED)
    status = jnp.where(found.marginal, Status.MARGINAL, status)
    status = jnp.where(found.attracts, status, Status.UNSTABLE)
    point = CriticalLine(node.weight_var, target, q, 1 - node.contraction, status)
    point = masked(point, valid & found.exists)
    return replace(point, bias_var=jnp.where(valid, target, jnp.nan))  # known where nothing else is


def _warn_where_none(activation, anticorrelation, point) -> None:
    """Warn of points off the line, with the numbers of the first."""
    missing = (point.status == Status.UNSTABLE) | (point.status == Status.INVALID)
    if not np.any(missing):
        return
    first = jax.tree.map(lambda x: x[missing][0], point)
    kappa = np.broadcast_to(anticorrelation, np.shape(missing))[missing][0]
    why = "chi_1 = 1 holds at no weight_var"
    if first.status == Status.UNSTABLE:
        why = (
            f"chi_1 = 1 holds at weight_var {first.weight_var:.7g}, q = {first.q:.6g}, "
            f"but that q repels (Q' = {first.chi_q:.5g})"
        )
    where = f" at {np.sum(missing)} of {missing.size} points, the first" if np.size(missing) > 1 else ""
    warnings.warn(
        f"there is no edge of chaos of {activation!r}{where} at bias_var {first.bias_var:.6g}, "
        f"anticorrelation {kappa:g}: {why}",
        NoCriticalPointWarning,
        stacklevel=3,
    )
