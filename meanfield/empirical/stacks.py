"""Networks made of layers of any kind, drawn at random and measured layer by layer."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from meanfield.empirical.arrangements import arrangement_of, simplex_root
from meanfield.empirical.blocks import INPUT_FEATURES, Pointwise, applied, block_of
from meanfield.empirical.measurement import LayerStatistics
from meanfield.empirical.models import initializers
from meanfield.layers import Recurrent, Transformer
from meanfield.layers.chain import as_layer, fitting
from meanfield.numerics.roots import nonzero
from meanfield.priors import NormalPrior
from meanfield.support import validation

UNIT = NormalPrior(1.0)  # of the first layer: its inputs set variance and correlation
_PROBE, _INPUTS = 0x70726F62, 0x696E7075  # folded into a network's key


class Stack(nnx.Module):
    """A network of layers: weights in front that make the signals, then the blocks one after another.

    blocks: one a layer, of stock Flax modules (``block_of``); a ``Recurrent`` layer's is the same at every
    time. sequence: what recurrent networks read at every time, shape (depth, 2, 2).
    """

    def __init__(self, embedding: nnx.Linear, blocks, sequence):
        self.embedding, self.blocks = embedding, nnx.List(blocks)
        self.sequence = nnx.Variable(sequence)

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... width"]:
        """The last layer's pre-activations."""
        return self.pre_activations(x)[-1]

    def pre_activations(self, x: Float[Array, "... features"]) -> Float[Array, "layers ... width"]:
        """Pre-activations of every layer, the start first."""
        found = [self.embedding(x)]
        for block, read in zip(self.blocks, self.sequence[...], strict=True):
            found.append(applied(block, found[-1], read))
        return jnp.stack(found)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which layers follow one another in networks of a width."""

    layers: tuple[Any, ...]
    width: int

    @classmethod
    def of(cls, layer, width, depth=None) -> "Plan":
        """depth times one layer, or the layers of a sequence. Raises TypeError or ValueError."""
        if isinstance(layer, list | tuple):
            if not layer:
                raise ValueError("a network needs at least one layer, got none")
            layers: tuple[Any, ...] = tuple(fitting([as_layer(x) for x in layer]))
            if depth is not None and depth != len(layers):
                raise ValueError(
                    f"depth must be left out, or be the number of layers: {len(layers)}, got {depth}"
                )
        else:
            one = layer if isinstance(layer, Transformer) else as_layer(layer)
            layers = (one,) * validation.count("depth", 30 if depth is None else depth)
        exact = {id(x): x if isinstance(x, Transformer) else x.exact() for x in layers}
        return cls(tuple(exact[id(x)] for x in layers), width)

    @property
    def depth(self) -> int:
        """Layers after the first weights."""
        return len(self.layers)

    @functools.cached_property
    def arrangement(self):
        """What the signals are."""
        return arrangement_of(self.layers, self.width)

    @property
    def runs(self) -> list[tuple[Any, int]]:
        """(layer, how often) one after another."""
        return [(run[0], len(run)) for run in (list(g) for _, g in itertools.groupby(self.layers, id))]

    @property
    def tied(self) -> bool:
        """Whether all layers have the same weights, as the times of a recurrent network."""
        return len(self.runs) == 1 and isinstance(self.layers[0], Recurrent)

    def check(self, q0, c0) -> None:
        """Raises ValueError for a start that these signals cannot have."""
        q0 = validation.number("q0", q0, low=0.0, low_open=True)
        places = self.arrangement.shape[0] if isinstance(self.layers[0], Transformer) else 2
        validation.number("c0", c0, low=0.0 if places > 2 else -1.0, high=1.0)
        if getattr(self.layers[0], "norm", None) == "post" and q0 != 1:
            raise ValueError(f"q0 must be 1 where norms stand behind every sum, got {float(q0)}")

    def inputs(self, q0, c0, dtype) -> Array:
        """Features of every place that give the first weights' signals variance q0 and correlation c0."""
        root = self.arrangement.start(c0)
        root = root * np.sqrt(float(q0) * len(root))
        return jnp.asarray(root.reshape(*self.arrangement.shape, -1), dtype)

    # --- one network, from its key -----------------------------------------------------------

    def embedding(self, key, dtype) -> nnx.Linear:
        """The first weights."""
        features = int(np.prod(self.arrangement.shape))
        rngs = nnx.Rngs(params=key)
        return nnx.Linear(features, self.width, param_dtype=dtype, **initializers(UNIT), rngs=rngs)

    def keys(self, key):
        """One for the weights of every layer, and one for its masks."""
        weights, masks = (jax.random.split(k, self.depth) for k in jax.random.split(key))
        return (jnp.broadcast_to(weights[:1], weights.shape) if self.tied else weights), masks

    def sequence(self, key, dtype) -> Array:
        """Inputs of both signals at every time: turned at random, so that times have little in common."""
        rho = getattr(self.layers[0], "input_correlation", None)
        pair = simplex_root(2, 1.0 if rho is None else float(rho)) * np.sqrt(INPUT_FEATURES)
        angle = 2 * np.pi * jax.random.uniform(jax.random.fold_in(key, _INPUTS), (self.depth,))
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        return jnp.einsum("si,ijt->tsj", jnp.asarray(pair), turn).astype(dtype)

    def block(self, layer, keys, dtype) -> nnx.Module:
        """A layer's block."""
        rngs = nnx.Rngs(params=keys[0], dropout=keys[1])
        block = block_of(layer, self.width, rngs=rngs, dtype=dtype)
        return block if isinstance(block, nnx.Module) else Pointwise(block)

    def network(self, key, dtype) -> Stack:
        """The whole network."""
        keys = self.keys(key)
        made = [self.block(layer, pair, dtype) for layer, *pair in zip(self.layers, *keys, strict=True)]
        blocks = made[:1] * self.depth if self.tied else made
        return Stack(self.embedding(key, dtype), blocks, self.sequence(key, dtype))

    def measured(self, inputs, gradients: bool, key) -> LayerStatistics:
        """Statistics of one network."""
        dtype = inputs.dtype
        start = jnp.matmul(inputs, self.embedding(key, dtype).kernel[...], precision="highest")
        tangent_key, cotangent_key = jax.random.split(jax.random.fold_in(key, _PROBE))
        tangent = _unit(jax.random.normal(tangent_key, start.shape, dtype))[0]
        steps = (*self.keys(key), self.sequence(key, dtype))

        def through(probes):
            state, observed, done = (start, tangent), [], 0
            if probes is not None:
                state, probes = (start + probes[0], tangent), probes[1:]
            for layer, count in self.runs:
                one: Callable = functools.partial(self._one_layer, layer, dtype)
                one = one if probes is None else jax.checkpoint(one)
                part = jax.tree.map(lambda x: x[done : done + count], (steps, probes))  # noqa: B023
                state, seen = jax.lax.scan(one, state, part)
                observed.append(seen)
                done += count
            return state[0], jax.tree.map(lambda *x: jnp.concatenate(x), *observed)

        square = None
        if gradients:
            probes = jnp.zeros((self.depth + 1, *start.shape), dtype)
            last, backwards, (observed, growth) = jax.vjp(through, probes, has_aux=True)
            (gradient,) = backwards(jax.random.normal(cotangent_key, last.shape, dtype))
            square = jnp.sum(gradient**2, axis=range(1, gradient.ndim))
            square /= square[-1]
        else:
            _, (observed, growth) = through(None)
        first = self.arrangement.observed(start)
        observed = jax.tree.map(lambda x, y: jnp.append(x, y), first, observed)
        return LayerStatistics(**observed, growth=jnp.append(1.0, growth).astype(dtype), gradient=square)

    def _one_layer(self, layer, dtype, state, given):
        h, tangent = state
        (*keys, read), probe = given
        drawn = nnx.split(self.block(layer, keys, dtype))
        # Put together inside of what is differentiated: the module counts its masks.
        step = lambda h: applied(nnx.merge(*drawn, copy=True), h, read)
        fixed = jax.lax.stop_gradient
        tangent, growth = _unit(jax.jvp(step, (fixed(h),), (tangent,))[1])
        h = step(h) if probe is None else step(h) + probe
        return (h, tangent), (self.arrangement.observed(fixed(h)), growth)

    @property
    def numbers(self) -> int:
        """Of weights in a layer, the largest."""
        key = jax.random.key(0)
        sizes = []
        for layer, _ in self.runs:
            draw = lambda key, layer=layer: nnx.state(self.block(layer, (key, key), jnp.float32), nnx.Param)
            sizes.append(sum(x.size for x in jax.tree.leaves(jax.eval_shape(draw, key))))
        return max(sizes)


def _unit(tangent):
    """A tangent of mean square 1, and the square by which it was longer."""
    square = jnp.mean(tangent**2)
    return tangent / nonzero(jnp.sqrt(square)), square
