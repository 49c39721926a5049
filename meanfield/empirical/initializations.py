"""Initialisations by name: those of the literature and those of correlated priors."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax.nn import initializers as standard

from meanfield.asymmetric.prior import AsymmetricPrior
from meanfield.priors import NormalPrior, is_prior
from meanfield.support.text import unknown


@dataclass(frozen=True)
class Initialization:
    """Initializers of kernels and biases under a name; models take it in place of a prior."""

    name: str
    kernel: Callable
    bias: Callable

    def kernel_init(self):
        """An initializer ``(key, shape, dtype) -> kernel`` as in ``jax.nn.initializers``."""
        return self.kernel

    def bias_init(self):
        """An initializer ``(key, shape, dtype) -> bias`` as in ``jax.nn.initializers``."""
        return self.bias


def _of_prior(make):
    """The initializers of the prior that ``make`` makes of the numbers in brackets."""

    def both(*numbers):
        prior = make(*numbers)
        return prior.kernel_init(), prior.bias_init()

    return both


def _with_zero_bias(kernel):
    return lambda: (kernel, standard.zeros)


def _anticorrelated(kappa=1.0, weight_var=None) -> NormalPrior:
    """By default with the weight variance at which ReLU signals keep theirs (THEORY section 7)."""
    if weight_var is None:
        weight_var = 2 * math.pi / (math.pi - kappa)
    return NormalPrior(weight_var, 0.0, kappa)


# name: (how it is made from the numbers in brackets, how many there may be)
_ENTRIES: dict[str, tuple[Callable[..., tuple[Any, Any]], int]] = {
    "he": (_with_zero_bias(standard.he_normal()), 0),  # He et al., arXiv:1502.01852
    "glorot": (_with_zero_bias(standard.glorot_uniform()), 0),  # Glorot & Bengio, AISTATS 2010
    "lecun": (_with_zero_bias(standard.lecun_normal()), 0),  # LeCun et al., 1998
    "orthogonal": (_with_zero_bias(standard.orthogonal(2**0.5)), 0),  # Saxe et al., arXiv:1312.6120
    "anticorrelated": (_of_prior(_anticorrelated), 2),
    "rai": (_of_prior(AsymmetricPrior.rai), 0),  # Lu et al., arXiv:1903.06733
    "raai": (_of_prior(AsymmetricPrior.raai), 0),
    "rai_unit_gain": (_of_prior(AsymmetricPrior.unit_gain), 0),
    "raai_unit_gain": (_of_prior(lambda: AsymmetricPrior.unit_gain(anticorrelation=1.0)), 0),
}
NAMES = tuple(_ENTRIES)


def initialization(name) -> Initialization:
    """An initialisation by its name.

    "he", "glorot", "lecun", "orthogonal" (gain sqrt(2)), "rai" and "raai" (as published,
    sigma_w = 0.6007), "rai_unit_gain", "raai_unit_gain" (under which the second moment of
    ReLU signals stays as it is), "anticorrelated(kappa)" (default kappa 1, and for the
    weight variance the value that keeps ReLU signals as they are, 2 pi/(pi - kappa))
    and "anticorrelated(kappa, weight_var)". Biases start at zero.

    An ``Initialization`` comes back as it is; a prior becomes one. Raises ValueError
    naming the nearest name, TypeError for what is none of these.
    """
    if isinstance(name, Initialization):
        return name
    if is_prior(name):
        return Initialization(repr(name), name.kernel_init(), name.bias_init())
    if not isinstance(name, str):
        raise TypeError(f"initialization must be a name or a prior, got {name!r}")
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", name)
    key = match[1].lower() if match else name
    if key not in _ENTRIES:
        raise ValueError(unknown("initialization", name, NAMES))
    make, most = _ENTRIES[key]
    numbers = _numbers(name, match[2] if match else None)
    if len(numbers) > most:
        raise ValueError(f"initialization {name!r} takes at most {most} numbers, got {len(numbers)}")
    kernel, bias = make(*numbers)
    text = f"{key}({', '.join(f'{x:g}' for x in numbers)})" if numbers else key
    return Initialization(text, kernel, bias)


def _numbers(name: str, text: str | None) -> list[float]:
    if not text or not text.strip():
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"initialization {name!r} must have numbers in its brackets") from None
