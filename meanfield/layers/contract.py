"""Whether a layer is what it says: a map on the statistics of a pair."""

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.layers.base import Layer
from meanfield.support import validation

_ANGLE = 0.5


def keeps_contract(layer: Layer) -> Layer:
    """The layer, if its three methods fit one another; layers of meanfield's own are known to.

    Raises ValueError with the layer's name and the reason.
    """
    own = type(layer).__module__.partition(".")[0] == __name__.partition(".")[0]
    if own or validation.is_traced(layer) or layer.traced:
        return layer
    name = type(layer).__name__
    one = jax.tree.map(lambda x: np.ravel(x)[0] if np.size(x) else x, layer)
    q, theta = jnp.ones(()), jnp.full((), _ANGLE)
    image = _scalar(name, "variance_map", one.variance_map(q))
    tangent = _scalar(name, "pair_gain", one.tangent(q))
    gain = _scalar(name, "pair_gain", one.pair_gain(q, theta))
    covariance = _scalar(name, "covariance_map", one.covariance_map(q, q, jnp.cos(theta)))
    if not image >= 0:
        raise ValueError(f"the layer {name} breaks its contract: variance_map(1.0) is {image:g}, below 0")
    if not (gain >= 0 and tangent >= 0):
        raise ValueError(f"the layer {name} breaks its contract: pair_gain is negative at q = 1")
    expected = image - gain * 2 * np.sin(_ANGLE / 2) ** 2
    if abs(covariance - expected) > 1e-3 * (abs(image) + abs(expected)):
        raise ValueError(
            f"the layer {name} breaks its contract: at q = 1 and c = cos({_ANGLE}) covariance_map gives "
            f"{covariance:g}, but variance_map and pair_gain together {expected:g}"
        )
    return layer


def _scalar(name: str, method: str, value) -> float:
    if np.shape(value) != ():
        raise ValueError(
            f"the layer {name} breaks its contract: {method} of scalars must be a scalar, not of shape "
            f"{np.shape(value)}"
        )
    return float(value)
