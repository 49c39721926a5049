"""Blocks of stock Flax layers, one for every kind of layer: the real networks that the theory speaks of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from meanfield.empirical.models import initializers
from meanfield.layers import (
    GLU,
    AveragePool,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    LayerNorm,
    MinimalRNN,
    PositionalConv,
    Recurrent,
    Residual,
    RMSNorm,
    Transformer,
)
from meanfield.layers.normalisation import WithinBatch
from meanfield.numerics.pytrees import replaced
from meanfield.priors import NormalPrior

INPUT_FEATURES = 2  # of the input x_t of a recurrent network, for two signals


class Block(nnx.Module):
    """What takes pre-activations to pre-activations; x is the input of one time where there is one."""

    def __call__(self, h: Float[Array, "... width"], x=None) -> Float[Array, "... width"]:
        raise NotImplementedError


def applied(stage, h, x):
    """What a block, a stock layer or a function makes of the signals."""
    return stage(h, x) if isinstance(stage, Block) else stage(h)


@functools.singledispatch
def block_of(layer, width: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
    """A module of stock Flax layers, of ``width`` neurons, that is drawn from the priors of a layer or part.

    It takes pre-activations, the last axis the neurons and the first the signals, to those one layer on.
    Dispatches on the type of ``layer``: ``block_of.register`` adds one of yours. rngs: with the streams
    ``params`` and ``dropout``. Raises TypeError for a layer that has no network.
    """
    raise TypeError(
        f"{type(layer).__name__} has no network of stock Flax layers: give one with "
        "meanfield.empirical.block_of.register, or a layer that meanfield has"
    )


def number(name: str, value) -> float:
    """A parameter as a number. Raises ValueError for an array of them."""
    if np.ndim(value):
        raise ValueError(
            f"networks are drawn of one layer: {name} must be a scalar, got shape {np.shape(value)}"
        )
    return float(value)


# --- one stage after another -----------------------------------------------------------------


class Pointwise(Block):
    """An activation function."""

    def __init__(self, activation):
        self.activation = activation

    def __call__(self, h, x=None):
        return self.activation(h)


class Sequence(Block):
    """Stages one after another."""

    def __init__(self, stages):
        self.stages = nnx.List(stages)

    def __call__(self, h, x=None):
        for stage in self.stages:
            h = applied(stage, h, x)
        return h


@block_of.register
def _(layer: Chain, width, *, rngs, dtype=jnp.float32):
    return Sequence([block_of(part, width, rngs=rngs, dtype=dtype) for part in layer.layers])


@block_of.register
def _(layer: Dense, width, *, rngs, dtype=jnp.float32):
    between = [part for part in layer.between if not isinstance(part, WithinBatch)]
    parts = [block_of(part, width, rngs=rngs, dtype=dtype) for part in between]
    return Sequence([Pointwise(layer.activation), *parts, linear(layer.prior, width, rngs, dtype)])


@block_of.register
def _(layer: Conv, width, *, rngs, dtype=jnp.float32):
    weights = nnx.Conv(
        width,
        width,
        layer.kernel_size,
        layer.strides,
        padding=layer.padding,
        param_dtype=dtype,
        **initializers(layer.prior),
        rngs=rngs,
    )
    return Sequence([Pointwise(layer.activation), weights])


@block_of.register
def _(layer: PositionalConv, width, *, rngs, dtype=jnp.float32):
    activation, weights = block_of(layer.conv, width, rngs=rngs, dtype=dtype).stages
    pool = [] if layer.pool is None else [block_of(layer.pool, width, rngs=rngs, dtype=dtype)]
    return Sequence([activation, *pool, weights])


@block_of.register
def _(layer: AveragePool, width, *, rngs, dtype=jnp.float32):
    return Pointwise(functools.partial(nnx.avg_pool, window_shape=layer.window, strides=layer.strides))


def linear(prior, width, rngs, dtype, features=None) -> nnx.Linear:
    """Weights and biases of a prior."""
    return nnx.Linear(features or width, width, param_dtype=dtype, **initializers(prior), rngs=rngs)


# --- parts -----------------------------------------------------------------------------------


@block_of.register
def _(part: RMSNorm, width, *, rngs, dtype=jnp.float32):
    return nnx.RMSNorm(width, rngs=rngs, **_norm(part, dtype))


@block_of.register
def _(part: LayerNorm, width, *, rngs, dtype=jnp.float32):
    return nnx.LayerNorm(width, rngs=rngs, **_norm(part, dtype))


@block_of.register
def _(part: BatchNorm, width, *, rngs, dtype=jnp.float32):
    return nnx.BatchNorm(width, use_running_average=False, rngs=rngs, **_norm(part, dtype))


def _norm(part, dtype) -> dict:
    gain = nnx.initializers.constant(number("gain", part.gain))
    return dict(epsilon=number("eps", part.eps), scale_init=gain, param_dtype=dtype)


@block_of.register
def _(part: Dropout, width, *, rngs, dtype=jnp.float32):
    return nnx.Dropout(1 - number("keep", part.keep), broadcast_dims=(0,) if part.shared else (), rngs=rngs)


# --- residual and gated ----------------------------------------------------------------------


class Skip(Block):
    """x' = skip x + scale f(x)."""

    def __init__(self, branch, skip, scale):
        self.branch, self.skip, self.scale = branch, number("skip", skip), number("scale", scale)

    def __call__(self, h, x=None):
        return self.skip * h + self.scale * applied(self.branch, h, x)


@block_of.register
def _(layer: Residual, width, *, rngs, dtype=jnp.float32):
    return Skip(block_of(layer.branch, width, rngs=rngs, dtype=dtype), layer.skip, layer.scale)


class Gated(Block):
    """down(phi(gate(x)) up(x))."""

    def __init__(self, activation, gate, up, down):
        self.activation, self.gate, self.up, self.down = activation, gate, up, down

    def __call__(self, h, x=None):
        return self.down(self.activation(self.gate(h)) * self.up(h))


@block_of.register
def _(layer: GLU, width, *, rngs, dtype=jnp.float32):
    priors = (layer.gate, layer.up, layer.down)
    return Gated(layer.activation, *(linear(prior, width, rngs, dtype) for prior in priors))


# --- recurrent -------------------------------------------------------------------------------


class Cell(Block):
    """h_t = W phi(h_(t-1)) + b + U x_t."""

    def __init__(self, activation, recurrent, read):
        self.activation, self.recurrent, self.read = activation, recurrent, read

    def __call__(self, h, x=None):
        return self.recurrent(self.activation(h)) + self.read(x)


@block_of.register
def _(layer: Recurrent, width, *, rngs, dtype=jnp.float32):
    # The layer's bias variance holds that of its input.
    bias_var = max(number("bias_var", layer.prior.bias_var) - number("input_var", layer.input_var), 0.0)
    weights = linear(replaced(layer.prior, bias_var=bias_var), width, rngs, dtype)
    return Cell(layer.activation, weights, _read(layer, width, rngs, dtype))


class MinimalCell(Block):
    """h_t = u h_(t-1) + (1 - u) z_t, u = sigmoid(W h + b + V z), z = U x_t."""

    def __init__(self, read, recurrent, forward):
        self.read, self.recurrent, self.forward = read, recurrent, forward

    def __call__(self, h, x=None):
        z = self.read(x)
        u = jax.nn.sigmoid(self.recurrent(h) + self.forward(z))
        return u * h + (1 - u) * z


@block_of.register
def _(layer: MinimalRNN, width, *, rngs, dtype=jnp.float32):
    read = _read(layer, width, rngs, dtype)
    forward = linear(NormalPrior(layer.input_weight_var), width, rngs, dtype)
    return MinimalCell(read, linear(layer.prior, width, rngs, dtype), forward)


def _read(layer, width, rngs, dtype) -> nnx.Linear:
    return linear(NormalPrior(layer.input_var), width, rngs, dtype, features=INPUT_FEATURES)


# --- attention -------------------------------------------------------------------------------

_NEURONS_A_HEAD = 16


class TransformerBlock(Block):
    """x <- a x + b attention(x), x <- a' x + b' MLP(x), normalised behind every sum or before every branch.

    A token a row.
    """

    def __init__(self, attention, mlp, norm, layer):
        self.attention, self.mlp, self.norm = attention, mlp, norm
        pairs = dict(attention=layer.attention, feedforward=layer.feedforward)
        self.numbers = [tuple(number(name, x) for x in pair) for name, pair in pairs.items()]
        self.before = layer.norm == "pre"

    def __call__(self, h, x=None):
        for branch, (skip, scale) in zip((self.attention, self.mlp), self.numbers, strict=True):
            sent = self.norm(h) if self.before else h
            h = skip * h + scale * applied(branch, sent, x)
            h = h if self.before else self.norm(h)
        return h


@block_of.register
def _(block: Transformer, width, *, rngs, dtype=jnp.float32):
    # Keys as wide as the stream, heads in proportion to it: what is amiss in each limit goes like 1/width.
    heads = max(width // _NEURONS_A_HEAD, 1)
    beta = number("beta", block.beta)  # shared by queries, keys and values; the output matrix takes it out
    attention = nnx.MultiHeadAttention(
        heads,
        width,
        heads * width,
        use_bias=False,
        kernel_init=NormalPrior(beta).kernel_init(),
        out_kernel_init=NormalPrior(number("value_var", block.value_var) / beta).kernel_init(),
        param_dtype=dtype,
        decode=False,
        rngs=rngs,
    )
    norm = nnx.RMSNorm(width, epsilon=0.0, use_scale=False, param_dtype=dtype, rngs=rngs)
    mlp = block_of(block.mlp, width, rngs=rngs, dtype=dtype)
    return TransformerBlock(attention, mlp, norm, block)
