"""From one layer's activations to the next layer's pre-activations, in networks of finite width.

Rows are signals, columns neurons. Both functions draw fresh weights from a prior: one draws
them all, the other only what their effect on the signals is, which has the same law.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from meanfield.empirical.models import initializers
from meanfield.numerics.roots import nonzero


def with_weights(prior, key, sent: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """W ``sent`` through a Flax layer; the bias is added to the first row."""
    width = sent.shape[1]
    rngs = nnx.Rngs(params=key)
    layer = nnx.Linear(width, width, param_dtype=sent.dtype, **initializers(prior), rngs=rngs)
    parameters = nnx.to_pure_dict(nnx.state(layer))
    # Written this way round, XLA draws the kernel in the order in which it lies in memory.
    received = jax.lax.dot_general(parameters["kernel"], sent, (((0,), (1,)), ((), ())))
    return received.T.at[0].add(parameters["bias"])


def without_weights(prior, key, sent: Float[Array, "rows width"]) -> Float[Array, "rows width"]:
    """The same law at the cost of the signals, not of the weights (THEORY section 10).

    Given what is sent, neurons are independent, and under Gaussian weights Gaussian,
    with covariance sigma_w^2 [cov + (1 - kappa) m m'] over the neurons that send.
    """
    rows, width = sent.shape
    mean = jnp.mean(sent, axis=1)
    centred = sent - mean[:, None]
    product = jnp.matmul(centred, centred.T, precision="highest")
    covariance = prior.weight_var * prior.per_weight(product / width, jnp.outer(mean, mean))
    gaussian_key, special_key, bias_key = jax.random.split(key, 3)
    if not prior.is_gaussian:
        received = _with_special_weights(prior, gaussian_key, special_key, sent, mean, covariance)
    else:
        z = jax.random.normal(gaussian_key, (rows, width), sent.dtype)
        received = jnp.matmul(_root(covariance)[0], z, precision="highest")
    bias = jnp.sqrt(prior.bias_var) * jax.random.normal(bias_key, (width,), sent.dtype)
    return received.at[0].add(bias.astype(sent.dtype))


def _with_special_weights(prior, gaussian_key, special_key, sent, mean, covariance):
    """Each neuron's sum over all Gaussian weights, and what it gains as one of them is replaced.

    A row is w = sigma/sqrt(N) (g - a mean(g)) with independent normal g and a =
    1 - sqrt(1 - kappa). The sum over it and mean(g) are Gaussian; given both, so is
    the entry g_j that is replaced: its part along them is known, the rest independent.
    """
    width = sent.shape[1]
    size = jnp.sqrt(prior.weight_var / width)
    a = 1 - jnp.sqrt(1 - prior.anticorrelation)
    with_mean = jnp.block(
        [[covariance, (size * (1 - a) * mean)[:, None]], [size * (1 - a) * mean, jnp.ones(()) / width]]
    ).astype(sent.dtype)
    root, inverse = _root(with_mean)

    place_key, rest_key, weight_key = jax.random.split(special_key, 3)
    z = jax.random.normal(gaussian_key, (root.shape[0], width), sent.dtype)
    sums = jnp.matmul(root, z, precision="highest")
    place = jax.random.randint(place_key, (width,), 0, width)
    special = prior.special_weight.sample(weight_key, (width,), sent.dtype)
    replaced = sent[:, place]
    entries = jnp.vstack([size * (replaced - a * mean[:, None]), jnp.full((1, width), 1 / width)])
    along = jnp.matmul(inverse, entries.astype(sent.dtype), precision="highest")
    rest = jnp.sqrt(jnp.maximum(1 - jnp.sum(along**2, axis=0), 0))
    g = jnp.sum(along * z, axis=0) + rest * jax.random.normal(rest_key, (width,), sent.dtype)
    return sums[:-1] + (special - size * (g - a * sums[-1])) * replaced


def _root(covariance):
    """R with R R' = covariance, and its pseudo-inverse; small rows keep their relative accuracy."""
    size = jnp.sqrt(jnp.diagonal(covariance))
    per_size = jnp.where(size > 0, 1 / nonzero(size), 0)
    values, vectors = jnp.linalg.eigh(covariance * per_size * per_size[:, None])
    some = values > 8 * len(size) * jnp.finfo(size.dtype).eps
    root = jnp.sqrt(jnp.where(some, values, 0))
    inverse = jnp.where(some, 1 / jnp.where(some, root, 1), 0)
    return size[:, None] * vectors * root, inverse[:, None] * vectors.T * per_size
