"""Gaussian moments of an activation: closed form where there is one, else quadrature."""

from meanfield.dual.base import Dual
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.homogeneous import LinearPieces, QuadraticPieces
from meanfield.dual.quadrature import QuadratureDual

__all__ = ["Dual", "LinearPieces", "QuadraticPieces", "QuadratureDual", "closed_form", "dual_of"]


def dual_of(activation) -> Dual:
    """The moments of an activation, from the best source there is."""
    return closed_form(activation) or QuadratureDual(activation)
