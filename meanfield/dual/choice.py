"""Which source of moments an activation gets, and whether it is good enough."""

import dataclasses
import warnings

import jax
import numpy as np

from meanfield.activations.activation import Activation, rebuilt, static_fields
from meanfield.activations.names import FAMILIES, FIXED
from meanfield.dual.adaptive import moments_of
from meanfield.dual.base import Dual
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.hermite import HermiteDual, chord_tails
from meanfield.dual.quadrature import QuadratureDual
from meanfield.numerics.memo import Memo

TOLERANCE = 1e-10
_REFINEMENTS = (1, 2)
_NOTHING = 1e-16
_MOST_VALUES = 16  # of a parameter that is an array, at which a rule is tried
_PROBED = (1e-3, 0.1, 1.0, 10.0, 100.0)
_TRUSTED = {a.fn for a in FIXED.values()} | {FAMILIES[name]().fn for name in ("elu", "celu")}


class QuadratureWarning(UserWarning):
    """A quadrature does not reach its tolerance: undeclared kinks, or too short a length of variation."""


def dual_of(activation) -> Dual:
    """The moments of an activation in closed form where there is one, else by quadrature.

    The quadrature of a callable of the user's is tried at several variances. If its error
    is above 1e-10 there, its nodes are doubled, and a Hermite series tried if there are no
    kinks. Warns with ``QuadratureWarning`` where that is not enough. An activation that
    closes over traced values cannot be tried; its points are marked ``Status.INACCURATE``
    where they are.
    """
    exact = closed_form(activation)
    if exact is not None:
        return exact
    if activation.traced or activation.program in _TRUSTED:
        return QuadratureDual(activation)
    if any(isinstance(p, jax.core.Tracer) for p in activation.params):
        return QuadratureDual(activation)
    rule = _RULES(activation.key, lambda: _tried(activation))
    return dataclasses.replace(rule, activation=activation)


def is_tabulable(dual: Dual) -> bool:
    """Whether a table serves many points faster than the dual itself: not where c* is in closed form."""
    return dual.is_tabulable


_RULES: Memo[QuadratureDual] = Memo(1024)


def _some_of(activation) -> list[Activation]:
    """The activation at a few of the values of its parameters, which may be arrays of one shape."""
    together = np.broadcast_arrays(*(np.asarray(p, np.float64) for p in activation.params))
    size = together[0].size if activation.params else 1
    chosen = np.unique(np.linspace(0, size - 1, _MOST_VALUES).astype(int))
    values = zip(*(p.ravel()[chosen] for p in together), strict=True) if activation.params else [()]
    return [rebuilt(Activation, static_fields(activation), params=tuple(map(float, v))) for v in values]


def _tried(activation) -> QuadratureDual:
    """The first rule that resolves the activation at all variances that are tried, or at the most."""
    candidates = [QuadratureDual(activation, refinement) for refinement in _REFINEMENTS]
    if not activation.kinks:
        candidates.append(HermiteDual(activation))
    tried: list[tuple[np.ndarray, QuadratureDual]] = []
    some = _some_of(activation)
    for rule in candidates:
        at = [rule_errors(dataclasses.replace(rule, activation=one), _PROBED) for one in some]
        errors = np.max(at, axis=0)
        if np.all(errors <= TOLERANCE):
            return rule
        tried.append((errors, rule))
    errors, rule = max(tried, key=lambda pair: np.sum(pair[0] <= TOLERANCE))  # the first of equals
    _warn(activation, errors, _PROBED)
    return rule


def rule_errors(rule: QuadratureDual, q) -> np.ndarray:
    """Relative error of a quadrature's mean, variance and E phi'^2 at variances, against adaptive moments.

    The activation's parameters are numbers.
    """
    q, moments = np.asarray(q, float), moments_of(rule.activation)
    (shift, variance), slope = moments.lines(q), moments.slope_moment(q)
    found = np.array([moments.by_rule(u, w) for u, w in zip(*rule.nodes(q), strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        of_mean = np.abs(found[:, 0] - shift) / (np.abs(shift) + np.sqrt(variance))
        of_rest = np.abs(found[:, 1:] / np.stack([variance, slope], axis=1) - 1)
    of_rest[:, 1] = np.where(np.isinf(slope), 0.0, of_rest[:, 1])
    same = np.all(found[:, :2] == np.stack([shift, variance], axis=1), axis=1)
    same |= (found[:, 1] == 0) & (variance <= _NOTHING * q)  # phi vanishes but for signals that nobody meets
    errors = np.where(same, 0.0, np.nan_to_num(np.max([of_mean, *of_rest.T], axis=0), nan=np.inf))
    if isinstance(rule, HermiteDual):
        errors = np.maximum(errors, chord_tails(rule.activation, q)[1])
    return np.maximum(errors, moments.error(q))


def warn_where_unresolved(dual: Dual, q) -> None:
    """Warn if the moments that a map is made of are not resolved at the ends of a range of variances.

    Silent where nobody can look: for what is traced, and for parameters that are arrays.
    """
    if not dual.is_surveyable or isinstance(q, jax.core.Tracer):
        return
    activation = dual.activation  # type: ignore[attr-defined]
    concrete = not any(isinstance(p, jax.core.Tracer) or np.ndim(p) for p in activation.params)
    if activation.traced or activation.program in _TRUSTED or not concrete:
        return
    q = np.asarray(q, np.float64)
    met = np.unique(q[np.isfinite(q) & (q > 0)])
    if met.size:
        ends = met[[0, -1]]
        errors = rule_errors(dual, ends)  # type: ignore[arg-type]
        if np.any(errors > TOLERANCE):
            worst = int(np.argmax(errors))
            _warn(activation, errors[worst:], ends[worst:])


def _warn(activation, errors: np.ndarray, at) -> None:
    first = int(np.argmin(errors <= TOLERANCE))
    below = f" (up to {at[first - 1]:g} they are resolved)" if first else ""
    warnings.warn(
        f"the Gaussian moments of the activation {activation.name!r} have a relative error of "
        f"{errors[first]:.0e} at variance {at[first]:g}{below}. If it has kinks or jumps, declare "
        "where: meanfield.Activation(fn, kinks=(...)); if it varies quickly, but only near its kinks or the "
        "origin, on what length: scale=... Fixed points that are not resolved are marked Status.INACCURATE.",
        QuadratureWarning,
        stacklevel=3,
    )
