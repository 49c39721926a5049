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

from meanfield.activations.kinks import find_kinks
from meanfield.activations.programs import Program, program_of
from meanfield.activations.values import values_of
from meanfield.numerics.memo import Memo


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Activation:
    """A scalar function applied to every neuron.

    fn: elementwise JAX function, called as ``fn(x, *params)``; any shape. It may read values that
        change (a global, an attribute): every call of meanfield takes it as it then is.
    kinks: where ``fn`` or one of its derivatives jumps. ``None`` searches for them
        (on [-64, 64]); ``()`` promises that there are none. An undeclared kink
        inside a traced function cannot be searched for: declare those.
    params: numbers or arrays that derivatives may be taken with respect to.
    scale: the length on which ``fn`` varies near its kinks or the origin.
    name: how messages and plots call it.
    traced (set by itself): whether ``fn`` closes over a value that is being traced.
    program (set by itself): what ``fn`` computes; None where that is found out at every call.

    Raises TypeError if ``fn`` is not callable or not elementwise, ValueError if a
    kink or the scale is not finite.
    """

    fn: Callable[..., Array]
    params: tuple[Any, ...]
    kinks: tuple[float, ...]
    scale: float
    name: str
    traced: bool
    program: Any
    _declared: tuple[float, ...] | None

    def __init__(self, fn, kinks=None, *, params=(), scale=1.0, name=None):
        if not callable(fn):
            raise TypeError(f"fn must be a function of an array, got {fn!r}")
        if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be a positive number, got {scale!r}")
        declared = None if kinks is None else _checked_kinks(kinks)
        name, fn = name or _name_of(fn), _hashable(fn)
        now = _as_it_is(fn, declared, float(scale), name, tuple(params))
        changes = isinstance(now.program, Program)
        fields = dict(fn=fn, kinks=now.kinks, params=now.params, scale=now.scale, name=name)
        fields |= dict(traced=now.traced, program=None if changes else now.program, _declared=declared)
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    @classmethod
    def _built_in(cls, name, fn, kinks=(), params=()) -> "Activation":
        """Skip the checks, which evaluate fn: importing must not start a backend."""
        return _unflatten((fn, kinks, 1.0, name, False), (params,))

    @property
    def dual(self) -> Any:
        """The table of its Gaussian moments, where it carries one (``tabulate``)."""
        return None

    @property
    def plain(self) -> "Activation":
        """The activation without a table."""
        return self

    @classmethod
    def of(cls, fn) -> "Activation":
        """The activation of a callable as it is now."""
        return _as_it_is(_hashable(fn), None, 1.0, _name_of(fn), ())

    def as_it_is(self) -> "Activation":
        """This activation with what its function computes now: nothing changes that any more.

        Kinks that had been searched for are those that the function has now.
        """
        if self.program is not None:
            return self
        return _as_it_is(self.fn, self._declared, self.scale, self.name, self.params)

    @property
    def key(self) -> tuple:
        """What the moments are a function of: the key of whatever is kept. The params concrete."""
        a = self.as_it_is()
        params = ((np.shape(p), np.asarray(p, np.float64).tobytes()) for p in a.params)
        return a.program, a.kinks, a.scale, *params

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

    def __call__(self, x: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
        return (self.fn if self.program is None else self.program)(x, *self.params)

    def __repr__(self):
        arguments = ", ".join(str(p) for p in self.params)
        return f"{self.name}({arguments})" if arguments else self.name

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


def _hashable(fn):
    if isinstance(fn, Hashable):
        return fn
    return functools.partial(lambda wrapped, *args: wrapped(*args), fn)


def _name_of(fn) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _as_it_is(fn, declared, scale: float, name: str, params: tuple) -> Activation:
    """An activation of what ``fn`` computes now."""
    program, traced = program_of(fn, len(params), f"the activation {name!r}")
    kinks = declared
    if kinks is None:
        kinks = () if traced else _searched_kinks(program, params)
    return _unflatten((program, kinks, scale, name, traced), (params,))


def _searched_kinks(program, params) -> tuple[float, ...]:
    if not all(map(_is_concrete_number, params)):
        return ()

    def search():
        return find_kinks(values_of(program, params))

    return _KINKS((program, *(float(p) for p in params)), search)


_KINKS: Memo[tuple[float, ...]] = Memo(256)


def _is_concrete_number(value) -> bool:
    return not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0


def static_fields(activation) -> tuple:
    """What makes two activations of equal tree structure: what compiled functions are found by."""
    a = activation.as_it_is()
    return a.program, a.kinks, a.scale, a.name, a.traced


def _unflatten(static, children) -> Activation:
    """Rebuild without validation: inside a transformation the leaves can be anything."""
    return rebuilt(Activation, static, params=children[0])


def rebuilt(cls, static, **fields):
    """An activation of a class from ``static_fields`` and its other fields, without validation."""
    program, kinks, scale, name, traced = static
    fn = program.fn if isinstance(program, Program) else program
    activation = cls.__new__(cls)
    fields |= dict(fn=fn, kinks=kinks, scale=scale, name=name, traced=traced, program=program)
    for field, value in fields.items():
        object.__setattr__(activation, field, value)
    return activation


jax.tree_util.register_pytree_node(Activation, lambda a: ((a.params,), static_fields(a)), _unflatten)


def _checked_kinks(kinks) -> tuple[float, ...]:
    try:
        values = sorted(float(k) for k in kinks)
    except (TypeError, ValueError) as error:
        raise TypeError(f"kinks must be a sequence of numbers, got {kinks!r}") from error
    if not all(math.isfinite(k) for k in values):
        raise ValueError(f"kinks must be finite numbers, got {kinks!r}")
    return tuple(dict.fromkeys(values))
