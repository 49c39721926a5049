"""Layers that follow one another, each with parameters of its own, as one pytree."""

import jax
import jax.numpy as jnp

from meanfield.activations import as_activation
from meanfield.layers.base import Layer
from meanfield.layers.chain import as_layer
from meanfield.support import validation


def is_schedule(activation, prior) -> bool:
    """Whether the arguments are a sequence of priors, or of layers, one a layer."""
    return isinstance(prior, list | tuple) or isinstance(activation, list | tuple)


def stacked_layers(activation, priors, depth=None) -> Layer:
    """The layers of a schedule in one, whose leaves have them along their last axis.

    activation, priors: one activation and a sequence of priors, or a sequence of layers and None.
    Raises ValueError if there are none, or not ``depth`` of them; TypeError if they differ by more than
    their numbers.
    """
    if isinstance(activation, list | tuple):
        what, layers = "layers", [as_layer(layer, priors).exact() for layer in activation]
    else:
        activation = as_activation(activation)
        what, layers = "priors", [as_layer(activation, prior).exact() for prior in priors]
    if not layers:
        raise ValueError(f"a schedule needs at least one of its {what}, got none")
    if depth is not None and validation.count("depth", depth, low=0) != len(layers):
        raise ValueError(f"depth must be left out, or be the number of {what}: {len(layers)}, got {depth}")
    if len({jax.tree.structure(layer) for layer in layers}) > 1:
        raise TypeError(f"the {what} of a schedule must be of one kind, and differ by numbers alone")
    return jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves), axis=-1), *layers)
