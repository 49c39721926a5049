"""Fourier modes of images in convolutional networks: which of them survive how many layers."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.fixed_points.point import fixed_point
from meanfield.fixed_points.stability import depth_scale
from meanfield.layers import as_layer
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.status import Status


@register_dataclass
@dataclass(frozen=True, eq=False)
class FourierModes:
    r"""Rates of deviations from the uniform fixed point; shape (\*points, \*image), in the order of ``fftn``.

    chi_q: of the variance from position to position, by which a deviation is multiplied in a layer. chi_c: of
    a lag's correlations at c*. chi_1: the same at c = 1. xi_q, xi_c: layers over which they fall by a factor
    e; infinite where they stay, NaN where they grow.
    """

    chi_q: Float[Array, "..."]
    chi_c: Float[Array, "..."]
    chi_1: Float[Array, "..."]
    xi_q: Float[Array, "..."]
    xi_c: Float[Array, "..."]


def fourier_modes(layer, image_size: Sequence[int], *, q0=1.0, c0=0.0) -> FourierModes:
    """What every Fourier mode of an image is multiplied by in a layer, and how deep it reaches.

    layer: a ``Conv``, or a ``Chain`` or ``Residual`` with some. image_size: positions along every axis.
    q0, c0: as for ``fixed_point``; all broadcast. NaN where no finite variance stays.

    Mode 0 is uniform and has the rates of a dense layer. In a plain convolution mode k has these times
    ``Conv.eigenvalues``, which may be negative: the deviation then alternates.
    Raises TypeError or ValueError, also if a kernel is larger than the image.
    Source: Xiao et al. 2018, arXiv:1806.05393, section 2.
    """
    layer = as_layer(layer)
    point = fixed_point(layer, q0=q0, c0=c0)
    stays = (point.status == Status.CONVERGED) | (point.status == Status.MARGINAL)
    q = jnp.where(stays, point.q, jnp.nan)
    return pointwise(_modes, layer, q, point.one_minus_c, static=(tuple(image_size),))


def _modes(layer, q, one_minus_c, image_size) -> FourierModes:
    known = jnp.isfinite(q) & jnp.isfinite(one_minus_c)
    q, one_minus_c = jnp.where(known, q, 1.0), jnp.where(known, one_minus_c, 0.0)
    layer = layer.guarded(layer.is_valid())
    scale = q / layer.variance_map(q)
    rates = functools.partial(layer.mode_rates, q, image_size=image_size)
    radial, at_one = rates(theta=None)
    parted = one_minus_c > 0
    angle = 2 * jnp.arcsin(jnp.sqrt(jnp.where(parted, one_minus_c, 0.5) / 2))
    at_c = jnp.where(parted, rates(theta=angle)[1], at_one)
    chi_q, chi_c, chi_1 = (
        jnp.broadcast_to(jnp.where(known, x, jnp.nan), image_size)
        for x in (radial, scale * at_c, scale * at_one)
    )
    return FourierModes(chi_q, chi_c, chi_1, depth_scale(chi_q), depth_scale(chi_c))
