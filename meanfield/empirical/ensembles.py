"""What networks of finite width do, layer by layer: an ensemble of them, measured."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from meanfield.activations.names import as_activation
from meanfield.empirical.arrangements import simplex_root
from meanfield.empirical.layers import with_weights, without_weights
from meanfield.empirical.measurement import LayerStatistics, Measurement
from meanfield.empirical.models import FullyConnected, initializers
from meanfield.empirical.stacks import UNIT, Plan
from meanfield.layers import Dense, Layer, as_dense
from meanfield.numerics.roots import nonzero
from meanfield.priors import is_prior
from meanfield.support import validation
from meanfield.support.progress import progress_bar

METHODS = {"weights": with_weights, "weightless": without_weights}
# Weights, or signals, treated together. On a CPU large matrices are drawn faster one by one than in batches.
_NUMBERS_AT_ONCE = {"cpu": 1 << 20}
_NUMBERS_ELSEWHERE = 1 << 27
_PROBE = 0x70726F62  # what is folded into a network's key for tangents and cotangents


def measure(
    activation,
    prior=None,
    *,
    width=512,
    depth=None,
    networks=32,
    q0=1.0,
    c0=0.5,
    q2=None,
    n_inputs=2,
    tangents=1,
    gradients=False,
    method="weights",
    seed=0,
) -> Measurement:
    """Statistics of signals, tangents and gradients in fully connected networks, drawn at random, by layer.

    activation, prior: as for ``propagate``; the prior's parameters are numbers. Or a layer of any kind, a
    ``Transformer``, or a sequence of layers, alone: see below.
    width: neurons in every layer. depth: layers after the first, by default 30. networks: how many.
    q0, c0: variance and correlation of the first layer's pre-activations, which are
    Gaussian; q2: variance under the other inputs, if it is another. n_inputs: how
    many, at least 2; every pair has correlation c0 >= -1/(n_inputs - 1).
    tangents: how many directions are followed by forward mode, which gives as many
    Lyapunov exponents. gradients: by reverse mode, from a random direction at the end.
    method: "weights" draws networks, in Flax, of which only a few layers are held at a
    time. "weightless" draws signals of exactly the same law without ever drawing a
    weight, at O(width) a layer, up to widths of 10^7; it has no gradients.
    seed: of everything; network i of a seed is the same whatever ``networks`` is.

    Networks of a layer consist of stock Flax modules (``block_of``), drawn from the layer's own priors, one
    block after another. Times of a ``Recurrent`` network have the same weights, and read inputs that turn
    from one time to the next. Images have twice the kernel's size less one, batches half as many signals as
    there are neurons, transformers keys as wide as the stream and a head for every 16 neurons. All signals
    have one variance; there is one tangent, and no method but "weights".

    Computes in JAX's default precision. Raises TypeError or ValueError.
    Source: THEORY section 10.
    """
    if not is_pair(activation, prior):
        plan = Plan.of(activation, validation.count("width", width), depth)
        only = dict(q2=q2, n_inputs=n_inputs, tangents=tangents, method=method)
        return _measured_stack(activation, plan, networks, q0, c0, gradients, seed, only)
    activation, prior = pair_of(activation, prior)
    depth = 30 if depth is None else depth
    _check_prior(prior)
    counts = dict(width=width, depth=depth, networks=networks)
    width, depth, networks = (validation.count(*item) for item in counts.items())
    n_inputs = validation.count("n_inputs", n_inputs, low=2)
    tangents = validation.count("tangents", tangents)
    if tangents > width:
        raise ValueError(f"tangents must be at most the width, {width}, got {tangents}")
    _check_method(method, prior, gradients)
    inputs = _inputs(q0, q0 if q2 is None else q2, c0, n_inputs)
    key = jax.random.key(validation.count("seed", seed, low=0))

    sizes = _Sizes(width, depth, tangents, bool(gradients), method)
    some = lambda index: _batch(activation, prior, inputs, key, index, sizes)
    samples = _in_batches(some, width, networks, sizes.networks_at_once(n_inputs))
    return Measurement(activation, prior, width, method, samples)


def _in_batches(some, width, networks, at_once) -> LayerStatistics:
    """The statistics of all networks, from those of some at a time."""
    batch, parts = min(networks, at_once), []
    with progress_bar(networks, f"networks of width {width}") as advance:
        for start in range(0, networks, batch):
            part = some(jnp.arange(start, start + batch))
            parts.append(jax.tree.map(lambda x: np.asarray(x)[: networks - start], part))  # noqa: B023
            advance(len(parts[-1].q))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _measured_stack(layer, plan, networks, q0, c0, gradients, seed, only) -> Measurement:
    for (name, value), usual in zip(only.items(), (None, 2, 1, "weights"), strict=True):
        if value != usual:
            raise ValueError(
                f"{name} must be left out where a layer is given: it is known of an activation and a prior "
                f"alone, got {value!r}"
            )
    networks = validation.count("networks", networks)
    plan.check(q0, c0)
    dtype = jnp.result_type(float)
    inputs = plan.inputs(q0, c0, dtype)
    key = jax.random.key(validation.count("seed", seed, low=0))
    one = lambda i: plan.measured(inputs, bool(gradients), jax.random.fold_in(key, i))
    some = jax.jit(jax.vmap(one))
    numbers = plan.numbers + (2 * plan.depth + 8) * plan.width * len(inputs)
    limit = _NUMBERS_AT_ONCE.get(jax.default_backend(), _NUMBERS_ELSEWHERE)
    samples = _in_batches(some, plan.width, networks, max(1, limit // numbers))
    return Measurement(layer, None, plan.width, "weights", samples)


def is_pair(activation, prior) -> bool:
    """Whether an activation and a prior are given, if only as a plain dense layer."""
    plain = type(activation) is Dense and not activation.between
    return prior is not None or plain


def pair_of(activation, prior=None):
    """(activation, prior), also of a plain dense layer. Raises TypeError for other layers."""
    if isinstance(activation, Layer):
        dense = as_dense(activation, prior)
        return dense.activation, dense.prior
    return as_activation(activation), prior


def network(activation, prior=None, *, width=512, depth=None, n_inputs=2, outputs=1, seed=0, index=0):
    """One of the networks that ``measure`` draws with method "weights", as a Flax model.

    Returns a ``FullyConnected`` of depth + 1 hidden layers; ``signals`` gives the inputs under
    which its pre-activations are those that were measured. Of a layer, or a sequence of some, a ``Stack`` of
    blocks, of which ``signals_of`` gives the inputs. Raises TypeError or ValueError.
    """
    key = jax.random.fold_in(jax.random.key(seed), index)
    if not is_pair(activation, prior):
        return Plan.of(activation, validation.count("width", width), depth).network(
            key, jnp.result_type(float)
        )
    activation, prior = pair_of(activation, prior)
    depth = 30 if depth is None else depth
    _check_prior(prior)
    rngs = nnx.Rngs(params=key)
    return FullyConnected(
        n_inputs,
        outputs,
        width=width,
        depth=depth + 1,
        activation=activation,
        prior=prior,
        input_prior=UNIT,
        param_dtype=jnp.result_type(float),
        rngs=rngs,
    )


def signals(q0=1.0, c0=0.5, n_inputs=2, q2=None) -> Float[Array, "inputs inputs"]:
    """Inputs, one a row, that give a network's first layer variance q0 (q2) and correlation c0."""
    apart = _inputs(q0, q0 if q2 is None else q2, c0, n_inputs)
    return jnp.vstack([apart[:1], apart[:1] - apart[1:]])


def signals_of(layer, q0=1.0, c0=0.5, *, width=512) -> Float[Array, "*places features"]:
    """Inputs under which a network of a layer has the signals that ``measure`` gives it, of that width.

    Shape (2, features), of convolutions (2, *image, features), of a batch or a sequence of tokens
    (signals, features). Raises TypeError or ValueError.
    """
    depth = None if isinstance(layer, list | tuple) else 1
    plan = Plan.of(layer, validation.count("width", width), depth)
    plan.check(q0, c0)
    return plan.inputs(q0, c0, jnp.result_type(float))


def _check_method(method, prior, gradients) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be 'weights' or 'weightless', got {method!r}")
    if method == "weightless" and not prior.independent_rows:
        raise ValueError("method must be 'weights' for an OrthogonalPrior: its neurons are not independent")
    if gradients and method == "weightless":
        raise ValueError("gradients need weights: method must be 'weights' where gradients is true")


def _check_prior(prior) -> None:
    if not is_prior(prior):
        raise TypeError(
            f"prior must be a meanfield.NormalPrior, OrthogonalPrior or AsymmetricPrior, got {prior!r}"
        )
    prior.kernel_init()  # raises for parameters that are not scalars


def _inputs(q0, q2, c0, count):
    """The first input, and its differences from the others: exact however close they are."""
    q0, q2 = (validation.number(n, v, low=0.0, low_open=True) for n, v in (("q0", q0), ("q2", q2)))
    c0 = validation.number("c0", c0, low=-1 / (count - 1), high=1.0)
    size = np.sqrt([float(q0), *[float(q2)] * (count - 1)])
    shape = np.eye(count) * np.sqrt(1.0 - float(c0))
    common = simplex_root(count, c0)[0, 1]
    others = (size[0] - size[1:, None]) * common + size[0] * shape[:1] - size[1:, None] * shape[1:]
    first = size[0] * (common + shape[:1])
    return jnp.asarray(np.vstack([first, others]) * count**0.5, jnp.result_type(float))


@dataclass(frozen=True)
class _Sizes:
    """What is compiled for."""

    width: int
    depth: int
    tangents: int
    gradients: bool
    method: str

    def networks_at_once(self, n_inputs: int) -> int:
        rows = n_inputs + self.tangents
        numbers = self.width * (self.width if self.method == "weights" else 4 * rows)
        if self.gradients:
            numbers += self.width * self.depth * (rows + 1)
        limit = _NUMBERS_AT_ONCE.get(jax.default_backend(), _NUMBERS_ELSEWHERE)
        return max(1, limit // numbers)

    @property
    def transport(self) -> Callable:
        return METHODS[self.method]


@functools.partial(jax.jit, static_argnums=5)
def _batch(activation, prior, inputs, key, index, sizes) -> LayerStatistics:
    prior = jax.tree.map(lambda x: jnp.asarray(x, inputs.dtype), prior)
    one = functools.partial(_one_network, activation, prior, inputs, sizes)
    return jax.vmap(lambda i: one(jax.random.fold_in(key, i)))(index)


def _one_network(activation, prior, inputs, sizes, key) -> LayerStatistics:
    width, dtype = sizes.width, inputs.dtype
    rngs = nnx.Rngs(params=key)
    first = nnx.Linear(len(inputs), width, param_dtype=dtype, **initializers(UNIT), rngs=rngs)
    keys = jax.random.split(rngs.params(), sizes.depth)
    tangent_key, cotangent_key = jax.random.split(jax.random.fold_in(key, _PROBE))
    start = jnp.matmul(inputs, first.kernel[...], precision="highest")
    tangents, _ = _orthonormal(jax.random.normal(tangent_key, (sizes.tangents, width), dtype))

    def one_layer(state, key_and_probe):
        key, probe = key_and_probe
        received = sizes.transport(prior, key, _sent(activation, *state))
        h, tangents = received[: len(inputs)], received[len(inputs) :]
        tangents, growth = _orthonormal(jax.lax.stop_gradient(tangents))
        if probe is not None:
            h = h.at[0].add(probe)
        return (h, tangents), (_observed(activation, jax.lax.stop_gradient(h)), growth)

    def through(probes):
        h, later = (start, None) if probes is None else (start.at[0].add(probes[0]), probes[1:])
        layer = one_layer if probes is None else jax.checkpoint(one_layer)
        (last, _), observed = jax.lax.scan(layer, (h, tangents), (keys, later))
        return last[0], observed

    if sizes.gradients:
        probes = jnp.zeros((sizes.depth + 1, width), dtype)
        _, backwards, (observed, growth) = jax.vjp(through, probes, has_aux=True)
        (gradient,) = backwards(jax.random.normal(cotangent_key, (width,), dtype))
        square = jnp.sum(gradient**2, axis=1)
        square /= square[-1]
    else:
        _, (observed, growth) = through(None)
        square = None
    observed = jax.tree.map(lambda x, y: jnp.append(x, y), _observed(activation, start), observed)
    return LayerStatistics(
        **observed,
        growth=jnp.append(1.0, growth[:, 0] ** 2).astype(dtype),
        exponents=jnp.mean(jnp.log(growth), axis=0),
        gradient=square,
    )


def _sent(activation, h, tangents):
    """Activations of the first input, their differences from the others', and tangents."""
    phi, slope = jax.jvp(activation, (h[0],), (jnp.ones_like(h[0]),))
    others = phi - activation(h[0] - h[1:])
    return jnp.vstack([phi, others, jax.lax.stop_gradient(slope) * tangents])


def _observed(activation, h) -> dict:
    first, others = h[0], h[0] - h[1:]
    q, q2, gap = (jnp.mean(x**2) for x in (first, others[0], h[1]))
    root = jnp.sqrt(q) * jnp.sqrt(q2)
    sizes = ((q - q2) / jnp.where(root > 0, jnp.sqrt(q) + jnp.sqrt(q2), 1)) ** 2
    some = root > 0
    one_minus_c = jnp.maximum(gap - sizes, 0) / (2 * jnp.where(some, root, 1))
    one_minus_c = jnp.where(some, one_minus_c, jnp.nan)
    return dict(
        q=q,
        q2=q2,
        c=1 - one_minus_c,
        one_minus_c=one_minus_c,
        mean=jnp.mean(first),
        activity=jnp.mean(activation(first) ** 2),
        inactive=jnp.mean(first <= 0, dtype=h.dtype),
        dead=jnp.mean((first <= 0) & jnp.all(others <= 0, axis=0), dtype=h.dtype),
    )


def _orthonormal(tangents):
    """Orthogonal tangents of mean square 1 that span the same, and by how much each was longer."""
    count, width = tangents.shape
    if count == 1:
        size = jnp.sqrt(jnp.mean(tangents**2, axis=1))
        return tangents / nonzero(size)[:, None], size
    q, r = jnp.linalg.qr(tangents.T)
    return q.T * width**0.5, jnp.abs(jnp.diagonal(r)) / width**0.5
