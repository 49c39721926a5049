"""What a function of the user's computes, and the one key under which anything made of it is kept.

A Python function is no key: it may read a global, an attribute or a closure cell that changes, and two
functions may be the same. Its trace is one. It holds every value that the function has read, so a
function is traced whenever it enters, and what was compiled or tabulated is found by the trace.
"""

import hashlib
import sys
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

_PACKAGES = ("jax", "meanfield")
_DOUBLE = np.dtype("float64")
_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call")


class Program:
    """An elementwise function as it was when it was traced: nothing that changes later changes it.

    There is one object for equal traces, so that programs are compared by identity.

    fn: the function; the latest, where several have this trace. key: the text of the trace in float64,
    digested, and the objects in it that have no text.
    """

    __slots__ = ("__weakref__", "_count", "_jaxprs", "fn", "key")

    def __init__(self, fn: Callable, count: int, jaxpr: ClosedJaxpr, key: tuple):
        self._count, self.key = count, key
        self.renew(fn, jaxpr)

    def renew(self, fn: Callable, jaxpr: ClosedJaxpr) -> None:
        """Read from ``fn``, which has this trace now, what is only read when it is needed.

        That is the rule of a custom derivative, and the trace in float32.
        """
        self.fn, self._jaxprs = fn, {_DOUBLE: jaxpr}

    def jaxpr(self, dtype) -> ClosedJaxpr:
        """The trace on a number of a type."""
        if dtype not in self._jaxprs:
            self._jaxprs[dtype] = _copied(_traced(self.fn, dtype, self._count, "the function"))
        return self._jaxprs[dtype]

    def __call__(self, x, *params):
        x = jnp.asarray(x)
        if x.dtype not in (_DOUBLE, np.float32) or any(np.ndim(p) for p in params):
            return self.fn(x, *params)
        evaluate = jaxpr_as_fun(self.jaxpr(x.dtype))
        params = tuple(_strongly_typed(p, x.dtype) for p in params)

        def at(x):
            return evaluate(x, *params)[0]

        for _ in range(x.ndim):
            at = jax.vmap(at)
        return at(_strongly_typed(x, x.dtype))


def _strongly_typed(x, dtype):
    return jax.lax.convert_element_type(x, dtype)


def program_of(fn: Callable, count: int, what: str) -> tuple[Callable, bool]:
    """(the program of ``fn(x, *params)``, whether it closes over a traced value).

    A function of JAX's or of meanfield's own never changes: it is its own program. So is one that closes
    over a traced value: in a later call that value would mean nothing. count: number of params.
    what: how messages call it. Raises TypeError if ``fn`` is not elementwise.
    """
    if _is_library(fn):
        if fn not in _CHECKED:
            _check_elementwise(fn, fn, count, what)
            _CHECKED.add(fn)
        return fn, False
    try:
        jaxpr = _traced(fn, _DOUBLE, count, what)
    except TypeError:
        _check_shape(fn, count, what)  # which may know the reason better
        if _reads_traced(_traced(fn, jnp.result_type(float), count, what)):
            return fn, True
        raise
    if _reads_traced(jaxpr):
        _check_shape(fn, count, what)
        return fn, True
    key = fingerprint(fn, jaxpr, count)
    program = _PROGRAMS.get(key)
    if program is None:
        program = Program(fn, count, _copied(jaxpr), key)
        _check_elementwise(fn, program, count, what)
        _PROGRAMS[key] = program
    program.renew(fn, _copied(jaxpr))
    return program, False


_PROGRAMS: "weakref.WeakValueDictionary[tuple, Program]" = weakref.WeakValueDictionary()
_CHECKED: set[Callable] = set()


def content_key(program: Callable, count: int) -> str | None:
    """A name for what a program computes in float64, the same in every process; None if it has none."""
    if isinstance(program, Program):
        digest, objects = program.key
    else:
        digest, objects = fingerprint(program, _traced(program, _DOUBLE, count, "the function"), count)
    return None if objects else digest


def _is_library(fn) -> bool:
    """Whether ``fn`` is what a module of JAX or meanfield has under its name."""
    module = getattr(fn, "__module__", None)
    if not isinstance(module, str) or module.split(".")[0] not in _PACKAGES:
        return False
    return getattr(sys.modules.get(module), getattr(fn, "__name__", ""), None) is fn


# --- tracing and checks -------------------------------------------------------------


def _traced(fn, dtype: np.dtype, count: int, what: str) -> ClosedJaxpr:
    """The trace of ``fn`` on numbers of a type."""
    number = jax.ShapeDtypeStruct((), dtype)
    with jax.enable_x64(dtype.itemsize > 4):
        # A new function each time: JAX keeps traces by the function's identity.
        return _traceable(fn, (number,) * (count + 1), what, lambda f: jax.make_jaxpr(lambda *x: f(*x)))


def _traceable(fn, arguments, what: str, transformed):
    try:
        return transformed(lambda *x: _one_float(fn(*x), what))(*arguments)
    except _Refused as error:
        raise TypeError(str(error)) from None
    except Exception as error:
        message = f"{str(error).strip() or type(error).__name__}".splitlines()[0]
        raise TypeError(
            f"{what} must be an elementwise function of JAX operations, and cannot be evaluated on "
            f"{_shape_in_words(np.shape(arguments[0]))}: {message}{_advice(fn, error)}"
        ) from error


class _Refused(Exception):
    """A value that no activation has, with the sentence that says so."""


def _one_float(value, what: str):
    if isinstance(value, tuple | list | dict) or not hasattr(value, "dtype"):
        if not isinstance(value, float):
            raise _Refused(
                f"{what} must return an array of its argument's shape, got a {type(value).__name__}"
            )
        value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise _Refused(
            f"{what} must be an elementwise function that returns floating-point numbers, got {value.dtype}: "
            "convert its value, as in .astype(x.dtype)"
        )
    return value


def _shape_in_words(shape) -> str:
    return f"an array of shape {shape}" if shape else "one number"


def _advice(fn, error) -> str:
    """What to write instead, where NumPy, SciPy, math or an ``if`` was given a traced array."""
    needs_numbers = isinstance(error, jax.errors.JAXTypeError) or any(
        words in str(error) for words in ("scalar arrays", "truth value")
    )
    if not needs_numbers:
        return ""
    name = getattr(fn, "__name__", "")
    for module in (jnp, jax.scipy.special, jax.nn):
        if name.isidentifier() and callable(getattr(module, name, None)):
            shown = "jnp" if module is jnp else module.__name__
            return f" (use {shown}.{name})"
    return " (use jnp.tanh in place of np.tanh or math.tanh, jnp.where in place of if)"


_PARTS = ("eqns", "outvars", "consts")  # of a trace, in which there may be an array


def _copied(value):
    """A trace with its own copy of every NumPy array: theirs can be written to."""
    if isinstance(value, Jaxpr):  # which from JAX 0.11 on holds its constants itself
        parts = {name: _copied(getattr(value, name)) for name in _PARTS if hasattr(value, name)}
        return value.replace(**parts)
    if isinstance(value, ClosedJaxpr):
        return ClosedJaxpr(_copied(value.jaxpr), _copied(value.consts))
    if isinstance(value, JaxprEqn):
        params = {name: _copied(p) for name, p in value.params.items()}
        return value.replace(invars=_copied(value.invars), params=params)
    if isinstance(value, Literal):
        return Literal(_copied(value.val), value.aval)
    if type(value) in (tuple, list):
        return type(value)(_copied(v) for v in value)
    is_of_numpy = hasattr(value, "__array__") and not isinstance(value, np.generic | jax.Array)
    return np.array(value) if is_of_numpy and isinstance(value.dtype, np.dtype) else value


def _reads_traced(jaxpr: ClosedJaxpr) -> bool:
    return any(isinstance(c, jax.core.Tracer) for c in jaxpr.consts)


def _check_shape(fn, count: int, what: str) -> None:
    """Raise unless one number becomes one, and an array one of its shape."""
    dtype = jnp.result_type(float)
    for shape in ((3,), ()):
        arguments = (jax.ShapeDtypeStruct(shape, dtype), *[jax.ShapeDtypeStruct((), dtype)] * count)
        value = _traceable(fn, arguments, what, lambda f: lambda *x: jax.eval_shape(lambda *x: f(*x), *x))
        if value.shape != shape:
            raise TypeError(f"{what} must be elementwise: it maps shape {shape} to {value.shape}")


def _check_elementwise(fn, program, count: int, what: str) -> None:
    """Raise unless ``fn`` does to an array what its program does to each of its elements."""
    _check_shape(fn, count, what)
    with jax.ensure_compile_time_eval():
        x = jnp.asarray([0.3, -0.7, 1.1, -2.3, 0.9])  # in no order
        params = [jnp.asarray(0.5)] * count
        one_by_one = program if program is not fn else lambda x, *p: jnp.stack([fn(one, *p) for one in x])
        # Compiled: operation by operation JAX would compile each of them.
        values = (_traceable(f, (x, *params), what, jax.jit) for f in (fn, one_by_one))
        together, alone = (np.asarray(value, np.float64) for value in values)
    if not np.allclose(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise TypeError(
            f"{what} must be elementwise: of an array it makes something else than of its elements one by one"
        )


# --- fingerprints -------------------------------------------------------------------


def fingerprint(fn, jaxpr: ClosedJaxpr, count: int) -> tuple[str, tuple]:
    """(a digest of a trace in float64, the objects in it that only identity or equality tells apart)."""
    writer = _Writer()
    text = [writer.written(jaxpr)]
    if writer.has_hidden_rule:
        text.append(writer.written(_with_derivatives(fn, count)))
    return hashlib.sha256(repr(text).encode()).hexdigest(), tuple(writer.objects)


class _Writer:
    """Writes jaxprs down as nested tuples of text: equal for equal programs, in any process."""

    def __init__(self) -> None:
        self.objects: list[Hashable] = []
        self.has_hidden_rule = False

    def written(self, value) -> Any:
        if isinstance(value, ClosedJaxpr):
            return "closed", self._jaxpr(value.jaxpr), [self.written(c) for c in value.consts]
        if isinstance(value, Jaxpr):
            return self._jaxpr(value)
        if isinstance(value, tuple | list):
            return type(value).__name__, [self.written(v) for v in value]
        if isinstance(value, dict):
            return "dict", [(str(k), self.written(v)) for k, v in sorted(value.items(), key=str)]
        if value is None or isinstance(value, str | bytes | bool | int | float | complex):
            return type(value).__name__, repr(value)
        if hasattr(value, "dtype") and hasattr(value, "__array__"):
            return self._array(value)
        of_jax = type(value).__module__.split(".")[0] in ("jax", "jaxlib", "numpy")
        if of_jax and not callable(value) and not hasattr(value, "call_wrapped"):
            return type(value).__name__, repr(value)
        self.objects.append(value if _is_hashable(value) else _ByIdentity(value))
        return "object", len(self.objects)

    def _array(self, value):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        return "array", str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()

    def _jaxpr(self, jaxpr: Jaxpr):
        number: dict[Any, int] = {}
        for variable in (*jaxpr.constvars, *jaxpr.invars):
            number[variable] = len(number)

        def read(atom):
            if isinstance(atom, Literal):
                return repr(atom.aval), self.written(atom.val)
            return number[atom]

        lines = []
        for equation in jaxpr.eqns:
            arguments = [read(atom) for atom in equation.invars]
            for variable in equation.outvars:
                number[variable] = len(number)
            types = [repr(variable.aval) for variable in equation.outvars]
            lines.append((equation.primitive.name, arguments, types, self._parameters(equation)))
        inputs = [repr(variable.aval) for variable in (*jaxpr.constvars, *jaxpr.invars)]
        return inputs, lines, [read(atom) for atom in jaxpr.outvars]

    def _parameters(self, equation):
        name, params = equation.primitive.name, equation.params
        if name in _CUSTOM_RULES:
            self.has_hidden_rule |= not _is_rule_of_jax(params.get("call_jaxpr"))
            return [self.written(p) for p in params.values() if isinstance(p, ClosedJaxpr)]
        if name in ("jit", "pjit"):  # how something is compiled changes nothing of what it computes
            return self.written(params["jaxpr"])
        return [(key, self.written(params[key])) for key in sorted(params)]


class _ByIdentity:
    """An object that cannot be hashed, kept alive so that no other has its identity."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self):
        return id(self.value)


def _is_hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_rule_of_jax(call: ClosedJaxpr | None) -> bool:
    """Whether a function with a derivative of its own (relu, logaddexp) is one that JAX defines."""
    source = getattr(getattr(getattr(call, "jaxpr", None), "debug_info", None), "func_src_info", None)
    return isinstance(source, str) and _names_rule_of_jax(source)


def _names_rule_of_jax(source: str) -> bool:
    known = _RULES.get(source)
    if known is None:
        name, _, place = source.partition(" at ")
        path = place.rpartition(":")[0]
        modules = [m for n, m in sys.modules.items() if n.startswith("jax.") and _file_of(m) == path]
        known = _RULES[source] = any(isinstance(getattr(m, name, None), jax.custom_jvp) for m in modules)
    return known


_RULES: dict[str, bool] = {}


def _file_of(module) -> str | None:
    return getattr(module, "__file__", None)


def _with_derivatives(fn, count: int):
    """The trace of a function's first and second derivatives, which shows the rules it brings along."""

    def differentiated(f):
        return lambda *x: jax.jvp(f, x[: len(x) // 2], x[len(x) // 2 :])

    def backwards(*x):
        return jax.vjp(fn, *x[:-1])[1](x[-1])

    number = jax.ShapeDtypeStruct((), _DOUBLE)
    attempts = ((differentiated(differentiated(fn)), 4 * (count + 1)), (backwards, count + 2))
    with jax.enable_x64(True):
        for derivative, arguments in attempts:
            try:
                return jax.make_jaxpr(derivative)(*[number] * arguments)
            except Exception:  # a rule for one direction alone
                continue
    return object()  # like no other
