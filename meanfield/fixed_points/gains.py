"""The gain of an activation: the weights under which signals keep their variance."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.layers import as_dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.priors import NormalPrior
from meanfield.support import validation


def preserving_weight_var(activation, q=1.0, bias_var=0.0, anticorrelation=0.0) -> Float[Array, "..."]:
    r"""sigma_w^2 at which pre-activations of variance q > 0 keep it, Q(q) = q; its root is the "gain".

    It is (q - sigma_b^2) / (E phi^2 - kappa (E phi)^2), the moments taken at variance q. Weights are
    then drawn with variance weight_var / fan_in.

    At q = 1, without bias, its square root is what PyTorch calls the gain of a nonlinearity, and at
    anticorrelation 1 (every neuron's weights sum to zero) the gamma of scaled weight
    standardisation. That q is a fixed point says neither that it attracts (``fixed_point`` does) nor
    that gradients keep their norm (``critical_weight_var``).

    activation: as for ``fixed_point``. bias_var: sigma_b^2, at most q. All but the activation
    broadcast. Differentiable. Inside a trace, NaN where q is not positive or bias_var is above q,
    and everywhere NaN where phi does not vary.
    Raises TypeError or ValueError. Source: THEORY section 3; He et al. 2015; Brock et al. 2021.
    """
    q = validation.real("q", q, low=0.0, low_open=True)
    bias_var = validation.real("bias_var", bias_var, low=0.0)
    layer = as_dense(activation, NormalPrior(1.0, 0.0, anticorrelation))
    validation.same_shape(q=q, bias_var=bias_var, anticorrelation=anticorrelation)
    if not validation.is_traced(q, bias_var) and np.any(np.asarray(bias_var) > np.asarray(q)):
        raise ValueError(
            f"bias_var must be at most q, got {bias_var} and q = {q}: no weights take variance away"
        )
    return pointwise(_keeping, layer, q, bias_var)


def _keeping(layer, q, bias_var):
    valid = layer.is_valid() & (q > 0) & jnp.isfinite(q) & (bias_var >= 0) & (bias_var <= q)
    layer = layer.guarded(valid)
    q, bias_var = jnp.where(valid, q, 1.0), jnp.where(valid, bias_var, 0.0)
    moment = layer.variance_map(q)  # of weights of variance 1, without bias
    usable = valid & (moment > 0) & jnp.isfinite(moment)
    return jnp.where(usable, (q - bias_var) / jnp.where(usable, moment, 1.0), jnp.nan)
