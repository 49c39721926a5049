"""What the signals of a layer are, beside one another: a pair, images, a batch, the tokens of a sequence."""

import functools
import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.layers import Conv, Transformer


@dataclass(frozen=True)
class Pair:
    """Two signals; of convolutions two images, whose positions are independent at the start.

    image: positions along every axis.
    """

    image: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Axes before that of the neurons, the first of them the signals."""
        return (2, *self.image)

    def start(self, c0) -> np.ndarray:
        """A root of the matrix of correlations between all places, one a row."""
        return np.kron(simplex_root(2, c0), np.eye(math.prod(self.image)))

    def observed(self, h: Float[Array, "... width"]) -> dict:
        """Variance and 1 - c, averaged over neurons and places."""
        q = jnp.mean(h**2)
        first, second = (jnp.sqrt(jnp.mean(x**2)) for x in h)
        gap = (jnp.mean((h[0] - h[1]) ** 2) - (first - second) ** 2) / 2
        return dict(q=q, one_minus_c=gap / (first * second))


@dataclass(frozen=True)
class Batch:
    """Pairs of signals, of which none has to do with the others; all are counted from their mean."""

    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a ``Pair``."""
        return (2 * self.count,)

    def start(self, c0) -> np.ndarray:
        """As of a ``Pair``."""
        return np.kron(np.eye(self.count), simplex_root(2, c0))

    def observed(self, h: Float[Array, "batch width"]) -> dict:
        """Variance about the mean of the batch, and 1 - c of the pairs there."""
        q = jnp.mean(jnp.var(h, axis=0))
        return dict(q=q, one_minus_c=jnp.mean((h[::2] - h[1::2]) ** 2) / (2 * q))


@dataclass(frozen=True)
class Tokens:
    """Tokens of a sequence, every pair with one correlation."""

    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a ``Pair``."""
        return (self.count,)

    def start(self, c0) -> np.ndarray:
        """As of a ``Pair``."""
        return simplex_root(self.count, c0)

    def observed(self, h: Float[Array, "tokens width"]) -> dict:
        """Variance of tokens, and 1 - c, both averaged over all of them."""
        q = jnp.mean(h**2)
        return dict(q=q, one_minus_c=jnp.mean(jnp.var(h, axis=0, ddof=1)) / q)


def simplex_root(count: int, c0: float) -> np.ndarray:
    """The root of the matrix of ``count`` signals, every two of correlation c0 >= -1/(count - 1)."""
    own = np.sqrt(1.0 - float(c0))
    common = (np.sqrt(max(1.0 + (count - 1) * float(c0), 0.0)) - own) / count
    return own * np.eye(count) + common


def arrangement_of(layers, width: int):
    """What networks of ``width`` neurons made of these layers hold.

    A batch has half as many signals as there are neurons, so that both limits are approached alike.
    """
    if isinstance(layers[0], Transformer):
        return Tokens(layers[0].tokens)
    if layers[0].about_batch:
        return Batch(max(width // 4, 2))
    convolutions = [layer for layer in functools.reduce(list.__add__, map(parts_of, layers))
                    if isinstance(layer, Conv)]  # fmt: skip
    if not all(layer.keeps_image for layer in convolutions):
        raise ValueError(
            "with strides, or kernels inside of the image alone, images grow smaller from layer to layer: "
            "compare such networks with meanfield.empirical.compare_positions"
        )
    kernels = [layer.kernel_size for layer in convolutions]
    if len({len(kernel) for kernel in kernels}) > 1:
        raise ValueError(f"all kernels must have as many axes, got the sizes {kernels}")
    return Pair(tuple(2 * max(taps) - 1 for taps in zip(*kernels, strict=True)))


def parts_of(layer) -> list:
    """The layers inside a layer, or it alone."""
    inside = [*getattr(layer, "layers", ()), *filter(None, [getattr(layer, "branch", None)])]
    return [part for x in inside for part in parts_of(x)] if inside else [layer]
