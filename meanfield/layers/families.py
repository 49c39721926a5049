"""Layers as functions of named parameters: what a diagram or a sweep goes over."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from meanfield.layers import Dense, Layer
from meanfield.numerics.broadcasting import is_shared
from meanfield.priors import PARAMETERS, NormalPrior


@dataclass(frozen=True, eq=False)
class Family:
    """A layer for every value of some parameters.

    make: called with a number for every one of ``names``. label: how pictures and files call it.
    activation: of a family of dense layers over ``PARAMETERS``; else None.
    """

    make: Callable[..., Layer]
    names: tuple[str, ...]
    label: str
    activation: Any = None

    def layers(self, columns) -> Layer:
        """One layer whose leaves are columns where they depend on the parameters, else numbers.

        columns: of the parameters, each of shape (n,).
        """
        found: dict[str, Any] = {}

        def leaves(*values):
            layer = self.make(**dict(zip(self.names, values, strict=True)))
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"{self.label} must return a layer, as meanfield.Chain makes one, got {layer!r}"
                )
            flat, found["structure"] = jax.tree.flatten(layer, is_leaf=is_shared)
            # Under vmap alone, what depends on no parameter is no tracer.
            found["varies"] = [isinstance(x, jax.core.Tracer) for x in flat]
            found["fixed"] = [None if v else x for x, v in zip(flat, found["varies"], strict=True)]
            return [x for x, v in zip(flat, found["varies"], strict=True) if v]

        varying = iter(jax.vmap(leaves)(*columns))
        flat = [next(varying) if v else x for x, v in zip(found["fixed"], found["varies"], strict=True)]
        return jax.tree.unflatten(found["structure"], flat)


@dataclass(frozen=True, eq=False)
class DenseFamily(Family):
    """Dense layers with one activation, over the parameters of a ``NormalPrior``."""

    def layers(self, columns) -> Layer:
        return Dense(self.activation, NormalPrior(*columns))


def dense_family(activation) -> Family:
    """Dense layers with this activation, over the parameters of a ``NormalPrior``."""

    def make(weight_var, bias_var, anticorrelation):
        return Dense(activation, NormalPrior(weight_var, bias_var, anticorrelation))

    return DenseFamily(make, PARAMETERS, repr(activation), activation)


def is_layer_function(fn, names) -> bool:
    """Whether ``fn`` is a function of parameters with these names, rather than an activation."""
    if not callable(fn) or isinstance(fn, Layer):
        return False
    try:
        arguments = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False
    return bool(names) and set(names) <= set(arguments)


def layer_family(fn, names) -> Family:
    """The layers that a function of parameters with these names returns, in the order of its arguments."""
    ordered = tuple(name for name in inspect.signature(fn).parameters if name in names)
    return Family(fn, ordered, getattr(fn, "__name__", type(fn).__name__))
