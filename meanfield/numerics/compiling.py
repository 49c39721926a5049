"""Compiling for answers that take milliseconds: then the compiler is all one waits for."""

import functools

import jax


def compiled(optimization: int, static_argnums=()):
    """``jax.jit`` on a CPU with less optimisation than XLA's own: 0 compiles in a third of the time and runs
    several times slower, 2 compiles in half the time and runs as fast where there is little to fuse.

    Inside another program, and where there is an accelerator, it is ``jax.jit``.
    """

    def decorate(fn):
        thorough = jax.jit(fn, static_argnums=static_argnums)

        @functools.cache
        def quick():
            options = options_of(optimization)
            return (
                jax.jit(fn, static_argnums=static_argnums, compiler_options=options) if options else thorough
            )

        @functools.wraps(fn)
        def call(*args):
            return (thorough if is_tracing(args) else quick())(*args)

        return call

    return decorate


def optimization_for(points: int) -> int | None:
    """What ``compiled`` takes, None for XLA's own: how long a program runs against how long it compiles."""
    return 0 if points <= _FEW else 2 if points <= _MANY else None


_FEW = 32  # whose answer takes milliseconds however they are compiled
_MANY = 1 << 17  # from here on solving takes longer than compiling


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
    now = jax.device_put(0.0)  # which compiles nothing
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((trees, now)))


@functools.cache
def options_of(optimization: int) -> dict:
    """What this version of XLA knows of the options, on a CPU."""
    if jax.default_backend() != "cpu":
        return {}
    wanted = {"xla_backend_optimization_level": optimization, "xla_cpu_use_fusion_emitters": False}
    return {name: wanted[name] for name in _known_options()}


@functools.cache
def _known_options() -> list[str]:
    options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    return [*options] if _are_known(options) else [n for n, x in options.items() if _are_known({n: x})]


def _are_known(options: dict) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except Exception:  # an option of another version
        return False
    return True
