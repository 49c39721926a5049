"""A layer under an asymmetric prior, whose pre-activations are not Gaussian."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.activations.names import as_activation
from meanfield.asymmetric.prior import AsymmetricPrior
from meanfield.numerics.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class AsymmetricLayer:
    """Fully connected layer of infinite width: h' = B phi(h) + Gaussian part."""

    activation: Activation
    prior: AsymmetricPrior

    @classmethod
    def of(cls, activation, prior) -> "AsymmetricLayer":
        """Raises TypeError or ValueError naming the argument that is neither."""
        if not isinstance(prior, AsymmetricPrior):
            raise TypeError(f"prior must be a meanfield.AsymmetricPrior, got {prior!r}")
        return cls(as_activation(activation), prior)

    points_at_once = 16

    @property
    def traced(self) -> bool:
        """Whether the layer closes over a value that is being traced."""
        return self.activation.traced

    def is_valid(self):
        """Where all parameters are inside their domain."""
        finite = [jnp.all(jnp.isfinite(p)) for p in self.activation.params]
        return self.prior.is_valid() & jnp.all(jnp.array([True, *finite]))

    def guarded(self, valid) -> "AsymmetricLayer":
        """This layer where ``valid``, and elsewhere one on which every solver is safe."""
        finite = lambda x: jnp.where(jnp.isfinite(x), x, 0.5)
        return AsymmetricLayer(jax.tree.map(finite, self.activation), self.prior.guarded(valid))
