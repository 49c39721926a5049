"""Mean-field theory of signal propagation in random neural networks, in JAX.

Names resolve when first used: ``import meanfield`` costs little over ``import jax``.
"""

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "Activation": "activation",
    "NormalPrior": "priors",
    "OrthogonalPrior": "priors",
    "AsymmetricPrior": "priors",
    "Beta": "special_weights",
    "DenseLayer": "layers",
    "q_map": "maps",
    "c_map": "maps",
    "propagate": "maps",
    "Trajectory": "maps",
    "fixed_point": "fixedpoint",
    "fixed_points": "fixedpoint",
    "FixedPoint": "fixedpoint",
    "lyapunov_exponents": "lyapunov",
    "LyapunovExponents": "lyapunov",
    "depth_scales": "lyapunov",
    "DepthScales": "lyapunov",
    "critical_line": "criticality",
    "CriticalLine": "criticality",
    "critical_weight_var": "criticality",
    "phase_diagram": "phase_diagrams",
    "PhaseDiagram": "phase_diagrams",
    "sweep": "sweeps",
    "Sweep": "sweeps",
    "Status": "status",
    "Phase": "status",
    "density_evolution": "density.evolution",
    "DensityEvolution": "density.evolution",
    "population_dynamics": "density.population",
    "PopulationDynamics": "density.population",
    "asymmetric_fixed_point": "density.fixed_point",
    "AsymmetricFixedPoint": "density.fixed_point",
    "dead_node_probability": "dead.nodes",
    "DeadNodes": "dead.nodes",
    "born_dead_probability": "dead.networks",
    "BornDead": "dead.networks",
    "jacobian_spectrum": "spectra.jacobian",
    "JacobianSpectrum": "spectra.jacobian",
    "lyapunov_spectrum": "spectra.lyapunov",
    "LyapunovSpectrum": "spectra.lyapunov",
    "isometry": "spectra.isometry",
    "Isometry": "spectra.isometry",
    "dynamical_isometry": "spectra.isometry",
    "IsometricLine": "spectra.isometry",
    "QuadratureWarning": "dual",
    "tabulate": "tabulate",
}
_SUBMODULES = {"activations", "empirical", "special_weights"}

__version__ = "0.1.0"
__all__ = sorted([*_HOMES, *_SUBMODULES])


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"meanfield.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"meanfield.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'meanfield' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from meanfield import activations as activations
    from meanfield import empirical as empirical
    from meanfield import special_weights as special_weights
    from meanfield.activation import Activation as Activation
    from meanfield.criticality import CriticalLine as CriticalLine
    from meanfield.criticality import critical_line as critical_line
    from meanfield.criticality import critical_weight_var as critical_weight_var
    from meanfield.dead.networks import BornDead as BornDead
    from meanfield.dead.networks import born_dead_probability as born_dead_probability
    from meanfield.dead.nodes import DeadNodes as DeadNodes
    from meanfield.dead.nodes import dead_node_probability as dead_node_probability
    from meanfield.density.evolution import DensityEvolution as DensityEvolution
    from meanfield.density.evolution import density_evolution as density_evolution
    from meanfield.density.fixed_point import AsymmetricFixedPoint as AsymmetricFixedPoint
    from meanfield.density.fixed_point import asymmetric_fixed_point as asymmetric_fixed_point
    from meanfield.density.population import PopulationDynamics as PopulationDynamics
    from meanfield.density.population import population_dynamics as population_dynamics
    from meanfield.dual import QuadratureWarning as QuadratureWarning
    from meanfield.fixedpoint import FixedPoint as FixedPoint
    from meanfield.fixedpoint import fixed_point as fixed_point
    from meanfield.fixedpoint import fixed_points as fixed_points
    from meanfield.layers import DenseLayer as DenseLayer
    from meanfield.lyapunov import DepthScales as DepthScales
    from meanfield.lyapunov import LyapunovExponents as LyapunovExponents
    from meanfield.lyapunov import depth_scales as depth_scales
    from meanfield.lyapunov import lyapunov_exponents as lyapunov_exponents
    from meanfield.maps import Trajectory as Trajectory
    from meanfield.maps import c_map as c_map
    from meanfield.maps import propagate as propagate
    from meanfield.maps import q_map as q_map
    from meanfield.phase_diagrams import PhaseDiagram as PhaseDiagram
    from meanfield.phase_diagrams import phase_diagram as phase_diagram
    from meanfield.priors import AsymmetricPrior as AsymmetricPrior
    from meanfield.priors import NormalPrior as NormalPrior
    from meanfield.priors import OrthogonalPrior as OrthogonalPrior
    from meanfield.special_weights import Beta as Beta
    from meanfield.spectra.isometry import IsometricLine as IsometricLine
    from meanfield.spectra.isometry import Isometry as Isometry
    from meanfield.spectra.isometry import dynamical_isometry as dynamical_isometry
    from meanfield.spectra.isometry import isometry as isometry
    from meanfield.spectra.jacobian import JacobianSpectrum as JacobianSpectrum
    from meanfield.spectra.jacobian import jacobian_spectrum as jacobian_spectrum
    from meanfield.spectra.lyapunov import LyapunovSpectrum as LyapunovSpectrum
    from meanfield.spectra.lyapunov import lyapunov_spectrum as lyapunov_spectrum
    from meanfield.status import Phase as Phase
    from meanfield.status import Status as Status
    from meanfield.sweeps import Sweep as Sweep
    from meanfield.sweeps import sweep as sweep
    from meanfield.tabulate import tabulate as tabulate
