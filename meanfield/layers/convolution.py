"""Convolutions with circular padding (THEORY of layers, section 4)."""

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.layers.base import Layer
from meanfield.layers.dense import Dense
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import validation


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Conv(Dense):
    r"""Convolution of infinitely many channels, circularly padded: h' = W * phi(h) + b.

    activation, prior: as for ``Dense``; fan-in is the number of taps times the channels. kernel_size: taps
        along every axis of the image.

    Where all positions have one variance and each lag one correlation, the layer acts on each as a dense one
    does: ``fixed_point`` and all else see that uniform point. What differs from it decays mode by mode:
    ``fourier_modes``. ``position_map`` is the map of the covariances between positions. An
    ``OrthogonalPrior`` draws delta-orthogonal kernels, whose only tap is the central one.

    Raises TypeError or ValueError naming the argument that is wrong.

    Source: Xiao et al. 2018, arXiv:1806.05393.
    """

    kernel_size: tuple[int, ...] = field(metadata={"static": True})

    def __init__(self, activation, prior, kernel_size: Sequence[int] = (3, 3)):
        super().__init__(activation, prior)
        object.__setattr__(self, "kernel_size", _sizes("kernel_size", kernel_size))

    def within_batch(self):
        return Layer.within_batch(self)

    def eigenvalues(self, image_size: Sequence[int]) -> Float[Array, "..."]:
        """lambda_k of the average over a kernel's taps, for every Fourier mode of an image of that size.

        Shape ``image_size``, in the order of ``numpy.fft.fftn``. Real, of either sign, for odd kernels;
        complex if a size is even. Raises TypeError or ValueError, also if the kernel is larger than the
        image.
        """
        image_size = self._fitting(image_size)
        per_axis = [_eigenvalues(taps, n) for taps, n in zip(self._taps, image_size, strict=True)]
        return jnp.asarray(functools.reduce(np.multiply.outer, per_axis))

    @property
    def _taps(self) -> tuple[int, ...]:
        return self.kernel_size if self.prior.spreads else (1,) * len(self.kernel_size)

    def _fitting(self, image_size) -> tuple[int, ...]:
        image_size = _sizes("image_size", image_size)
        if len(image_size) != len(self.kernel_size):
            raise ValueError(
                f"image_size must have as many axes as kernel_size {self.kernel_size}, got {image_size}"
            )
        if any(map(operator.gt, self.kernel_size, image_size)):
            raise ValueError(
                f"image_size must be at least kernel_size {self.kernel_size} along every axis, "
                f"got {image_size}"
            )
        return image_size

    def mode_rates(self, q, theta, image_size):
        radial, angular = super().mode_rates(q, theta, image_size)
        return tuple(self.eigenvalues(image_size) * x for x in (radial, angular))

    def position_map(self, covariance: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""Covariances between all positions one layer on, from those of this one.

        covariance: of pre-activations of one signal, shape (\*image, \*image), symmetric, with positive
            variances; of several signals, shape (signals, \*image, signals, \*image).

        Differentiable. Raises ValueError for other shapes, or a kernel larger than the image.
        """
        given = jnp.asarray(covariance)
        axes = len(self.kernel_size)
        half = given.shape[: given.ndim // 2]
        if given.ndim not in (2 * axes, 2 * axes + 2) or given.shape != half + half:
            raise ValueError(
                f"covariance must have the shape of the image twice, or (signals, *image) twice, with {axes} "
                f"axes as kernel_size has, got shape {given.shape}"
            )
        image = self._fitting(half[-axes:])
        size = math.prod(half)
        covariance, mean = self._activations(given.reshape(size, size))
        spatial = tuple(range(len(half) - axes, len(half)))
        mean = self._averaged(mean.reshape(half), [spatial], image).reshape(size)
        pair = self._averaged(
            covariance.reshape(half + half), [spatial, tuple(a + len(half) for a in spatial)], image
        )
        pair = pair.reshape(size, size) - self.prior.anticorrelation * jnp.outer(mean, mean)
        return (self.prior.weight_var * pair + self.prior.bias_var).reshape(given.shape)

    def _activations(self, covariance):
        """E phi phi' of every two positions, and E phi of each."""
        q = jnp.diagonal(covariance)
        root = jnp.sqrt(q)
        c = jnp.clip(covariance / jnp.outer(root, root), -1, 1)
        mean = jax.vmap(self.dual.mean)(q)
        first, second = (x.ravel() for x in jnp.broadcast_arrays(q[:, None], q))
        pairs = jax.lax.map(
            lambda pair: self.dual.covariance(*pair),
            (first, second, c.ravel()),
            batch_size=self.points_at_once or c.size,
        )
        pairs = pairs.reshape(c.shape)
        return (pairs + pairs.T) / 2 + jnp.outer(mean, mean), mean

    def _averaged(self, x, groups, image):
        """The mean over the taps, by which the axes of every group are shifted together."""
        for i, taps in enumerate(self._taps):
            axes = tuple(group[i] for group in groups)
            x = sum(jnp.roll(x, (-shift,) * len(axes), axes) for shift in _shifts(taps)) / taps
        return x


def _sizes(name, value) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a sequence of integers, one an axis, got {value!r}")
    if len(value) == 0:
        raise ValueError(f"{name} must have at least one axis, got {value!r}")
    return tuple(validation.count(f"{name}[{i}]", n) for i, n in enumerate(value))


def _shifts(taps: int) -> range:
    """Positions of the taps about the central one."""
    return range(-((taps - 1) // 2), taps // 2 + 1)


def _eigenvalues(taps: int, n: int):
    """Of the average over the taps, on a circle of n positions."""
    phase = 2 * np.pi * np.outer(np.arange(n), _shifts(taps)) / n
    return np.cos(phase).mean(axis=1) if taps % 2 else np.exp(1j * phase).mean(axis=1)
