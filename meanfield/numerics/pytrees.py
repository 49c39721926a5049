"""Registration of dataclasses as pytrees."""

import dataclasses
from typing import TypeVar

import jax
from jax.tree_util import GetAttrKey

T = TypeVar("T", bound=type)


def register_dataclass(cls: T) -> T:
    """``jax.tree_util.register_dataclass`` for classes that differ by more than their fields.

    In jaxlib 0.10.2 the tree structures of two registered dataclasses with as many fields
    compare equal, whatever their classes: now and then (when their hashes share seven bits)
    ``jax.jit`` then runs what it compiled for the one on the other. Nodes with functions of
    their own are compared by class.

    A field with ``metadata={"static": True}`` is part of the structure, all others are children.
    Inside a transformation the leaves can be anything, so that a class is rebuilt without its checks.
    """
    fields = [f for f in dataclasses.fields(cls) if f.init]
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    dynamic = tuple(f.name for f in fields if not f.metadata.get("static"))

    def flatten(value):
        return tuple(getattr(value, n) for n in dynamic), tuple(getattr(value, n) for n in static)

    def flatten_with_keys(value):
        children, structure = flatten(value)
        return tuple((GetAttrKey(n), child) for n, child in zip(dynamic, children, strict=True)), structure

    def unflatten(structure, children):
        return rebuilt(cls, **dict(zip((*dynamic, *static), (*children, *structure), strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def rebuilt(cls, **fields):
    """An instance with these fields, whatever its constructor would say of them."""
    value = object.__new__(cls)
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value


def replaced(value, **fields):
    """A copy with some fields replaced, whatever its constructor would say of them."""
    return rebuilt(type(value), **(vars(value) | fields))
