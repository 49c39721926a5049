"""The weight variance at which an asymmetric prior neither amplifies nor damps signals."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activations.names import as_activation
from meanfield.asymmetric.density.grid import STEP, kernel_of
from meanfield.asymmetric.density.stationary import stationary_law
from meanfield.asymmetric.special_weights import SpecialWeight
from meanfield.dual import dual_of
from meanfield.support import validation


def unit_gain_weight_var(activation, anticorrelation, law: SpecialWeight):
    """sigma_w^2 with E phi^2 constant over layers, in the limit of depth; shape of anticorrelation.

    For a piecewise linear phi the law keeps its shape, so that at unit gain it is that of
    h' = B phi(h) + z, whatever the prior: sigma_w^2 = 1 / (E phi^2 - kappa (E phi)^2).
    """
    activation = as_activation(activation)
    kappa = validation.real("anticorrelation", anticorrelation, high=1.0)
    pieces = dual_of(activation).pieces
    if pieces is None:
        raise ValueError(
            f"unit gain is defined for piecewise linear activations with one kink at 0, such as relu; "
            f"that of {activation!r} depends on the signal: see meanfield.fixed_point"
        )
    kernel = kernel_of(law, STEP)
    if validation.is_traced(activation, kappa):
        return _weight_var(activation, kappa, kernel)
    if not largest_carried(law.moment(2), *pieces) < 1:
        raise ValueError(
            f"special_weight {law!r} alone amplifies the signals of {activation!r} (E B^2 phi^2 > h^2): "
            "no weight variance gives unit gain"
        )
    if all(slope == 0 for slope in pieces):
        raise ValueError("unit gain is defined for an activation that is not zero everywhere")
    with jax.enable_x64(True):
        result = np.asarray(_weight_var(activation, np.asarray(kappa, float), kernel))
    return float(result) if result.ndim == 0 else result


@jax.jit
def _weight_var(activation, kappa, kernel):
    one = jnp.ones((), jnp.result_type(float, *activation.params))
    stationary = stationary_law(kernel, activation, one, one)
    return 1 / (stationary.activity - kappa * stationary.mean**2)


def largest_carried(square, left, right):
    """Growth of a far-out signal's square by the special weight alone.

    The spectral radius of E B^2 (``square``) times the transitions between the signs of h.
    """
    stays = jnp.where(right > 0, right**2, 0.0), jnp.where(left > 0, left**2, 0.0)
    turns = jnp.where(right < 0, right**2, 0.0), jnp.where(left < 0, left**2, 0.0)
    half_sum, half_gap = (stays[0] + stays[1]) / 2, (stays[0] - stays[1]) / 2
    return square * (half_sum + jnp.sqrt(half_gap**2 + turns[0] * turns[1]))
