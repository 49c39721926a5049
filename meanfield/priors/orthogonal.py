"""Orthogonal weights."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from meanfield.priors.base import Prior, check_variances, initializer, register, scalar
from meanfield.support import validation


@register
@dataclass(frozen=True, eq=False)
class OrthogonalPrior(Prior):
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
    independent_rows: ClassVar[bool] = False
    spreads: ClassVar[bool] = False
    spectral_exponent: ClassVar[int] = 0

    def __post_init__(self):
        check_variances(self)
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
            kernel = scalar(self.weight_var) ** 0.5 * q
            centre = tuple((n - 1) // 2 for n in space)
            return jnp.zeros(shape, dtype).at[centre].set(kernel) if space else kernel

        return initializer(draw, self)
