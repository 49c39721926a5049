"""Weights of which one in every row is replaced by one of order 1."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from meanfield.asymmetric.density.gain import unit_gain_weight_var
from meanfield.asymmetric.special_weights import Beta, as_special_weight
from meanfield.priors.base import CorrelatedRows, initializer, register

RAI_WEIGHT = Beta(2.0, 1.0)


@register
@dataclass(frozen=True, eq=False)
class AsymmetricPrior(CorrelatedRows):
    r"""As ``NormalPrior``, but in every row one weight, at a random place, is replaced.

    weight_var, bias_var, anticorrelation: of the other weights, as for ``NormalPrior``.
    special_weight: law of the replaced weight, of order 1 whatever the fan-in: a
        ``SpecialWeight`` (default Beta(2, 1)), a number for the same weight in every
        row (0 switches it off), or a quantile function, elementwise on (0, 1).

    The special weight makes pre-activations non-Gaussian at any width. Their law
    follows from ``density_evolution`` and ``population_dynamics``.

    With Beta(2, 1) this is RAI (independent weights) and RAAI (anticorrelation = 1).
    In the published RAI the replaced entry may also be the bias, which at width N
    happens to one row in N + 1.

    Raises TypeError or ValueError for what is out of range.

    Source: Lu, Shin, Su & Karniadakis, arXiv:1903.06733; D. Singh, thesis, 2021;
    THEORY section 8.
    """

    special_weight: Any = RAI_WEIGHT
    is_gaussian: ClassVar[bool] = False
    handlers: ClassVar[dict[str, str]] = {
        "fixed_point": "meanfield.asymmetric.density.fixed_point:asymmetric_fixed_point",
        "propagate": "meanfield.asymmetric.density.population:population_dynamics",
    }

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "special_weight", as_special_weight(self.special_weight))

    @classmethod
    def rai(cls, anticorrelation=0.0) -> "AsymmetricPrior":
        """As published: sigma_w = 0.6007, Beta(2, 1); with ``anticorrelation`` 1, RAAI.

        ReLU signals decay under it: their second moment shrinks by 0.7646 per layer at
        anticorrelation 0. See ``unit_gain``.
        """
        return cls(0.6007**2, 0.0, anticorrelation)

    @classmethod
    def unit_gain(
        cls, anticorrelation=0.0, activation="relu", special_weight=RAI_WEIGHT
    ) -> "AsymmetricPrior":
        """The prior without bias under which the second moment of signals stays as it is.

        activation: piecewise linear with one kink at 0 (ReLU, leaky ReLU, ...): for others the gain
            depends on the signal. special_weight: default Beta(2, 1).
        anticorrelation: a number or an array.

        Raises TypeError or ValueError for other activations and for a special weight
        that by itself amplifies.
        Source: the stationary law of h' = B phi(h) + z; THEORY section 8.
        """
        law = as_special_weight(special_weight)
        weight_var = unit_gain_weight_var(activation, anticorrelation, law)
        return cls(weight_var, 0.0, anticorrelation, law)

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last axis of the kernel counts neurons, the others their inputs. Where the
        special weight stands is drawn for each neuron. The parameters must be scalars.
        """

        def draw(key, shape, dtype):
            key, place_key, special_key = jax.random.split(key, 3)
            kernel = self.gaussian_kernel(key, shape, dtype).reshape(-1, shape[-1])
            place = jax.random.randint(place_key, shape[-1:], 0, kernel.shape[0])
            special = self.special_weight.sample(special_key, shape[-1:], dtype)
            return kernel.at[place, jnp.arange(shape[-1])].set(special).reshape(shape)

        return initializer(draw, self)
