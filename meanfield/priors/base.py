"""What all weight priors have in common: their parameters, their map, and how weights are drawn."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.numerics.pytrees import rebuilt, replaced
from meanfield.support import validation

PARAMETERS = ("weight_var", "bias_var", "anticorrelation")
_SYMBOLS = {
    "sigma_w": "weight_var = sigma_w^2",
    "sigma_b": "bias_var = sigma_b^2",
    "kappa": "anticorrelation = kappa",
}
P = TypeVar("P", bound="type[Prior]")


class Prior:
    """What all priors have in common: their parameters, and what they make of Gaussian signals."""

    weight_var: Any
    bias_var: Any
    parameters: ClassVar[tuple[str, ...]]
    is_gaussian: ClassVar[bool] = True
    """Whether pre-activations are Gaussian at infinite width."""
    independent_rows: ClassVar[bool] = True
    """Whether neurons are independent given what they receive."""
    spreads: ClassVar[bool] = True
    """Whether kernels of convolutions have weights away from their centre."""
    handlers: ClassVar[dict[str, str]] = {}
    """What takes the place of functions of meanfield for this prior: name to "module:function"."""

    def __new__(cls, *args, **parameters):
        for symbol, mend in _SYMBOLS.items():
            if symbol in parameters:
                raise TypeError(f"{cls.__name__} has no argument {symbol}: give {mend}")
        return super().__new__(cls)

    @property
    def anticorrelation(self) -> Any:
        """kappa; 0 unless a prior has it as a parameter."""
        return 0.0

    def is_valid(self):
        """Where the parameters are inside their domain; works on traced values."""
        w, b, k = self.weight_var, self.bias_var, self.anticorrelation
        return (w >= 0) & (w < np.inf) & (b >= 0) & (b < np.inf) & (k <= 1) & (k > -np.inf)

    def guarded(self, valid):
        """This prior where ``valid``, and elsewhere one under which every solver is safe."""
        safe = {"weight_var": 0.5, "bias_var": 0.5, "anticorrelation": 0.0}
        guarded = {name: jnp.where(valid, getattr(self, name), safe[name]) for name in self.parameters}
        return replaced(self, **guarded)

    def without_bias(self):
        """The same weights without bias."""
        return replaced(self, bias_var=jnp.zeros_like(jnp.asarray(self.bias_var)))

    def per_weight(self, covariance, mean_product):
        """cov + (1 - kappa) m m': what weights of variance 1 make of activations, without bias."""
        return covariance + (1 - self.anticorrelation) * mean_product

    def propagate_moments(self, covariance, mean_product):
        """Covariance of the Gaussian part of the next layer's pre-activations.

        sigma_w^2 [cov + (1 - kappa) m m'] + sigma_b^2, from the activations' covariance
        and the product of their means.
        """
        return self.weight_var * self.per_weight(covariance, mean_product) + self.bias_var

    def bias_init(self):
        """An initializer ``(key, shape, dtype) -> bias`` as in ``jax.nn.initializers``."""
        sigma = scalar(self.bias_var) ** 0.5

        def init(key, shape, dtype=jnp.float32):
            compute = jnp.promote_types(dtype, jnp.float32)
            return (sigma * jax.random.normal(key, shape, compute)).astype(dtype)

        return init


@dataclass(frozen=True, eq=False)
class CorrelatedRows(Prior):
    """What priors with Gaussian weights, correlated within a row, have in common."""

    weight_var: Any
    bias_var: Any = 0.0
    anticorrelation: Any = 0.0

    def __post_init__(self):
        check_variances(self)
        kappa = validation.real("anticorrelation", self.anticorrelation, high=1.0)
        object.__setattr__(self, "anticorrelation", kappa)
        validation.same_shape(**{name: getattr(self, name) for name in self.parameters})

    parameters: ClassVar[tuple[str, ...]] = PARAMETERS

    def gaussian_kernel(self, key, shape, dtype):
        """Rows of covariance weight_var/N (1 - anticorrelation/N), at O(1) a weight."""
        fan_in = int(np.prod(shape[:-1]))
        g = jax.random.normal(key, shape, dtype)
        common = jnp.mean(g, axis=tuple(range(len(shape) - 1)), keepdims=True)
        sigma, kappa = scalar(self.weight_var) ** 0.5, scalar(self.anticorrelation)
        return sigma / fan_in**0.5 * (g - (1 - jnp.sqrt(1 - kappa)) * common)


def handler(prior, function: str) -> Callable | None:
    """What the prior has registered in place of a function of meanfield's, if anything."""
    place = prior.handlers.get(function) if is_prior(prior) else None
    if place is None:
        return None
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def is_prior(value) -> bool:
    """Whether a value is a weight prior of any kind."""
    return isinstance(value, Prior)


def gaussian_prior(prior, name="prior"):
    """The prior, if pre-activations under it are Gaussian. Raises TypeError naming the argument."""
    if not is_prior(prior):
        raise TypeError(
            f"{name} must be a meanfield.NormalPrior, OrthogonalPrior or AsymmetricPrior, got {prior!r}"
        )
    if not prior.is_gaussian:
        raise TypeError(
            f"{name} must be a meanfield.NormalPrior or OrthogonalPrior here: this needs Gaussian "
            "pre-activations, and those of an AsymmetricPrior are not; use density_evolution, "
            "population_dynamics, propagate, fixed_point or phase_diagram"
        )
    return prior


def initializer(draw, prior):
    for name in prior.parameters:
        scalar(getattr(prior, name))

    def init(key, shape, dtype=jnp.float32):
        if len(shape) < 2:
            raise ValueError(f"a kernel needs an input and an output axis, got shape {shape}")
        return draw(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)

    return init


def check_variances(prior) -> None:
    for name in ("weight_var", "bias_var"):
        object.__setattr__(prior, name, validation.real(name, getattr(prior, name), low=0.0))


def scalar(value):
    if np.ndim(value) != 0:
        raise ValueError(
            f"weights are drawn from one prior: its parameters must be scalars, got shape {np.shape(value)}"
        )
    return value


def register(cls: P) -> P:
    """A prior's class as a pytree, whose leaves are its parameters and all else is structure."""

    def flatten(prior):
        keys = tuple((jax.tree_util.GetAttrKey(name), getattr(prior, name)) for name in cls.parameters)
        static = {name: x for name, x in vars(prior).items() if name not in cls.parameters}
        return keys, tuple(sorted(static.items()))

    def unflatten(static, leaves):
        return rebuilt(cls, **dict(zip(cls.parameters, leaves, strict=True)), **dict(static))

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
