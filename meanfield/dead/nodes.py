"""Dead nodes: neurons that are inactive on every input."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.activations.names import as_activation
from meanfield.asymmetric.density.population import PARTICLES, divided, groups_at_once
from meanfield.dead.orthants import log_orthant_probability
from meanfield.maps import propagate
from meanfield.numerics.pytrees import register_dataclass
from meanfield.priors import is_prior
from meanfield.support import validation

_MOST_NUMBERS = 1 << 22  # held at once: particles times inputs


@register_dataclass
@dataclass(frozen=True, eq=False)
class DeadNodes:
    """Probability that a neuron is inactive on every input, by layer; shape (depth + 1, ...).

    probability, and log_probability, which does not underflow. standard_error: of the
    probability; 0 where it is not sampled. Entry 0 is the start.
    """

    probability: Float[Array, "layers ..."]
    log_probability: Float[Array, "layers ..."]
    standard_error: Float[Array, "layers ..."]


def dead_node_probability(
    activation, prior, n_inputs, *, q0=1.0, c0=0.0, depth=50, particles=PARTICLES, seed=0
) -> DeadNodes:
    r"""P(h <= 0 on all of n_inputs inputs) in every layer of a network of infinite width.

    activation: inactive, that is constant, on the negative axis, such as "relu".
    prior: a ``NormalPrior``: exact, from the correlation of each layer; n_inputs may be an
        array, and broadcasts with the prior, q0 and c0. Or an ``AsymmetricPrior``:
        sampled by ``particles`` neurons, for one prior and one number of inputs.
    q0: variance of the pre-activations at the start. c0: their correlation, the same for every
        pair of inputs, between -1/(n_inputs - 1) (0 for an ``AsymmetricPrior``) and 1.
    depth: number of layers. seed: of the sampling.

    Raises TypeError or ValueError.
    Source: THEORY section 9; for one input of an asymmetric prior see ``density_evolution``.
    """
    activation = as_activation(activation)
    _check_inactive(activation)
    depth = validation.count("depth", depth, low=0)
    n_inputs = _checked_inputs(n_inputs)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    if not (is_prior(prior) and prior.independent_rows):
        raise TypeError(f"prior must be a meanfield.NormalPrior or AsymmetricPrior, got {prior!r}")
    if not prior.is_gaussian:
        return _sampled(activation, prior, n_inputs, q0, c0, depth, particles, seed)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    if not validation.is_traced(c0) and np.any(np.asarray(c0) * (n_inputs - 1) < -1 - 1e-12):
        raise ValueError(f"c0 must be at least -1/(n_inputs - 1): no {np.max(n_inputs)} signals have {c0}")
    c = propagate(activation, prior, q0=q0, c0=c0, depth=depth).c
    missing = max(0, np.ndim(n_inputs) - (c.ndim - 1))  # the layers' axis stays the first
    c = c.reshape(c.shape[:1] + (1,) * missing + c.shape[1:])
    log_probability = log_orthant_probability(n_inputs, c)
    return DeadNodes(jnp.exp(log_probability), log_probability, jnp.zeros_like(log_probability))


def _check_inactive(activation) -> None:
    """Raise unless phi is constant on the negative axis."""
    if activation.traced or validation.is_traced(activation):
        return
    x = -jnp.logspace(-3, 2, 32)
    _, slope = jax.jvp(activation, (x,), (jnp.ones_like(x),))
    if not bool(jnp.all(slope == 0)):
        raise ValueError(
            f"{activation!r} has no dead nodes: a node is dead only where its activation is constant, "
            "and this one is not on the negative axis (relu is)"
        )


def _checked_inputs(n_inputs):
    array = np.asarray(n_inputs)
    if array.dtype == bool or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"n_inputs must be an integer or an array of them, got {n_inputs!r}")
    if array.size == 0 or np.any(array < 1):
        raise ValueError(f"n_inputs must be at least 1, got {n_inputs}")
    return array


def _sampled(activation, prior, n_inputs, q0, c0, depth, particles, seed) -> DeadNodes:
    c0 = validation.real("c0", c0, low=0.0, high=1.0)
    arguments = dict(n_inputs=n_inputs, q0=q0, c0=c0, **{n: getattr(prior, n) for n in prior.parameters})
    for name, value in arguments.items():
        if np.ndim(value) != 0:
            raise ValueError(f"{name} must be one number where dead nodes are sampled, got {np.shape(value)}")
    groups, size = divided(validation.count("particles", particles, low=1000))
    count = int(n_inputs)
    groups = max(groups, -(-groups * size * count // _MOST_NUMBERS))
    size = -(-particles // groups)
    key = jax.random.key(validation.count("seed", seed, low=0))
    dtype = jnp.result_type(float, *map(jnp.asarray, (q0, c0, *jax.tree.leaves(prior))))
    return _population(
        activation, prior, jnp.asarray(q0, dtype), jnp.asarray(c0, dtype), key, depth, count, groups, size
    )


def _population(activation, prior, q0, c0, key, depth, count, groups, size):
    keys = jax.random.split(key, groups)
    one_group = lambda key: _group(activation, prior, (q0, c0 * q0), key, depth, count, size)
    logs = jax.lax.map(one_group, keys, batch_size=groups_at_once(size * count))
    log_probability = jax.nn.logsumexp(logs, axis=0) - np.log(groups)
    ratio = jnp.exp(logs - jnp.where(jnp.isfinite(log_probability), log_probability, 0.0))
    probability = jnp.exp(log_probability)
    return DeadNodes(probability, log_probability, probability * jnp.std(ratio, axis=0, ddof=1) / groups**0.5)


_population = jax.jit(_population, static_argnums=(5, 6, 7, 8))


def _group(activation, prior, start, key, depth, count, size):
    """log of the mean over one group, by layer."""
    law = prior.special_weight

    def layer(state, index):
        special, variance, covariance = state
        noise_key, shared_key, special_key = jax.random.split(jax.random.fold_in(key, index), 3)
        shared = jax.random.normal(shared_key, (size, 1), special.dtype)
        log_dead = _log_dead(special, shared, variance, covariance)
        h = special + _equally_correlated(noise_key, special.shape, variance, covariance)
        phi = activation(h)
        mean, activity = jnp.mean(phi), jnp.mean(phi**2)
        # Between inputs: the square of a neuron's total holds all the products of pairs.
        total = jnp.sum(phi, axis=1)
        product = (jnp.mean(total**2) - count * activity) / max(1, count * (count - 1))
        b = law.sample(special_key, (size, 1), h.dtype)
        noise = [prior.propagate_moments(x - mean**2, mean**2) for x in (activity, product)]
        return (b * phi, *noise), jax.nn.logsumexp(log_dead) - np.log(size)

    state = (jnp.zeros((size, count), start[0].dtype), *start)
    return jax.lax.scan(layer, state, jnp.arange(depth + 1))[1]


def _log_dead(special, shared, variance, covariance):
    """log P(special + Gaussian part <= 0 for all inputs), given what the inputs share."""
    common = jnp.clip(covariance, 0.0, variance)
    own = jnp.sqrt(jnp.maximum(variance - common, 0.0))
    level = special + jnp.sqrt(common) * shared
    tiny = jnp.finfo(special.dtype).tiny
    return jnp.sum(jax.scipy.special.log_ndtr(-level / jnp.maximum(own, tiny)), axis=1)


def _equally_correlated(key, shape, variance, covariance):
    """Gaussians (size, count), correlated along the last axis; covariance >= -variance/(count - 1)."""
    z = jax.random.normal(key, shape, variance.dtype)
    own = jnp.maximum(variance - covariance, 0.0)
    along = jnp.sqrt(jnp.maximum(own + shape[1] * covariance, 0.0))
    return jnp.sqrt(own) * z + (along - jnp.sqrt(own)) * jnp.mean(z, axis=1, keepdims=True)
