"""Gaussian moments of an activation: closed form where there is one, else quadrature."""

from meanfield.dual.base import Dual
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.homogeneous import LinearPieces, QuadraticPieces
from meanfield.dual.quadrature import QuadratureDual, QuadratureWarning

__all__ = [
    "Dual",
    "LinearPieces",
    "QuadraticPieces",
    "QuadratureDual",
    "QuadratureWarning",
    "best_dual",
    "closed_form",
    "dual_of",
]


def dual_of(activation) -> Dual:
    """The moments of an activation in closed form where there is one, else by quadrature."""
    return closed_form(activation) or QuadratureDual(activation)


def best_dual(activation, points: int) -> Dual:
    """The source of moments that serves ``points`` points fastest."""
    return dual_of(activation)
