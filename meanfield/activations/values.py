"""Values and slopes of an activation on the host: one small program each, for any number of points."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.compiling import options_of

_BLOCK = 1 << 14  # points a call


def values_of(program: Callable, params: tuple) -> Callable[[np.ndarray], np.ndarray]:
    """phi as a function of float64 arrays of any shape (n,), at numbers for its parameters."""
    return functools.partial(_in_blocks, _value, program, params)


def slopes_of(program: Callable, params: tuple) -> Callable[[np.ndarray], np.ndarray]:
    """phi' likewise."""
    return functools.partial(_in_blocks, _slope, program, params)


def _in_blocks(job, program, params, u: np.ndarray) -> np.ndarray:
    values = np.empty(u.size)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        params = tuple(np.asarray(p, np.float64) for p in params)
        for start in range(0, u.size, _BLOCK):
            part = u[start : start + _BLOCK]
            found = _compiled(job)(program, np.pad(part, (0, _BLOCK - part.size)), params)
            values[start : start + _BLOCK] = np.asarray(found)[: part.size]
    return values


@functools.cache
def _compiled(job):
    return jax.jit(job, static_argnums=0, compiler_options=options_of(2))


def _value(program, u, params):
    return program(u, *params)


def _slope(program, u, params):
    return jax.jvp(lambda u: program(u, *params), (u,), (jnp.ones_like(u),))[1]
