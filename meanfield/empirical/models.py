"""Flax models that the theory speaks of: fully connected and convolutional, plain and deep."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from meanfield.activations.names import as_activation
from meanfield.support import validation


class FullyConnected(nnx.Module):
    """A fully connected network: ``depth`` hidden layers of ``width`` neurons, and a linear readout.

    h^1 = W^1 x + b^1, h^(l+1) = W^(l+1) phi(h^l) + b^(l+1), outputs = W phi(h^depth) + b.

    features, outputs: size of an input and of an output. activation: an ``Activation``, a
    name or a callable. prior: of weights and biases, anything with ``kernel_init()`` and
    ``bias_init()``: a ``NormalPrior``, an ``AsymmetricPrior``, an ``Initialization``.
    input_prior, readout_prior: of the first and the last layer, if others. rngs: as for
    every Flax module; the stream ``params`` is used. dtype, param_dtype: as in ``nnx.Linear``.

    The hidden layers of equal shape are one stacked ``nnx.Linear``, so that compiling
    costs the same at every depth. Raises TypeError or ValueError.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        activation="relu",
        prior,
        input_prior=None,
        readout_prior=None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        for name, value in dict(features=features, outputs=outputs, width=width, depth=depth).items():
            validation.count(name, value)
        self.activation = as_activation(activation)
        layer = functools.partial(nnx.Linear, dtype=dtype, param_dtype=param_dtype)
        self.input = layer(features, width, **initializers(input_prior or prior), rngs=rngs)
        self.hidden = _stacked(depth - 1, layer, width, width, **initializers(prior), rngs=rngs)
        self.readout = layer(width, outputs, **initializers(readout_prior or prior), rngs=rngs)

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch outputs"]:
        """The network's outputs."""
        return self.pre_activations(x)[1]

    def pre_activations(
        self, x: Float[Array, "batch features"]
    ) -> tuple[Float[Array, "depth batch width"], Float[Array, "batch outputs"]]:
        """Pre-activations of every hidden layer, and the outputs."""
        h = _through(self.activation, self.input(x), self.hidden)
        return h, self.readout(self.activation(h[-1]))


class Convolutional(nnx.Module):
    """A plain convolutional network: ``depth`` layers of ``channels``, the mean over space, a readout.

    features, outputs: channels of an input and size of an output. kernel_size: one number
    an axis of space. padding: as in ``nnx.Conv``; "CIRCULAR", the default, treats all
    places alike, and the maps averaged over space are then those of a fully connected
    layer (Xiao et al., arXiv:1806.05393). Otherwise as ``FullyConnected``.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        channels: int,
        depth: int,
        kernel_size: tuple[int, ...] = (3, 3),
        activation="relu",
        prior,
        padding="CIRCULAR",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        for name, value in dict(features=features, outputs=outputs, channels=channels, depth=depth).items():
            validation.count(name, value)
        self.activation = as_activation(activation)
        types = dict(dtype=dtype, param_dtype=param_dtype)
        layer: Callable = functools.partial(nnx.Conv, kernel_size=kernel_size, padding=padding, **types)
        self.input = layer(features, channels, **initializers(prior), rngs=rngs)
        self.hidden = _stacked(depth - 1, layer, channels, channels, **initializers(prior), rngs=rngs)
        self.readout = nnx.Linear(channels, outputs, **types, **initializers(prior), rngs=rngs)

    def __call__(self, x: Float[Array, "batch *space features"]) -> Float[Array, "batch outputs"]:
        """The network's outputs."""
        return self.pre_activations(x)[1]

    def pre_activations(
        self, x: Float[Array, "batch *space features"]
    ) -> tuple[Float[Array, "depth batch *space channels"], Float[Array, "batch outputs"]]:
        """Pre-activations of every convolutional layer, and the outputs."""
        h = _through(self.activation, self.input(x), self.hidden)
        space = tuple(range(1, x.ndim - 1))
        return h, self.readout(jnp.mean(self.activation(h[-1]), axis=space))


def initializers(prior) -> dict:
    """What Flax layers take, from a prior or an initialisation. Raises TypeError for anything else."""
    try:
        return {"kernel_init": prior.kernel_init(), "bias_init": prior.bias_init()}
    except AttributeError:
        raise TypeError(
            "prior must have kernel_init() and bias_init(), as meanfield.NormalPrior, "
            f"meanfield.AsymmetricPrior and meanfield.empirical.initialization have, got {prior!r}"
        ) from None


def _stacked(count: int, layer, *arguments, rngs: nnx.Rngs, **keywords):
    """``count`` layers as one, whose parameters have a leading axis; None for no layer."""
    if count == 0:
        return None

    @nnx.vmap
    def create(key):
        return layer(*arguments, rngs=nnx.Rngs(params=key), **keywords)

    return create(jax.random.split(rngs.params(), count))


def _through(activation, h, hidden):
    """Pre-activations of all layers, from those of the first."""
    if hidden is None:
        return h[None]

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def one_layer(h, layer):
        h = layer(activation(h))
        return h, h

    return jnp.concatenate([h[None], one_layer(h, hidden)[1]])
