"""Windows that slide over an image: which positions each output reads, and means over them."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from meanfield.support import validation

PADDINGS = ("CIRCULAR", "VALID", "SAME")


@dataclass(frozen=True)
class Windows:
    """Windows of ``size`` positions along every axis, ``strides`` apart.

    padding, in Flax's words: "CIRCULAR", where the image continues at its other end; "VALID", windows inside
    the image alone; "SAME", where zeros surround it. central: whether only the tap in the middle is read.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str
    central: bool = False

    def fitting(self, name: str, image) -> tuple[int, ...]:
        """The size of an image. Raises TypeError or ValueError if it is none, or smaller than a window.

        Zeros around it make room for any window.
        """
        image = sizes("image_size", image)
        if len(image) != len(self.size):
            raise ValueError(f"image_size must have as many axes as {name} {self.size}, got {image}")
        if self.padding != "SAME" and any(map(operator.gt, self.size, image)):
            raise ValueError(f"image_size must be at least {name} {self.size} along every axis, got {image}")
        return image

    def outputs(self, image) -> tuple[int, ...]:
        """How many windows there are along every axis."""
        return tuple(len(self._reads(axis, n)[0]) for axis, n in enumerate(image))

    def mean(self, x, groups, image):
        """The mean over every window, by whose taps the axes of all groups are shifted together.

        groups: of axes of x, each as many as the image has; zeros count.
        """
        for axis, n in enumerate(image):
            index, inside = self._reads(axis, n)
            axes = [group[axis] for group in groups]
            total = 0.0
            for taps, within in zip(index.T, inside.T, strict=True):
                read = x
                for a in axes:
                    read = jnp.take(read, taps, axis=a)
                    if not within.all():
                        read = read * np.expand_dims(within, [d for d in range(x.ndim) if d != a])
                total = total + read
            x = total / index.shape[1]
        return x

    def _reads(self, axis: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(position, whether it is in the image) of every tap, shape (outputs, taps)."""
        size, stride = self.size[axis], self.strides[axis]
        count = (n - size) // stride + 1 if self.padding == "VALID" else -(-n // stride)
        before = {
            "CIRCULAR": (size - 1) // 2,
            "VALID": 0,
            "SAME": max((count - 1) * stride + size - n, 0) // 2,
        }[self.padding]
        taps = np.array([(size - 1) // 2]) if self.central else np.arange(size)
        position = stride * np.arange(count)[:, None] + taps - before
        return position % n, (self.padding == "CIRCULAR") | (position >= 0) & (position < n)


def sizes(name, value) -> tuple[int, ...]:
    """A count for every axis. Raises TypeError or ValueError naming what is none."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a sequence of integers, one an axis, got {value!r}")
    if len(value) == 0:
        raise ValueError(f"{name} must have at least one axis, got {value!r}")
    return tuple(validation.count(f"{name}[{i}]", n) for i, n in enumerate(value))


def strides_of(strides, size: tuple[int, ...], default: tuple[int, ...]) -> tuple[int, ...]:
    """One for every axis of a window, from a number, a sequence or None."""
    if strides is None:
        return default
    if isinstance(strides, Sequence | np.ndarray) and not isinstance(strides, str):
        found = sizes("strides", strides)
        if len(found) != len(size):
            raise ValueError(f"strides must have as many axes as the window {size}, got {found}")
        return found
    return (validation.count("strides", strides),) * len(size)


def halves(covariance, axes: int | None) -> tuple[tuple[int, ...], int]:
    r"""(shape of one half, number of places) of covariances, shape (\*places, \*places).

    axes: of an image, before which signals may have one; None: any. Raises ValueError for other shapes.
    """
    half = covariance.shape[: covariance.ndim // 2]
    known = axes is None or covariance.ndim in (2 * axes, 2 * axes + 2)
    if not (known and half and covariance.shape == half + half):
        of_axes = "" if axes is None else f", with {axes} axes an image"
        raise ValueError(
            "covariance must have the shape of the image twice, or (signals, *image) twice"
            f"{of_axes}, got shape {covariance.shape}"
        )
    return half, math.prod(half)


def spatial(ndim: int, axes: int) -> tuple[int, ...]:
    """The last axes, those of the image."""
    return tuple(range(ndim - axes, ndim))
