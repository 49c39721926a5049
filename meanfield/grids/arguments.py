"""The arguments that phase diagrams and sweeps share, checked."""

from typing import Any

import numpy as np

from meanfield.asymmetric.special_weights import SpecialWeight, as_special_weight
from meanfield.priors import PARAMETERS
from meanfield.support import validation

BOUNDS = {
    "weight_var": (0.0, np.inf),
    "bias_var": (0.0, np.inf),
    "anticorrelation": (-np.inf, 1.0),
    "q0": (0.0, np.inf),
    "c0": (-1.0, 1.0),
}


def given_parameters(*of_prior, **others) -> dict[str, Any]:
    """What is given, by name: the prior's parameters in their order, and others."""
    named = dict(zip(PARAMETERS, of_prior, strict=True)) | others
    return {name: value for name, value in named.items() if value is not None}


def number_or_axis(name: str, value) -> np.ndarray:
    """The values in float64, of no axis or one. Raises TypeError or ValueError."""
    low, high = BOUNDS.get(name, (-np.inf, np.inf))
    checked = np.asarray(validation.real(name, value, low=low, high=high), np.float64)
    if checked.ndim > 1:
        raise ValueError(f"{name} must be a number or a 1-d array, got shape {checked.shape}")
    return checked


def check_weight_var(given) -> None:
    """Raises TypeError where layers under a prior lack their weight variance."""
    if "weight_var" not in given:
        raise TypeError("weight_var is missing: give an array of values, or a number")


def checked_law(special_weight, dense: bool, q0) -> SpecialWeight | None:
    """The special weight's law. Raises where a function makes the layers (not ``dense``), or a q0 is 0."""
    if special_weight is None:
        return None
    law = as_special_weight(special_weight)
    if not dense:
        raise TypeError(
            "special_weight belongs to a prior: it cannot be given where a function makes the layers"
        )
    if np.any(q0 == 0):
        raise ValueError("q0 must be greater than 0 where there is a special weight")
    return law
