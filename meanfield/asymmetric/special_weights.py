"""Laws of the one weight in each row that an asymmetric prior draws apart from the others."""

import functools
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.activations.programs import program_of
from meanfield.numerics.legendre import rule_on
from meanfield.numerics.polynomials import cubic, horner
from meanfield.numerics.roots import halved
from meanfield.support import validation

_GAUSS_NODES = 96
_ENDS = 44  # panels shrink towards 0 and 1 by a factor 2, this often


class SpecialWeight(ABC):
    """A law on [0, inf), given by its quantile function; hashable, so that it may be static."""

    @abstractmethod
    def quantile(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The weight below which a fraction ``u`` in (0, 1) of the law lies."""

    def sample(self, key, shape=(), dtype=jnp.float32) -> Float[Array, "..."]:
        """Independent draws, through the quantile function."""
        u = jax.random.uniform(key, shape, dtype, minval=jnp.finfo(dtype).tiny)
        return self.quantile(u)

    def moment(self, order: int) -> float:
        """E B^order."""
        nodes, weights = _fine_rule(self)
        return float(np.sum(weights * nodes**order))


@dataclass(frozen=True)
class Beta(SpecialWeight):
    """Beta(a, b) on (0, 1), density proportional to x^(a-1) (1-x)^(b-1).

    The default is the law of RAI: Lu, Shin, Su & Karniadakis, arXiv:1903.06733.
    Raises TypeError or ValueError unless both are positive numbers.
    """

    a: float = 2.0
    b: float = 1.0

    def __post_init__(self):
        for name in ("a", "b"):
            value = getattr(self, name)
            if isinstance(value, jax.core.Tracer) or np.ndim(value) != 0:
                raise TypeError(f"{name} of a Beta law must be a number, not traced, got {value!r}")
            object.__setattr__(self, name, float(validation.real(name, value, low=0.0, low_open=True)))

    def quantile(self, u):
        if self.b == 1:
            return u ** (1 / self.a) if self.a != 2 else jnp.sqrt(u)
        if self.a == 1:
            return -jnp.expm1(jnp.log1p(-u) / self.b)
        return jax.nn.sigmoid(_interpolated(jnp.log(u) - jnp.log1p(-u), *_logit_quantiles(self.a, self.b)))

    def __repr__(self):
        return f"Beta({self.a:g}, {self.b:g})"


@dataclass(frozen=True)
class Constant(SpecialWeight):
    """The same weight in every row; ``Constant(0)`` switches the special weight off."""

    value: float = 0.0

    def __post_init__(self):
        if isinstance(self.value, jax.core.Tracer) or np.ndim(self.value) != 0:
            raise TypeError(f"a constant special weight must be a number, not traced, got {self.value!r}")
        value = float(validation.real("special_weight", self.value, low=0.0))
        object.__setattr__(self, "value", value)

    def quantile(self, u):
        return jnp.full_like(u, self.value)

    def __repr__(self):
        return f"Constant({self.value:g})"


@dataclass(frozen=True)
class FromQuantile(SpecialWeight):
    """Any law on [0, inf) with finite variance, from its quantile function, a JAX function on (0, 1).

    Raises TypeError if ``fn`` is not elementwise, ValueError if its values are
    negative, not finite or decreasing.
    """

    fn: Callable[[Array], Array] = field(compare=False)
    program: Callable[[Array], Array] = field(init=False, repr=False)

    def __post_init__(self):
        # A law is that of the function as it is now: what it reads may change later.
        program, traced = program_of(self.fn, 0, "the quantile function")
        if traced:
            raise TypeError("the quantile function of a special weight must not depend on traced values")
        object.__setattr__(self, "program", program)
        probes = np.concatenate(
            [2.0 ** -np.arange(50, 1, -1), np.linspace(0.25, 0.75, 65), 1 - 2.0 ** -np.arange(2, 50)]
        )
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            values = np.asarray(self.quantile(jnp.asarray(probes)))
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise ValueError(
                "the quantile function of a special weight must be finite and at least 0 on (0, 1)"
            )
        if np.any(np.diff(values) < -1e-12 * np.max(values)):
            raise ValueError("a quantile function must not decrease")

    def quantile(self, u):
        return self.program(u)

    def __repr__(self):
        return f"FromQuantile({getattr(self.fn, '__name__', self.fn)!s})"


def as_special_weight(law) -> SpecialWeight:
    """A law from one, from a number (the same weight in every row) or from a quantile function.

    Raises TypeError for anything else, ValueError for a negative number.
    """
    if isinstance(law, SpecialWeight):
        return law
    if isinstance(law, numbers.Real) and not isinstance(law, bool):
        return Constant(float(law))
    if callable(law) and not isinstance(law, type):
        return FromQuantile(law)
    raise TypeError(
        "special_weight must be a law such as meanfield.special_weights.Beta(2, 1), "
        f"a number, or a quantile function, got {law!r}"
    )


@functools.lru_cache(maxsize=64)
def gauss_rule(law: SpecialWeight) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss rule of a law: exact on polynomials up to degree 191.

    From the three-term recurrence of its orthogonal polynomials, by Lanczos' method on
    a fine discretisation of the law (Gautschi, Orthogonal Polynomials, 2004, section 2.2).
    """
    points, masses = _fine_rule(law)
    spread = np.max(points) - np.min(points)
    if spread <= 1e-14 * max(np.max(points), 1e-300):
        return points[:1], np.ones(1)
    basis = [np.sqrt(masses)]
    diagonal, off_diagonal = [], []
    for _ in range(_GAUSS_NODES):
        vector = points * basis[-1]
        diagonal.append(vector @ basis[-1])
        for _ in range(2):  # orthogonalise twice: once loses digits
            known = np.array(basis)
            vector = vector - known.T @ (known @ vector)
        length = np.linalg.norm(vector)
        if length <= 1e-13 * spread:
            break
        off_diagonal.append(length)
        basis.append(vector / length)
    size = len(diagonal)
    inner = off_diagonal[: size - 1]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    weights = vectors[0] ** 2
    return np.maximum(nodes, 0.0), weights / np.sum(weights)


@functools.lru_cache(maxsize=64)
def _fine_rule(law: SpecialWeight) -> tuple[np.ndarray, np.ndarray]:
    """Many points of a law and their masses: Gauss panels in u, ever narrower towards 0 and 1."""
    if isinstance(law, Constant):
        return np.array([law.value]), np.ones(1)
    ends = 0.5 ** np.arange(_ENDS, 1, -1)
    edges = np.concatenate([[0.0], ends, np.linspace(0.25, 0.5, 5)[1:]])
    u, masses = (x.ravel() for x in rule_on(edges, 16))
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        low, high = (np.asarray(law.quantile(jnp.asarray(x))) for x in (u, 1 - u[::-1]))
    return np.concatenate([low, high]), np.concatenate([masses, masses[::-1]])


@functools.lru_cache(maxsize=64)
def distribution(law: SpecialWeight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(b, P(B <= b), E B^2 for B <= b) at many b, ascending, dense towards the ends of the law."""
    logit = np.linspace(-_REACH, _REACH, 200_001)
    small = 1 / (1 + np.exp(np.abs(logit)))
    u = np.where(logit < 0, small, 1 - small)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        b = np.maximum.accumulate(np.asarray(law.quantile(jnp.asarray(np.clip(u, 1e-300, 1 - 2**-53)))))
    squared = np.concatenate([[0.0], np.cumsum(np.diff(u) * (b[1:] ** 2 + b[:-1] ** 2) / 2)])
    return b, u, squared * (law.moment(2) / squared[-1] if squared[-1] > 0 else 1.0)


_REACH, _STEPS = 36.0, 1153  # of the table of logit quantiles: 16 a unit


@functools.lru_cache(maxsize=64)
def _logit_quantiles(a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """logit of the quantile of Beta(a, b) on a grid in logit u, and its slopes: nearly straight lines."""
    logit_u = np.linspace(-_REACH, _REACH, _STEPS)
    left = logit_u <= 0
    small = np.where(left, 1 / (1 + np.exp(-logit_u)), 1 / (1 + np.exp(logit_u)))

    def is_low(logit_x):
        x, rest = 1 / (1 + np.exp(-logit_x)), 1 / (1 + np.exp(logit_x))
        below = np.asarray(jax.scipy.special.betainc(a, b, jnp.asarray(x)))
        above = np.asarray(jax.scipy.special.betainc(b, a, jnp.asarray(rest)))
        return np.where(left, below < small, above > small)

    low, high = np.full(_STEPS, -_REACH / min(a, b) - 60), np.full(_STEPS, _REACH / min(a, b) + 60)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        for _ in range(80):
            low, high = halved(is_low, low, high, np)
        log_beta = float(jax.scipy.special.betaln(a, b))
    logit_x = (low + high) / 2
    log_x, log_rest = -np.logaddexp(0, -logit_x), -np.logaddexp(0, logit_x)
    log_density = a * log_x + b * log_rest - log_beta  # of logit x
    slopes = np.exp(-np.logaddexp(0, -logit_u) - np.logaddexp(0, logit_u) - log_density)
    return logit_x, slopes


def _interpolated(x, values, slopes):
    """Cubic Hermite interpolation of the table, continued by straight lines."""
    values, slopes = jnp.asarray(values, x.dtype), jnp.asarray(slopes, x.dtype)
    step = 2 * _REACH / (_STEPS - 1)
    position = (jnp.clip(x, -_REACH, _REACH) + _REACH) / step
    i = jnp.clip(position.astype(jnp.int32), 0, _STEPS - 2)
    inside = horner(cubic(values[i], values[i + 1], step * slopes[i], step * slopes[i + 1]), position - i)
    beyond = x - jnp.clip(x, -_REACH, _REACH)
    return inside + beyond * jnp.where(beyond > 0, slopes[-1], slopes[0])
