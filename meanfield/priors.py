"""Weight priors: their mean-field map, and how to draw weights from them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import validation


@dataclass(frozen=True, eq=False)
class NormalPrior:
    r"""Gaussian weights, correlated within a row of N.

    Cov(W_ij, W_ik) = weight_var/N (delta_jk - anticorrelation/N).

    weight_var: sigma_w^2 >= 0, so that a weight has variance weight_var / fan_in.
    bias_var: sigma_b^2 >= 0.
    anticorrelation: kappa <= 1. Zero gives independent weights, 1 rows that sum to
        zero, negative values positively correlated weights. No random vector has
        kappa > 1: its covariance would not be positive.

    Each is a number or an array; they broadcast, and derivatives may be taken with
    respect to all. Raises TypeError or ValueError for what is out of range; values
    seen only inside a trace are reported by ``Status.INVALID`` instead.

    Source: D. Singh, thesis, IISER Pune 2021; Singh & Sreejith, arXiv:2103.12499.
    """

    weight_var: Any
    bias_var: Any = 0.0
    anticorrelation: Any = 0.0

    def __post_init__(self):
        set_field = object.__setattr__
        set_field(self, "weight_var", validation.real("weight_var", self.weight_var, low=0.0))
        set_field(self, "bias_var", validation.real("bias_var", self.bias_var, low=0.0))
        kappa = validation.real("anticorrelation", self.anticorrelation, high=1.0)
        set_field(self, "anticorrelation", kappa)
        validation.same_shape(
            weight_var=self.weight_var, bias_var=self.bias_var, anticorrelation=self.anticorrelation
        )

    def is_valid(self):
        """Where the parameters are inside their domain; works on traced values."""
        w, b, k = (jnp.asarray(x) for x in (self.weight_var, self.bias_var, self.anticorrelation))
        finite = jnp.isfinite(w) & jnp.isfinite(b) & jnp.isfinite(k)
        return finite & (w >= 0) & (b >= 0) & (k <= 1)

    def harmless(self) -> "NormalPrior":
        """Parameters at which every solver converges, to stand in for invalid ones."""
        return _unflatten(None, (0.5, 0.5, 0.0))

    def propagate_moments(self, variance, mean_product):
        """Next layer's covariance from the activations': sigma_w^2 [cov + (1 - kappa) m m'] + sigma_b^2."""
        return self.weight_var * (variance + (1 - self.anticorrelation) * mean_product) + self.bias_var

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last axis of the kernel counts neurons, the others their inputs. The draw
        is exact and costs O(fan_in) a neuron. The parameters must be scalars.
        """
        sigma, kappa = _scalar(self.weight_var) ** 0.5, _scalar(self.anticorrelation)

        def init(key, shape, dtype=jnp.float32):
            if len(shape) < 2:
                raise ValueError(f"a kernel needs an input and an output axis, got shape {shape}")
            fan_in = int(np.prod(shape[:-1]))
            compute = jnp.promote_types(dtype, jnp.float32)
            g = jax.random.normal(key, shape, compute)
            common = jnp.mean(g, axis=tuple(range(len(shape) - 1)), keepdims=True)
            kernel = sigma / fan_in**0.5 * (g - (1 - jnp.sqrt(1 - kappa)) * common)
            return kernel.astype(dtype)

        return init

    def bias_init(self):
        """An initializer ``(key, shape, dtype) -> bias`` as in ``jax.nn.initializers``."""
        sigma = _scalar(self.bias_var) ** 0.5

        def init(key, shape, dtype=jnp.float32):
            compute = jnp.promote_types(dtype, jnp.float32)
            return (sigma * jax.random.normal(key, shape, compute)).astype(dtype)

        return init


def _scalar(value):
    if np.ndim(value) != 0:
        raise ValueError(
            f"weights are drawn from one prior: its parameters must be scalars, got shape {np.shape(value)}"
        )
    return value


def _unflatten(_, leaves) -> NormalPrior:
    """Rebuild without validation: inside a transformation the leaves can be anything."""
    prior = NormalPrior.__new__(NormalPrior)
    for name, leaf in zip(("weight_var", "bias_var", "anticorrelation"), leaves, strict=True):
        object.__setattr__(prior, name, leaf)
    return prior


jax.tree_util.register_pytree_with_keys(
    NormalPrior,
    lambda p: (
        tuple(
            (jax.tree_util.GetAttrKey(name), getattr(p, name))
            for name in ("weight_var", "bias_var", "anticorrelation")
        ),
        None,
    ),
    _unflatten,
)
