"""The activation functions that have a name, and activations from names and callables."""

import inspect
import re
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from meanfield.activations.activation import Activation
from meanfield.support.text import unknown

_built_in = Activation._built_in


def _squared_relu(x):
    return jnp.square(jax.nn.relu(x))


def _leaky_relu(x, slope):
    return jnp.where(x > 0, x, slope * x)


def _linear(x):
    return x


def _polynomial(x, *coefficients):
    return jnp.polyval(jnp.stack([jnp.asarray(a, x.dtype) for a in coefficients[::-1]]), x)


def _snake(x, alpha):
    return x + jnp.square(jnp.sin(alpha * x)) / alpha


def _gelu(x):
    return jax.nn.gelu(x, approximate=False)


linear = _built_in("linear", _linear)
relu = _built_in("relu", jax.nn.relu, (0.0,))
abs = _built_in("abs", jnp.abs, (0.0,))
squared_relu = _built_in("squared_relu", _squared_relu, (0.0,))
tanh = _built_in("tanh", jnp.tanh)
erf = _built_in("erf", jax.scipy.special.erf)
sin = _built_in("sin", jnp.sin)
cos = _built_in("cos", jnp.cos)
sigmoid = _built_in("sigmoid", jax.nn.sigmoid)
softplus = _built_in("softplus", jax.nn.softplus)
gelu = _built_in("gelu", _gelu)
gelu_tanh = _built_in("gelu_tanh", jax.nn.gelu)
silu = _built_in("silu", jax.nn.silu)
mish = _built_in("mish", jax.nn.mish)
selu = _built_in("selu", jax.nn.selu, (0.0,))
hard_tanh = _built_in("hard_tanh", jax.nn.hard_tanh, (-1.0, 1.0))
relu6 = _built_in("relu6", jax.nn.relu6, (0.0, 6.0))
softsign = _built_in("softsign", jax.nn.soft_sign, (0.0,))
arctan = _built_in("arctan", jnp.arctan)
hard_swish = _built_in("hard_swish", jax.nn.hard_swish, (-3.0, 3.0))
log_sigmoid = _built_in("log_sigmoid", jax.nn.log_sigmoid)


def leaky_relu(slope=0.01) -> Activation:
    """x for x > 0, slope * x below."""
    return _built_in("leaky_relu", _leaky_relu, (0.0,), (slope,))


def elu(alpha=1.0) -> Activation:
    """x for x > 0, alpha * (exp(x) - 1) below (Clevert et al. 2016)."""
    return _built_in("elu", jax.nn.elu, (0.0,), (alpha,))


def celu(alpha=1.0) -> Activation:
    """x for x > 0, alpha * (exp(x / alpha) - 1) below (Barron 2017)."""
    return _built_in("celu", jax.nn.celu, (0.0,), (alpha,))


def squareplus(b=4.0) -> Activation:
    """(x + sqrt(x^2 + b)) / 2, smooth for b > 0, relu for b = 0 (Barron 2021)."""
    return _built_in("squareplus", jax.nn.squareplus, (), (b,))


def snake(alpha=1.0) -> Activation:
    """x + sin(alpha x)^2 / alpha, for periodic data; alpha is not 0 (Ziyin et al. 2020)."""
    return _built_in("snake", _snake, (), (alpha,))


def polynomial(*coefficients) -> Activation:
    """coefficients[0] + coefficients[1] x + coefficients[2] x^2 + ..."""
    if not coefficients:
        raise ValueError("polynomial needs at least one coefficient")
    return _built_in("polynomial", _polynomial, (), coefficients)


FAMILIES: dict[str, Callable[..., Activation]] = {
    f.__name__: f for f in (leaky_relu, elu, celu, squareplus, snake, polynomial)
}
FIXED: dict[str, Activation] = {
    a.name: a
    for a in (
        *(linear, relu, abs, squared_relu, tanh, erf, sin, cos, sigmoid, softplus),
        *(gelu, gelu_tanh, silu, mish, selu, hard_tanh, relu6, softsign, arctan),
        *(hard_swish, log_sigmoid),
    )
}
NAMES = sorted({*FIXED, *FAMILIES})
NAMED = FIXED | {name: family() for name, family in FAMILIES.items() if family is not polynomial}
"""What the names stand for without parameters."""

_KNOWN_FUNCTIONS: dict[Any, Activation] = {a.fn: a for a in FIXED.values()} | {
    jax.nn.elu: elu(),
    jax.nn.celu: celu(),
    jax.nn.leaky_relu: leaky_relu(),
    jax.nn.squareplus: squareplus(),
    jax.nn.swish: silu,
}


def as_activation(activation) -> Activation:
    """An ``Activation`` from one, from a name such as "elu" or "elu(0.5)", in any case, or from a callable.

    Raises ValueError for an unknown name (and names the nearest one), TypeError for
    anything that cannot be an activation.
    """
    if isinstance(activation, Activation):
        return activation.as_it_is()
    if isinstance(activation, str):
        return _by_name(activation)
    if inspect.isfunction(activation) and activation in FAMILIES.values():
        return activation()
    if callable(activation):
        return _from_callable(activation)
    raise TypeError(
        f"activation must be a name, a function or a meanfield.Activation, got {type(activation).__name__}"
    )


def _from_callable(fn) -> Activation:
    known = _KNOWN_FUNCTIONS.get(fn) if isinstance(fn, Hashable) else None
    return known or Activation.of(fn)


def _by_name(text: str) -> Activation:
    name, _, arguments = text.strip().rstrip(")").partition("(")
    name = name.strip().lower()
    if name in FIXED and not arguments:
        return FIXED[name]
    if name in FAMILIES:
        try:
            values = [float(a) for a in re.split(r"\s*,\s*", arguments.strip()) if a]
            return FAMILIES[name](*values)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"activation {text!r}: {name} takes numbers, as in {name}(0.5): {error}"
            ) from error
    if name in FIXED:
        raise ValueError(f"activation {text!r}: {name} takes no parameters")
    raise ValueError(unknown("activation", text, NAMES))
