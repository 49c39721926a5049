"""Layers that follow one another, each with parameters of its own."""

import itertools

import jax
import jax.numpy as jnp

from meanfield.activations.names import as_activation
from meanfield.layers.base import Layer
from meanfield.layers.chain import as_layer, fitting
from meanfield.support import validation


def is_schedule(activation, prior) -> bool:
    """Whether the arguments are a sequence of priors, or of layers, one a layer."""
    return isinstance(prior, list | tuple) or isinstance(activation, list | tuple)


def runs_of(activation, priors, depth=None) -> list[Layer]:
    """The layers of a schedule in order, those of one kind that follow one another in one.

    Leaves of such a run have its layers along their last axis.
    activation, priors: one activation and a sequence of priors, or a sequence of layers and None.
    Raises ValueError if there are none, or not ``depth`` of them; TypeError if priors differ by more than
    their numbers.
    """
    if isinstance(activation, list | tuple):
        what, layers = "layers", [as_layer(layer, priors).exact() for layer in activation]
    else:
        activation = as_activation(activation)
        what, layers = "priors", [as_layer(activation, prior).exact() for prior in priors]
    if not layers:
        raise ValueError(f"a schedule needs at least one of its {what}, got none")
    fitting(layers)
    if depth is not None and validation.count("depth", depth, low=0) != len(layers):
        raise ValueError(f"depth must be left out, or be the number of {what}: {len(layers)}, got {depth}")
    runs = [_stacked(list(run)) for _, run in itertools.groupby(layers, jax.tree.structure)]
    if what == "priors" and len(runs) > 1:
        raise TypeError("the priors of a schedule must be of one kind, and differ by numbers alone")
    return runs


def _stacked(layers) -> Layer:
    return jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves), axis=-1), *layers)
