"""Which source of moments an activation gets, and whether it is good enough."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations import FAMILIES, FIXED
from meanfield.dual.base import Dual
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.quadrature import QuadratureDual

TOLERANCE = 1e-10
_REFINEMENTS = (1, 2)
_PROBED = (1e-3, 0.1, 1.0, 10.0, 100.0)
_TRUSTED = {a.fn for a in FIXED.values()} | {FAMILIES[name]().fn for name in ("elu", "celu")}


class QuadratureWarning(UserWarning):
    """A quadrature does not reach its tolerance: an activation has undeclared kinks."""


def dual_of(activation) -> Dual:
    """The moments of an activation in closed form where there is one, else by quadrature.

    The quadrature of a callable of the user's is tried at several variances, and its
    nodes doubled if its error is above 1e-10 there. Warns with ``QuadratureWarning``
    where that is not enough. An activation that closes over traced values cannot be
    tried; its points are marked ``Status.INACCURATE`` where they are.
    """
    exact = closed_form(activation)
    if exact is not None:
        return exact
    if activation.traced or activation.fn in _TRUSTED:
        return QuadratureDual(activation)
    if any(isinstance(p, jax.core.Tracer) for p in activation.params):
        return QuadratureDual(activation)
    return QuadratureDual(activation, _refinement(activation))


def is_tabulable(dual: Dual) -> bool:
    """Whether a table serves many points faster than the dual itself: not where c* is in closed form."""
    return dual.is_tabulable


def _refinement(activation) -> int:
    key = activation.fn, activation.kinks, activation.scale
    if key not in _REFINED:
        _REFINED[key] = _tried(activation)
    return _REFINED[key]


_REFINED: dict[tuple, int] = {}


def _tried(activation) -> int:
    with jax.enable_x64(True):
        q = jnp.asarray(_PROBED)
        for refinement in _REFINEMENTS:
            dual = QuadratureDual(activation, refinement)
            errors = np.asarray(jax.jit(jax.vmap(dual.error))(q))
            if np.all(errors <= TOLERANCE):
                return refinement
    worst = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    warnings.warn(
        f"the Gaussian moments of the activation {activation.name!r} have a relative error of "
        f"{errors[worst]:.0e} at variance {_PROBED[worst]:g}. If it has kinks or jumps, declare where: "
        f"meanfield.Activation(fn, kinks=(...)); if it varies on a length other than 1: scale=...",
        QuadratureWarning,
        stacklevel=2,
    )
    return _REFINEMENTS[-1]
