"""An activation function: a callable, its parameters, and where it is not smooth."""

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, Float

from meanfield.kinks import find_kinks


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Activation:
    """A scalar function applied to every neuron.

    fn: elementwise JAX function, called as ``fn(x, *params)``; any shape.
    kinks: where ``fn`` or one of its derivatives jumps. ``None`` searches for them
        (on [-64, 64]); ``()`` promises that there are none. An undeclared kink
        inside a traced function cannot be searched for: declare those.
    params: numbers or arrays that derivatives may be taken with respect to.
    scale: the length on which ``fn`` varies near its kinks or the origin.
    name: how messages and plots call it.
    traced (set by itself): whether ``fn`` closes over a value that is being traced.

    Raises TypeError if ``fn`` is not callable or not elementwise, ValueError if a
    kink or the scale is not finite.
    """

    fn: Callable[..., Array]
    params: tuple[Any, ...]
    kinks: tuple[float, ...]
    scale: float
    name: str
    traced: bool

    def __init__(self, fn, kinks=None, *, params=(), scale=1.0, name=None):
        if not callable(fn):
            raise TypeError(f"fn must be a function of an array, got {fn!r}")
        if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be a positive number, got {scale!r}")
        if not isinstance(fn, Hashable):
            fn = functools.partial(lambda wrapped, *args: wrapped(*args), fn)
        name = name or getattr(fn, "__name__", type(fn).__name__)
        set_field = functools.partial(object.__setattr__, self)
        set_field("fn", fn)
        set_field("params", tuple(params))
        set_field("scale", float(scale))
        set_field("name", name)
        set_field("traced", self._check_elementwise())
        set_field("kinks", self._searched_kinks() if kinks is None else _checked_kinks(kinks))

    @classmethod
    def _built_in(cls, name, fn, kinks=(), params=()) -> "Activation":
        """Skip the checks, which evaluate fn: importing must not start a backend."""
        return _unflatten((fn, kinks, 1.0, name, False), (params,))

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.fn(x, *self.params)

    def __repr__(self):
        arguments = ", ".join(str(p) for p in self.params)
        return f"{self.name}({arguments})" if arguments else self.name

    def _check_elementwise(self) -> bool:
        """Whether fn closes over a traced value; raise if it is not elementwise."""
        params = [p if _is_concrete_number(p) else 0.5 for p in self.params]
        try:
            value = self.fn(jnp.linspace(-1.0, 1.0, 3), *params)
            shape = np.shape(value)
        except Exception as error:
            raise TypeError(
                f"the activation {self.name!r} cannot be evaluated on an array of shape (3,): {error}"
            ) from error
        if shape != (3,):
            raise TypeError(
                f"the activation {self.name!r} must be elementwise: it maps shape (3,) to {shape}"
            )
        return isinstance(value, jax.core.Tracer)

    def _searched_kinks(self) -> tuple[float, ...]:
        if self.traced or not all(map(_is_concrete_number, self.params)):
            return ()
        with jax.enable_x64(True):
            return find_kinks(lambda x: np.asarray(self(jnp.asarray(x))))

    def opened(self, like) -> "Activation":
        """The same function, the traced values it closes over made parameters. like: a number of its type."""
        closed = jax.make_jaxpr(self.fn)(like, *self.params)
        own = len(self.params)

        def at(x, *params):
            jaxpr = ClosedJaxpr(closed.jaxpr, params[own:])
            return jaxpr_as_fun(jaxpr)(x, *params[:own])[0]

        def elementwise(x, *params):
            return jax.vmap(lambda x: at(x, *params))(x.ravel()).reshape(x.shape)

        params = (*self.params, *map(jnp.asarray, closed.consts))
        return _unflatten((elementwise, self.kinks, self.scale, self.name, True), (params,))

    @property
    def landmarks(self) -> tuple[float, ...]:
        """Points that a quadrature resolves: the kinks, and the origin if none is near."""
        near = any(abs(k) <= 4 * self.scale for k in self.kinks)
        return self.kinks if near else tuple(sorted((*self.kinks, 0.0)))

    def has_jump(self) -> Array:
        """Whether the function itself, not only a derivative, jumps at a landmark."""
        at = jnp.asarray(self.landmarks)
        step = jnp.finfo(at.dtype).eps ** 0.5 * jnp.maximum(1.0, jnp.abs(at))
        above, below = self(at + step), self(at - step)
        return jnp.any(jnp.abs(above - below) > 1e3 * step * (1 + jnp.abs(above) + jnp.abs(below)))


def _is_concrete_number(value) -> bool:
    return not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0


def _flatten(activation):
    a = activation
    return (a.params,), (a.fn, a.kinks, a.scale, a.name, a.traced)


def _unflatten(static, children) -> Activation:
    """Rebuild without validation: inside a transformation the leaves can be anything."""
    activation = Activation.__new__(Activation)
    for field, value in zip(("fn", "kinks", "scale", "name", "traced"), static, strict=True):
        object.__setattr__(activation, field, value)
    object.__setattr__(activation, "params", children[0])
    return activation


jax.tree_util.register_pytree_node(Activation, _flatten, _unflatten)


def _checked_kinks(kinks) -> tuple[float, ...]:
    try:
        values = sorted(float(k) for k in kinks)
    except (TypeError, ValueError) as error:
        raise TypeError(f"kinks must be a sequence of numbers, got {kinks!r}") from error
    if not all(math.isfinite(k) for k in values):
        raise ValueError(f"kinks must be finite numbers, got {kinks!r}")
    return tuple(dict.fromkeys(values))
