"""Weight priors: their mean-field map, and how to draw weights from them."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from meanfield import validation
from meanfield.special_weights import Beta, as_special_weight

RAI_WEIGHT = Beta(2.0, 1.0)
_PARAMETERS = ("weight_var", "bias_var", "anticorrelation")


class _Prior:
    """What all priors have in common: their parameters, and what they make of Gaussian signals."""

    weight_var: Any
    bias_var: Any
    parameters: ClassVar[tuple[str, ...]]

    @property
    def anticorrelation(self) -> Any:
        """kappa; 0 unless a prior has it as a parameter."""
        return 0.0

    def is_valid(self):
        """Where the parameters are inside their domain; works on traced values."""
        w, b, k = (jnp.asarray(x) for x in (self.weight_var, self.bias_var, self.anticorrelation))
        finite = jnp.isfinite(w) & jnp.isfinite(b) & jnp.isfinite(k)
        return finite & (w >= 0) & (b >= 0) & (k <= 1)

    def harmless(self):
        """Parameters at which every solver converges, to stand in for invalid ones."""
        safe = {"weight_var": 0.5, "bias_var": 0.5, "anticorrelation": 0.0}
        return jax.tree.unflatten(jax.tree.structure(self), [safe[name] for name in self.parameters])

    def propagate_moments(self, variance, mean_product):
        """Covariance of the Gaussian part of the next layer's pre-activations.

        sigma_w^2 [cov + (1 - kappa) m m'] + sigma_b^2, from the activations' covariance
        and the product of their means.
        """
        return self.weight_var * (variance + (1 - self.anticorrelation) * mean_product) + self.bias_var

    def bias_init(self):
        """An initializer ``(key, shape, dtype) -> bias`` as in ``jax.nn.initializers``."""
        sigma = _scalar(self.bias_var) ** 0.5

        def init(key, shape, dtype=jnp.float32):
            compute = jnp.promote_types(dtype, jnp.float32)
            return (sigma * jax.random.normal(key, shape, compute)).astype(dtype)

        return init


@dataclass(frozen=True, eq=False)
class _CorrelatedRows(_Prior):
    """What priors with Gaussian weights, correlated within a row, have in common."""

    weight_var: Any
    bias_var: Any = 0.0
    anticorrelation: Any = 0.0

    def __post_init__(self):
        _check_variances(self)
        kappa = validation.real("anticorrelation", self.anticorrelation, high=1.0)
        object.__setattr__(self, "anticorrelation", kappa)
        validation.same_shape(**{name: getattr(self, name) for name in self.parameters})

    parameters: ClassVar[tuple[str, ...]] = _PARAMETERS

    def _gaussian_kernel(self, key, shape, dtype):
        """Rows of covariance weight_var/N (1 - anticorrelation/N), at O(1) a weight."""
        fan_in = int(np.prod(shape[:-1]))
        g = jax.random.normal(key, shape, dtype)
        common = jnp.mean(g, axis=tuple(range(len(shape) - 1)), keepdims=True)
        sigma, kappa = _scalar(self.weight_var) ** 0.5, _scalar(self.anticorrelation)
        return sigma / fan_in**0.5 * (g - (1 - jnp.sqrt(1 - kappa)) * common)


@dataclass(frozen=True, eq=False)
class NormalPrior(_CorrelatedRows):
    r"""Gaussian weights, correlated within a row of N.

    Cov(W_ij, W_ik) = weight_var/N (delta_jk - anticorrelation/N).

    weight_var: sigma_w^2 >= 0, so that a weight has variance weight_var / fan_in.
    bias_var: sigma_b^2 >= 0.
    anticorrelation: kappa <= 1. Zero gives independent weights, 1 rows that sum to
        zero, negative values positively correlated weights. No random vector has
        kappa > 1: its covariance would not be positive.

    Each is a number or an array; they broadcast, and derivatives may be taken with
    respect to all. Raises TypeError or ValueError for what is out of range; values
    seen only inside a trace are reported by ``Status.INVALID`` instead.

    Source: D. Singh, thesis, IISER Pune 2021; Singh & Sreejith, arXiv:2103.12499.
    """

    # s_1: the S-transform of W W^T is (1 + m)^s_1 / weight_var (THEORY section 11).
    spectral_exponent: ClassVar[int] = -1

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last axis of the kernel counts neurons, the others their inputs. The draw
        is exact and costs O(fan_in) a neuron. The parameters must be scalars.
        """
        return _initializer(self._gaussian_kernel, self)


@dataclass(frozen=True, eq=False)
class OrthogonalPrior(_Prior):
    r"""Weights that are sigma_w times an orthogonal matrix, uniform under Haar measure.

    weight_var: sigma_w^2 >= 0; a weight has variance weight_var / fan_in, as under
        ``NormalPrior``. bias_var: sigma_b^2 >= 0, of Gaussian biases. Each is a number
        or an array; they broadcast.

    To leading order in the width signals follow the same maps as under independent
    Gaussian weights (``anticorrelation`` is 0), so that ``fixed_point``, ``propagate`` and
    all that rests on them take this prior too. What differs is the spectrum of the
    Jacobian: W W^T is a multiple of the identity.

    Raises TypeError or ValueError for what is out of range.

    Source: Saxe, McClelland & Ganguli, arXiv:1312.6120; Pennington, Schoenholz &
    Ganguli, arXiv:1711.04735.
    """

    weight_var: Any
    bias_var: Any = 0.0

    parameters: ClassVar[tuple[str, ...]] = ("weight_var", "bias_var")
    spectral_exponent: ClassVar[int] = 0

    def __post_init__(self):
        _check_variances(self)
        validation.same_shape(weight_var=self.weight_var, bias_var=self.bias_var)

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last two axes of the kernel are inputs and neurons. Where they differ in number
        the shorter side's vectors are orthogonal, of a length that gives every weight the
        variance weight_var / inputs. Axes before them are those of a convolution, whose
        kernel is orthogonal at its centre and zero elsewhere: delta-orthogonal (Xiao et
        al., arXiv:1806.05393). The parameters must be scalars.
        """

        def draw(key, shape, dtype):
            *space, inputs, neurons = shape
            g = jax.random.normal(key, (max(inputs, neurons), min(inputs, neurons)), dtype)
            q, r = jnp.linalg.qr(g)
            # Signs of the diagonal make the factorisation unique, and q uniform.
            q = q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)
            q = q if inputs >= neurons else q.T * (neurons / inputs) ** 0.5
            kernel = _scalar(self.weight_var) ** 0.5 * q
            centre = tuple((n - 1) // 2 for n in space)
            return jnp.zeros(shape, dtype).at[centre].set(kernel) if space else kernel

        return _initializer(draw, self)


@dataclass(frozen=True, eq=False)
class AsymmetricPrior(_CorrelatedRows):
    r"""As ``NormalPrior``, but in every row one weight, at a random place, is replaced.

    weight_var, bias_var, anticorrelation: of the other weights, as for ``NormalPrior``.
    special_weight: law of the replaced weight, of order 1 whatever the fan-in: a
        ``SpecialWeight`` (default Beta(2, 1)), a number for the same weight in every
        row (0 switches it off), or a quantile function, elementwise on (0, 1).

    The special weight makes pre-activations non-Gaussian at any width. Their law
    follows from ``density_evolution`` and ``population_dynamics``.

    With Beta(2, 1) this is RAI (independent weights) and RAAI (anticorrelation = 1).
    In the published RAI the replaced entry may also be the bias, which at width N
    happens to one row in N + 1.

    Raises TypeError or ValueError for what is out of range.

    Source: Lu, Shin, Su & Karniadakis, arXiv:1903.06733; D. Singh, thesis, 2021;
    THEORY section 8.
    """

    special_weight: Any = RAI_WEIGHT

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "special_weight", as_special_weight(self.special_weight))

    @classmethod
    def rai(cls, *, anticorrelation=0.0) -> "AsymmetricPrior":
        """RAI as published: sigma_w = 0.6007, Beta(2, 1), independent weights, no bias.

        anticorrelation: a number or an array, of what lies between this and ``raai``, where it is 1.
        ReLU signals decay under it: their second moment shrinks by 0.7646 per layer at
        anticorrelation 0. See ``unit_gain``.
        """
        return cls(0.6007**2, 0.0, anticorrelation)

    @classmethod
    def raai(cls) -> "AsymmetricPrior":
        """RAAI as published: ``rai`` with rows of weights that sum to zero, anticorrelation 1."""
        return cls.rai(anticorrelation=1.0)

    @classmethod
    def unit_gain(
        cls, activation="relu", anticorrelation=0.0, special_weight=RAI_WEIGHT
    ) -> "AsymmetricPrior":
        """The prior without bias under which the second moment of signals stays as it is.

        activation: piecewise linear with one kink at 0 (ReLU, leaky ReLU, ...): for others the gain
            depends on the signal. special_weight: default Beta(2, 1).
        anticorrelation: a number or an array.

        Raises TypeError or ValueError for other activations and for a special weight
        that by itself amplifies.
        Source: the stationary law of h' = B phi(h) + z; THEORY section 8.
        """
        from meanfield.density.gain import unit_gain_weight_var

        law = as_special_weight(special_weight)
        weight_var = unit_gain_weight_var(activation, anticorrelation, law)
        return cls(weight_var, 0.0, anticorrelation, law)

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``.

        The last axis of the kernel counts neurons, the others their inputs. Where the
        special weight stands is drawn for each neuron. The parameters must be scalars.
        """

        def draw(key, shape, dtype):
            key, place_key, special_key = jax.random.split(key, 3)
            kernel = self._gaussian_kernel(key, shape, dtype).reshape(-1, shape[-1])
            place = jax.random.randint(place_key, shape[-1:], 0, kernel.shape[0])
            special = self.special_weight.sample(special_key, shape[-1:], dtype)
            return kernel.at[place, jnp.arange(shape[-1])].set(special).reshape(shape)

        return _initializer(draw, self)


def _initializer(draw, prior):
    for name in prior.parameters:
        _scalar(getattr(prior, name))

    def init(key, shape, dtype=jnp.float32):
        if len(shape) < 2:
            raise ValueError(f"a kernel needs an input and an output axis, got shape {shape}")
        return draw(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)

    return init


def _check_variances(prior) -> None:
    for name in ("weight_var", "bias_var"):
        object.__setattr__(prior, name, validation.real(name, getattr(prior, name), low=0.0))


def _scalar(value):
    if np.ndim(value) != 0:
        raise ValueError(
            f"weights are drawn from one prior: its parameters must be scalars, got shape {np.shape(value)}"
        )
    return value


def _unflatten(cls, special_weight, leaves):
    """Rebuild without validation: inside a transformation the leaves can be anything."""
    prior = cls.__new__(cls)
    static = {} if special_weight is None else {"special_weight": special_weight}
    for name, value in (dict(zip(cls.parameters, leaves, strict=True)) | static).items():
        object.__setattr__(prior, name, value)
    return prior


for _cls in (NormalPrior, OrthogonalPrior, AsymmetricPrior):
    jax.tree_util.register_pytree_with_keys(
        _cls,
        lambda p: (
            tuple((jax.tree_util.GetAttrKey(name), getattr(p, name)) for name in p.parameters),
            getattr(p, "special_weight", None),
        ),
        functools.partial(_unflatten, _cls),
    )
