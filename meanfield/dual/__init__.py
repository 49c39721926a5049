"""Gaussian moments of an activation: closed form, quadrature or table, behind one interface."""

from meanfield.dual.base import Dual
from meanfield.dual.choice import QuadratureWarning, dual_of
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.homogeneous import LinearPieces, QuadraticPieces
from meanfield.dual.quadrature import QuadratureDual
from meanfield.dual.table import panel_of, tables_of

__all__ = [
    "Dual",
    "LinearPieces",
    "QuadraticPieces",
    "QuadratureDual",
    "QuadratureWarning",
    "closed_form",
    "dual_of",
    "panel_of",
    "tables_of",
]
