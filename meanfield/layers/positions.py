"""Covariances between the positions of images, followed through networks of any layers."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.layers.base import Layer
from meanfield.layers.contract import keeps_contract
from meanfield.support import validation

Covariance = Float[Array, "..."]


def propagate_positions(layers, covariance, *, depth: int | None = None) -> tuple[Covariance, ...]:
    r"""Covariances between all positions at every layer of a network, entry 0 the start.

    layers: a sequence of layers, with ``Conv`` of any padding and strides, ``AveragePool``, and blocks that
        hold some; or one layer, ``depth`` times (by default once). covariance: of pre-activations of one
        image, shape (\*image, \*image), or of several, (signals, \*image, signals, \*image).

    Exact at infinite width. Strides and averages make images smaller: each entry has its own shape.
    Differentiable. Raises TypeError or ValueError, also for a layer without such a map, and a window larger
    than its image.

    Source: Novak et al. 2019, arXiv:1810.05148; Garriga-Alonso et al. 2019, arXiv:1808.05587.
    """
    found = [_checked(covariance)]
    for layer in _layers(layers, depth):
        found.append(_step(layer, found[-1]))
    return tuple(found)


def gradient_positions(
    layers, covariance, *, depth: int | None = None, gradient: Covariance | None = None
) -> tuple[Covariance, ...]:
    r"""Covariances between positions of the gradient with respect to every layer's pre-activations.

    Entry 0 is that at the start, the last is ``gradient``: by default the identity, independent directions of
    size 1 at all positions. Other arguments and errors as for ``propagate_positions``.

    What convolutions gather forwards they hand back, position by position; the weights of layers are
    taken as independent of the gradient behind them. Source: Xiao et al. 2018, arXiv:1806.05393.
    """
    layers = _layers(layers, depth)
    states = propagate_positions(layers, covariance)
    last = states[-1]
    if gradient is None:
        half = last.shape[: last.ndim // 2]
        gradient = jnp.eye(int(np.prod(half)), dtype=last.dtype).reshape(last.shape)
    gradient = jnp.asarray(gradient, last.dtype)
    if gradient.shape != last.shape:
        raise ValueError(
            f"gradient must have the shape of the last covariances, {last.shape}, got {gradient.shape}"
        )
    found = [gradient]
    for layer, state in zip(reversed(layers), reversed(states[:-1]), strict=True):
        found.append(_step_back(layer, state, found[-1]))
    return tuple(reversed(found))


@jax.jit
def _step(layer, covariance):
    found = layer.position_map(covariance)
    return jnp.where(layer.is_valid(), found, jnp.nan)


@jax.jit
def _step_back(layer, covariance, gradient):
    step = layer.position_slopes(covariance)
    (found,) = jax.linear_transpose(step, covariance)(gradient)
    return jnp.where(layer.is_valid(), found, jnp.nan)


def _layers(layers, depth) -> list[Layer]:
    if isinstance(layers, list | tuple):
        if depth is not None and depth != len(layers):
            raise ValueError(
                f"depth must be left out, or be the number of layers: {len(layers)}, got {depth}"
            )
        found = list(layers)
    else:
        found = [layers] * validation.count("depth", 1 if depth is None else depth, low=0)
    for layer in found:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be meanfield layers, as Conv and AveragePool are, got {layer!r}")
        keeps_contract(layer)
    return found


def _checked(covariance):
    covariance = jnp.asarray(covariance)
    if not jnp.issubdtype(covariance.dtype, jnp.inexact):
        covariance = covariance.astype(float)
    if validation.is_traced(covariance):
        return covariance
    half = covariance.shape[: covariance.ndim // 2]
    size = int(np.prod(half))
    matrix = np.asarray(covariance).reshape(-1, size) if size else np.empty((0, 0))
    if covariance.ndim < 2 or covariance.shape != half + half:
        raise ValueError(f"covariance must have the shape of the image twice, got shape {covariance.shape}")
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T, rtol=1e-6):
        raise ValueError("covariance must be finite and symmetric between positions")
    if not np.all(np.diagonal(matrix) > 0):
        raise ValueError("covariance must have positive variances on its diagonal")
    return covariance
