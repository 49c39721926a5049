"""Convolutional networks of stock Flax layers, position by position, beside the theory."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from meanfield.empirical.blocks import applied, block_of
from meanfield.empirical.comparison import Extrapolation, p_value_of
from meanfield.layers import gradient_positions, propagate_positions
from meanfield.support import validation


@dataclass(frozen=True, eq=False)
class PositionsComparison:
    r"""Covariances between positions in two ensembles, of one width and of twice that, beside the theory.

    Tuples over layers, entry 0 the start. covariance, gradient: of signals and of gradients at infinite
    width, as ``propagate_positions`` and ``gradient_positions`` have them. measured, measured_gradient: the
    networks', extrapolated to infinite width; error, gradient_error: their standard errors. p_value: how
    often deviations would be as large as they are, all together, if the theory held.
    """

    covariance: tuple[Any, ...]
    gradient: tuple[Any, ...]
    measured: tuple[Any, ...]
    measured_gradient: tuple[Any, ...]
    error: tuple[Any, ...]
    gradient_error: tuple[Any, ...]
    p_value: float

    def __repr__(self):
        shapes = " -> ".join(str(x.shape[: x.ndim // 2]) for x in self.covariance)
        return f"PositionsComparison({shapes}, p = {self.p_value:.3g})"


def compare_positions(layers, covariance, *, width=64, networks=64, seed=0) -> PositionsComparison:
    r"""Convolutional networks drawn in Flax beside the theory: all covariances between positions.

    layers: a sequence of layers, as for ``propagate_positions``, of scalar parameters. covariance: of the
        start, whose signals are Gaussian; shape (signals, \*image, signals, \*image). width: channels of the
        narrower networks. networks: of each width, at least 8.

    ``nnx.Conv``, ``nnx.avg_pool`` and all else are stock. Covariances are means over the channels, of signals
    and of gradients from independent directions at the end; from both widths what goes like 1/width is
    taken out. Raises TypeError or ValueError.
    """
    networks = validation.count("networks", networks, low=8)
    width = validation.count("width", width)
    layers = list(layers)
    with jax.enable_x64(True):
        start = np.asarray(covariance, float)
        forwards = tuple(np.asarray(x) for x in propagate_positions(layers, start))
        backwards = tuple(np.asarray(x) for x in gradient_positions(layers, start))
    samples = [_measured(layers, start, n, networks, 2 * seed + i) for i, n in enumerate((width, 2 * width))]
    like = (*forwards[1:], *backwards[:-1])
    tests = [
        Extrapolation(narrow, wide, _pairs(theory), np.zeros(narrow.shape[1]))
        for narrow, wide, theory in zip(*samples, like, strict=True)
    ]
    limits, errors = (
        [_full(getattr(test, name), x.shape) for test, x in zip(tests, like, strict=True)]
        for name in ("limit", "limit_error")
    )
    depth, first, last = len(layers), forwards[0], backwards[-1]
    return PositionsComparison(
        forwards,
        backwards,
        measured=(first, *limits[:depth]),
        measured_gradient=(*limits[depth:], last),
        error=(np.zeros_like(first), *errors[:depth]),
        gradient_error=(*errors[depth:], np.zeros_like(last)),
        p_value=p_value_of([test.at(test.limit_error > _ROUNDING) for test in tests]),
    )


_ROUNDING = 1e-6  # of what does not fluctuate


def _pairs(covariance):
    """Every pair of places once."""
    size = int(np.sqrt(covariance.size))
    return covariance.reshape(size, size)[np.triu_indices(size)]


def _full(pairs, shape):
    """All covariances from those of every pair."""
    size = int(np.sqrt(np.prod(shape)))
    found = np.zeros((size, size))
    found[np.triu_indices(size)] = pairs
    return (found + np.triu(found, 1).T).reshape(shape)


def _measured(layers, start, width, networks, seed) -> list[np.ndarray]:
    """Pairs of covariances of signals behind every layer, then of gradients before it, of every network."""
    half = start.shape[: start.ndim // 2]
    size = int(np.prod(half))
    values, vectors = np.linalg.eigh(start.reshape(size, size))
    root = jnp.asarray(vectors * np.sqrt(np.maximum(values, 0)), jnp.float32)
    count = len(layers)

    @jax.jit
    def network(key):
        direction, signal, *keys = jax.random.split(key, 2 + 2 * count)
        h = (root @ jax.random.normal(signal, (size, width))).reshape(*half, width)
        observed, backs = [], []
        for i, layer in enumerate(layers):
            rngs = nnx.Rngs(params=keys[i], dropout=keys[count + i])
            block = nnx.split(Wrapped(block_of(layer, width, rngs=rngs)))
            # Put together inside of what is differentiated: the module counts its masks.
            h, back = jax.vjp(lambda h, block=block: nnx.merge(*block, copy=True)(h), h)
            observed.append(_covariance(h))
            backs.append(back)
        gradient = jax.random.normal(direction, h.shape, h.dtype)
        gradients = []
        for back in reversed(backs):
            (gradient,) = back(gradient)
            gradients.append(_covariance(gradient))
        return [*observed, *reversed(gradients)]

    found = [network(key) for key in jax.random.split(jax.random.key(seed), networks)]
    return [np.stack(x).astype(float) for x in zip(*found, strict=True)]


class Wrapped(nnx.Module):
    """A block, or a function."""

    def __init__(self, block):
        self.block = block

    def __call__(self, h):
        return applied(self.block, h, None)


def _covariance(h):
    flat = h.reshape(-1, h.shape[-1])
    return _pairs(flat @ flat.T / flat.shape[-1])
