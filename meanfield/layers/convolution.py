"""Convolutions (THEORY of layers, section 4)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.layers.base import Layer
from meanfield.layers.dense import Dense
from meanfield.layers.pairs import over_pairs, slopes_over_pairs
from meanfield.layers.pooling import AveragePool
from meanfield.layers.positional import PositionalConv
from meanfield.layers.windows import PADDINGS, Windows, sizes, spatial, strides_of
from meanfield.numerics.pytrees import register_dataclass
from meanfield.support import text


@register_dataclass
@dataclass(frozen=True, eq=False, init=False)
class Conv(Dense):
    r"""Convolution of infinitely many channels: h' = W * phi(h) + b.

    activation, prior: as for ``Dense``; fan-in is the number of taps times the channels. kernel_size: taps
        along every axis of the image. strides: positions from one output to the next, a number or one an
        axis. padding, in Flax's words: "CIRCULAR", where the image continues at its other end; "VALID", where
        kernels stay inside of it; "SAME", where zeros surround it. pool: an ``AveragePool`` that the
        activations pass before the weights.

    Where all positions have one variance and each lag one correlation, the layer acts on each as a dense one
    does: ``fixed_point`` and all else see that uniform point. What differs from it decays mode by mode:
    ``fourier_modes``. ``position_map`` is the map of the covariances between positions, and
    ``propagate_positions`` follows them through a network. An ``OrthogonalPrior`` draws delta-orthogonal
    kernels, whose only tap is the central one.

    With zeros around the image, or averages over windows, there is no uniform point: a ``PositionalConv``
    comes out, which has the map of covariances alone, and says so where another is asked for.

    Raises TypeError or ValueError naming the argument that is wrong.

    Source: Xiao et al. 2018, arXiv:1806.05393; for padding and averages Novak et al. 2019, arXiv:1810.05148.
    """

    kernel_size: tuple[int, ...] = field(metadata={"static": True})
    strides: tuple[int, ...] = field(metadata={"static": True})
    padding: str = field(metadata={"static": True})

    def __new__(cls, activation, prior, kernel_size=(3, 3), *, strides=1, padding="CIRCULAR", pool=None):
        conv = object.__new__(cls)
        conv._set(activation, prior, kernel_size, strides, padding)
        if pool is not None and not isinstance(pool, AveragePool):
            raise TypeError(f"pool must be a meanfield.AveragePool, got {pool!r}")
        if pool is None and (padding != "SAME" or not conv.prior.spreads):
            return conv
        return PositionalConv(conv, pool)

    def __init__(self, activation, prior, kernel_size=(3, 3), *, strides=1, padding="CIRCULAR", pool=None):
        pass

    def _set(self, activation, prior, kernel_size, strides, padding):
        super().__init__(activation, prior)
        set_field = lambda name, value: object.__setattr__(self, name, value)
        kernel_size = sizes("kernel_size", kernel_size)
        set_field("kernel_size", kernel_size)
        set_field("strides", strides_of(strides, kernel_size, (1,) * len(kernel_size)))
        if padding not in PADDINGS:
            raise ValueError(text.unknown("padding", padding, PADDINGS))
        set_field("padding", padding)

    def within_batch(self):
        return Layer.within_batch(self)

    @property
    def windows(self) -> Windows:
        """Which positions its kernels read."""
        return Windows(self.kernel_size, self.strides, self.padding, central=not self.prior.spreads)

    @property
    def keeps_image(self) -> bool:
        """Whether there are as many positions one layer on, each about the one that it was."""
        return set(self.strides) == {1} and self.padding != "VALID"

    def eigenvalues(self, image_size: Sequence[int]) -> Float[Array, "..."]:
        """lambda_k of the average over a kernel's taps, for every Fourier mode of an image of that size.

        Shape ``image_size``, in the order of ``numpy.fft.fftn``. Real, of either sign, for odd kernels;
        complex if a size is even. With strides they are the factors at which modes arrive, each in the one
        that ``aliases`` tells. Raises TypeError or ValueError, also if the kernel is larger than the image,
        or not circular.
        """
        image_size = self._circle(image_size)
        taps = self.kernel_size if self.prior.spreads else (1,) * len(self.kernel_size)
        per_axis = [_eigenvalues(k, n) for k, n in zip(taps, image_size, strict=True)]
        return jnp.asarray(functools.reduce(np.multiply.outer, per_axis))

    def aliases(self, image_size: Sequence[int]) -> np.ndarray:
        r"""Which Fourier mode of the smaller image every mode arrives in, behind strides.

        Shape (\*image_size, axes): mode k goes to k modulo the number of outputs, along every axis, so that
        as many modes as the strides have a product become one. Raises TypeError or ValueError, also if the
        strides do not divide the image.
        """
        image_size = self._circle(image_size)
        if any(n % s for n, s in zip(image_size, self.strides, strict=True)):
            raise ValueError(f"image_size must be a multiple of strides {self.strides}, got {image_size}")
        modes = np.moveaxis(np.indices(image_size), 0, -1)
        return modes % np.floor_divide(image_size, self.strides)

    def _circle(self, image_size) -> tuple[int, ...]:
        image_size = self.windows.fitting("kernel_size", image_size)
        if self.padding != "CIRCULAR" and not (self.keeps_image and self.windows.central):
            raise ValueError(
                f"an image without circular padding has no Fourier modes, got padding {self.padding!r}: "
                "take padding='CIRCULAR', or follow covariances with propagate_positions"
            )
        return image_size

    def mode_rates(self, q, theta, image_size):
        eigenvalues = self.eigenvalues(image_size)
        if not self.keeps_image:
            raise ValueError(
                f"strides {self.strides} make several modes one, so that none has a rate of its own: "
                "Conv.eigenvalues and Conv.aliases say what becomes of them in one layer"
            )
        radial, angular = super().mode_rates(q, theta, image_size)
        return tuple(eigenvalues * x for x in (radial, angular))

    def position_map(self, covariance):
        return self.behind_pool(covariance, None)

    def position_slopes(self, covariance):
        return self.slopes_behind_pool(covariance, None)

    def behind_pool(self, covariance, pool):
        """``position_map`` where the activations pass an ``AveragePool`` first, or None."""
        half, flat = self._places(covariance, len(self.kernel_size))
        pair, mean = self._activations(flat)
        pair, mean = pair.reshape(half + half), mean.reshape(half)
        if pool is not None:
            pair, mean = pool.position_map(pair), pool.averaged(mean)
        image = mean.shape[-len(self.kernel_size) :]
        pair = self._gathered(pair, image)
        windows = self.windows
        mean = windows.mean(mean, [spatial(mean.ndim, len(image))], image)
        square = jnp.multiply.outer(mean, mean)
        pair = pair - self.prior.anticorrelation * square
        return self.prior.weight_var * pair + self.prior.bias_var

    def slopes_behind_pool(self, covariance, pool):
        """``position_slopes`` likewise."""
        half, flat = self._places(covariance, len(self.kernel_size))
        slopes = slopes_over_pairs(self.dual.covariance, self.dual.slope_moment, flat, self.points_at_once)
        slopes = slopes.reshape(half + half)

        def step(tangents):
            tangents = slopes * tangents
            tangents = tangents if pool is None else pool.position_map(tangents)
            image = tangents.shape[-len(self.kernel_size) :]
            return self.prior.weight_var * self._gathered(tangents, image)

        return step

    def _gathered(self, pair, image):
        """The mean over the taps that both positions of a pair share."""
        self.windows.fitting("kernel_size", image)
        half = pair.ndim // 2
        first = spatial(half, len(image))
        return self.windows.mean(pair, [first, tuple(a + half for a in first)], image)

    def _activations(self, covariance):
        """E phi phi' of every two positions, and E phi of each."""
        mean = jax.vmap(self.dual.mean)(jnp.diagonal(covariance))
        pairs = over_pairs(self.dual.covariance, covariance, self.points_at_once)
        return pairs + jnp.outer(mean, mean), mean


def _eigenvalues(taps: int, n: int):
    """Of the average over the taps about the central one, on a circle of n positions."""
    shifts = range(-((taps - 1) // 2), taps // 2 + 1)
    phase = 2 * np.pi * np.outer(np.arange(n), shifts) / n
    return np.cos(phase).mean(axis=1) if taps % 2 else np.exp(1j * phase).mean(axis=1)
