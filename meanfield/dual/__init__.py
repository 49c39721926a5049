"""Gaussian moments of an activation: closed form, quadrature or table, behind one interface."""

from meanfield.dual.base import Dual
from meanfield.dual.choice import QuadratureWarning, dual_of, is_tabulable
from meanfield.dual.closed_forms import closed_form
from meanfield.dual.homogeneous import Homogeneous1, Homogeneous2
from meanfield.dual.levels import Levels
from meanfield.dual.quadrature import QuadratureDual
from meanfield.dual.tables.build import shipped_ends, shipped_lines, tables_of
from meanfield.dual.tables.cells import panel_of
from meanfield.dual.tables.lookup import TabulatedDual

__all__ = [
    "Dual",
    "Homogeneous1",
    "Homogeneous2",
    "Levels",
    "QuadratureDual",
    "QuadratureWarning",
    "TabulatedDual",
    "closed_form",
    "dual_of",
    "is_tabulable",
    "panel_of",
    "shipped_ends",
    "shipped_lines",
    "tables_of",
]
