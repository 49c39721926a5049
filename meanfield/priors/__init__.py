"""Weight priors: their mean-field map, and how to draw weights from them."""

from meanfield.priors.base import PARAMETERS, Prior, gaussian_prior, handler, is_prior
from meanfield.priors.normal import NormalPrior
from meanfield.priors.orthogonal import OrthogonalPrior

__all__ = ["PARAMETERS", "NormalPrior", "OrthogonalPrior", "Prior", "gaussian_prior", "handler", "is_prior"]
