"""Compiling for a few points, whose answer takes milliseconds: then the compiler is all one waits for."""

import functools

import jax
import jax.numpy as jnp

_LEAST = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def compiled(fn, static_argnums):
    """(thorough, quick): ``fn`` compiled to run fast, and so that it compiles fast.

    The quick one compiles in a third of the time and runs several times slower. It can't be part of
    another compiled function, and where there is an accelerator it is the thorough one.
    """
    thorough = jax.jit(fn, static_argnums=static_argnums)
    options = _options()
    return thorough, jax.jit(
        fn, static_argnums=static_argnums, compiler_options=options
    ) if options else thorough


def traced_once(method):
    """A method that JAX traces once for arguments of one kind, however often a program has it.

    Where it closes over a traced value (``self.traced``), every time: that value belongs to one trace.
    """
    once = jax.jit(method)

    @functools.wraps(method)
    def call(self, *args):
        return method(self, *args) if self.traced else once(self, *args)

    return call


def is_tracing(*trees) -> bool:
    """Whether what is computed now, or from these, becomes part of another program."""
    now = jnp.zeros(())
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((trees, now)))


@functools.cache
def _options() -> dict:
    """What this version of XLA knows of the options, on a CPU."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_LEAST).lower(0.0).compile()
    except Exception:  # an option of another version
        return {}
    return _LEAST
