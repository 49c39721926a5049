"""The probability that a ReLU network is born dead: its output does not depend on its input."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from meanfield.asymmetric.special_weights import gauss_rule
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import nonzero
from meanfield.priors import PARAMETERS, is_prior
from meanfield.support import validation

_NUMBERS_AT_ONCE = 1 << 22
_LARGEST_LAYER = 1 << 28
_SMALLEST_LOG_SCALE = -60.0  # of signals; far below any bias, and its inverse is finite


@register_dataclass
@dataclass(frozen=True, eq=False)
class BornDead:
    """The probability that a network is born dead, and its standard error; 0 where it is exact."""

    probability: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def born_dead_probability(
    prior, width, depth, *, inputs=None, n_inputs=None, c0=0.0, networks=10_000, seed=0
) -> BornDead:
    r"""Probability that some hidden layer of a ReLU network is inactive on every input.

    Inactive: h <= 0 in each of its neurons, so that the output no longer depends on
    which of the inputs it is.

    prior: a ``NormalPrior`` or an ``AsymmetricPrior``. width: neurons in each hidden
    layer. depth: number of hidden layers.
    inputs: array (n_inputs, features) of the inputs. None draws for every network
        Gaussian ones with ``width`` features and unit mean square.
    n_inputs: how many, where they are drawn (default 1). c0: their correlation, a number
        in [0, 1]. Both are without effect on ``inputs`` that are given.
    networks: how many are drawn where no exact answer is known. seed: of the draws; the
        result is a function of it.

    One input and a ``NormalPrior``: exact, 1 - (1 - 2^-width)^depth for any parameters
    under which pre-activations vary. Then ``width``, ``depth`` and the parameters may
    be arrays, which broadcast, and ``standard_error`` is 0.

    Otherwise ``networks`` networks are drawn in single precision and bounded memory,
    with weights and biases from ``prior.kernel_init()`` and ``prior.bias_init()``, and
    ``standard_error`` is never 0.

    * Several inputs: of m networks k are dead. The standard error is the posterior
      standard deviation of the probability under a uniform prior,
      sqrt((k+1) (m-k+1) / ((m+2)^2 (m+3))).
    * One input: layers that die are drawn again, and the probability of that, an
      integral over the special weight given the layer before, is averaged instead, so
      that rare deaths need fewer networks. The standard error is that of the average,
      with one more network counted, at the largest value found or the one of symmetric
      weights, whichever is larger: at large widths few networks dominate the average,
      and a sample may lack them. Where inputs are negative, as those that are drawn,
      the first layer may be likelier to die than under symmetric weights, and at
      widths of many tens the standard error then be too small.

    A prior that is not valid, seen only inside a trace, gives NaN.

    Raises TypeError for other priors and for counts that are no integers; ValueError
    for arguments out of range, parameters that are not scalars where networks are
    drawn, and layers of more than 2^28 weights.

    Source: Lu, Shin, Su & Karniadakis, arXiv:1903.06733; THEORY section 9.
    """
    if not (is_prior(prior) and prior.independent_rows):
        raise TypeError(f"prior must be a NormalPrior or an AsymmetricPrior, got {prior!r}")
    inputs, n_inputs = _checked_inputs(inputs, n_inputs)
    c0 = validation.real("c0", c0, low=0.0, high=1.0)
    networks = validation.count("networks", networks)
    seed = validation.count("seed", seed, low=0)
    if prior.is_gaussian and n_inputs == 1:
        return _exact(prior, _counts("width", width), _counts("depth", depth), inputs)
    width, depth = validation.count("width", width), validation.count("depth", depth)
    return _drawn(prior, width, depth, inputs, n_inputs, c0, networks, seed)


def _checked_inputs(inputs, n_inputs):
    """The inputs, or None, and how many they are."""
    if n_inputs is not None:
        n_inputs = validation.count("n_inputs", n_inputs)
    if inputs is None:
        return None, n_inputs or 1
    if np.ndim(inputs) != 2:
        raise ValueError(f"inputs must have the shape (n_inputs, features), got shape {np.shape(inputs)}")
    inputs = np.asarray(validation.real("inputs", inputs), float)
    if n_inputs not in (None, len(inputs)):
        raise ValueError(f"n_inputs must be left out or {len(inputs)}, the rows of inputs, got {n_inputs}")
    return inputs, len(inputs)


def _counts(name, value):
    array = np.asarray(validation.real(name, value, low=1))
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be an integer or an array of them, got {value!r}")
    return array


def _exact(prior, width, depth, inputs):
    """Signs of pre-activations are symmetric and independent, unless the pre-activations are 0."""
    parameters = {name: getattr(prior, name) for name in PARAMETERS}
    validation.same_shape(width=width, depth=depth, **parameters)
    weight_var, bias_var, kappa = (jnp.asarray(x) for x in parameters.values())
    empty = inputs is not None and not inputs.any()
    equal = width == 1 if inputs is None else np.ptp(inputs) == 0

    def log_alive(zero, equal):
        vanishes = (bias_var == 0) & ((weight_var == 0) | zero | ((kappa == 1) & equal))
        return jnp.where(vanishes, -jnp.inf, jnp.log1p(-jnp.ldexp(1.0, -width)))

    later = jnp.where(depth > 1, (depth - 1) * log_alive(False, width == 1), 0.0)
    probability = jnp.abs(jnp.expm1(log_alive(empty, equal) + later))
    probability = jnp.where(prior.is_valid(), probability, jnp.nan)
    return BornDead(probability, jnp.zeros_like(probability))


def _drawn(prior, width, depth, inputs, n_inputs, c0, networks, seed):
    prior.kernel_init()  # raises for parameters that are not scalars
    c0 = validation.number("c0", c0)
    features = width if inputs is None else inputs.shape[1]
    widest = max(width, features)
    numbers = widest * max(width, n_inputs)
    if numbers > _LARGEST_LAYER:
        raise ValueError(
            "a layer of one network may have at most 2^28 weights and as many activations, "
            f"got width {width} with {n_inputs} inputs of {features} features"
        )
    if n_inputs == 1:
        numbers = widest * max(width, len(gauss_rule(prior.special_weight)[0]))
    batch = max(1, min(networks, _NUMBERS_AT_ONCE // numbers))
    given = None if inputs is None else _scaled(inputs)
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (prior, given, (c0, 1 - c0)))
    sums, squares, tops = _sums(
        *single, jax.random.key(seed), networks, (width, depth, n_inputs), batch, -(-networks // batch)
    )
    if n_inputs == 1:
        result = _averaged(sums, squares, tops, networks, width, depth)
    else:
        result = _counted(sums, networks)
    return jax.tree.map(lambda x: jnp.where(prior.is_valid(), x, jnp.nan), result)


def _scaled(inputs):
    """The inputs with largest entry 1 in each row, and the logarithms of the scales."""
    top = np.max(np.abs(inputs), axis=1, keepdims=True)
    top[top == 0] = 1
    return inputs / top, np.log(top)


@functools.partial(jax.jit, static_argnames=("sizes", "batch", "batches"))
def _sums(prior, given, mixing, key, networks, sizes, batch, batches):
    """Of the networks' probabilities of death, by batch: sum, sum of squares over the largest, largest."""

    def of_batch(number):
        index = number * batch + jnp.arange(batch)
        dead = jax.vmap(lambda i: _network(prior, given, mixing, jax.random.fold_in(key, i), sizes))(index)
        dead = jnp.where(index < networks, dead, 0)
        top = jnp.max(dead)
        return jnp.sum(dead), jnp.sum((dead / nonzero(top)) ** 2), top

    return jax.lax.map(of_batch, jnp.arange(batches))


def _counted(sums, networks):
    dead = jnp.sum(sums)
    alive, all_and_two = networks - dead, networks + 2.0
    variance = (dead + 1) / all_and_two * ((alive + 1) / all_and_two) / (networks + 3.0)
    return BornDead(dead / networks, jnp.sqrt(variance))


def _averaged(sums, squares, tops, networks, width, depth):
    symmetric = -math.expm1(depth * math.log1p(-(2.0**-width)))
    top = jnp.maximum(jnp.max(tops), max(symmetric, float(jnp.finfo(tops.dtype).tiny)))
    mean = jnp.sum(sums) / networks
    spread = jnp.sum(squares * (tops / top) ** 2) - networks * (mean / top) ** 2
    error = top * jnp.sqrt(jnp.maximum(spread, 0) + 1) / networks
    return BornDead(mean, jnp.maximum(error, jnp.finfo(error.dtype).tiny))


def _network(prior, given, mixing, key, sizes):
    """The probability that one network dies: 0 or 1, or for one input what is known without the draw.

    State: activations by input and neuron, the logarithm of the scale each input's were
    divided by, the logarithm of the probability that the network is alive.
    """
    width, depth, n_inputs = sizes
    key, input_key = jax.random.split(key)
    if given is None:
        start = _gaussian_inputs(input_key, mixing, n_inputs, width)
    else:
        start = _without_common_part(prior, *given)
    layer = functools.partial(_replaced_layer if n_inputs == 1 else _layer, prior, width)
    state, keys = (*start, jnp.zeros(())), jax.random.split(key, depth)
    if start[0].shape[1] != width:
        state, _ = layer(state, keys[0])
        keys = keys[1:]
    (_, _, log_alive), _ = jax.lax.scan(layer, state, keys)
    return -jnp.expm1(log_alive)


def _gaussian_inputs(key, mixing, n_inputs, features):
    shared_key, own_key = jax.random.split(key)
    shared = jax.random.normal(shared_key, (1, features))
    own = jax.random.normal(own_key, (n_inputs, features))
    inputs = jnp.sqrt(mixing[0]) * shared + jnp.sqrt(mixing[1]) * own
    size = jnp.sqrt(jnp.mean(inputs**2, axis=1, keepdims=True))
    return _normalized(inputs / size, jnp.zeros((n_inputs, 1)))


def _without_common_part(prior, inputs, log_scale):
    """What rows that sum to zero see of the inputs: their rounding must not decide over signs."""
    if prior.is_gaussian:
        inputs = inputs - jnp.where(prior.anticorrelation == 1, inputs[:, :1], 0)
    return _normalized(inputs, log_scale)


def _normalized(signal, log_scale):
    """Signals of largest entry 1 in each row, so that no depth makes them vanish or overflow."""
    top = jnp.max(jnp.abs(signal), axis=1, keepdims=True)
    some = top > 0
    top = jnp.where(some, top, 1)
    log_scale = jnp.maximum(log_scale + jnp.log(top), _SMALLEST_LOG_SCALE)
    return signal / top, jnp.where(some, log_scale, 0)


def _pre_activations(prior, width, signal, log_scale, key):
    kernel_key, bias_key = jax.random.split(key)
    kernel = prior.kernel_init()(kernel_key, (signal.shape[1], width), jnp.float32)
    bias = prior.bias_init()(bias_key, (width,), jnp.float32)
    return jnp.matmul(signal, kernel, precision="highest") + bias * jnp.exp(-log_scale)


def _layer(prior, width, state, key):
    signal, log_scale, log_alive = state
    h = _pre_activations(prior, width, signal, log_scale, key)
    log_alive = jnp.where(jnp.any(h > 0), log_alive, -jnp.inf)
    return (*_normalized(jax.nn.relu(h), log_scale), log_alive), None


def _replaced_layer(prior, width, state, key):
    """As ``_layer``, for one input: a death is replaced by its probability, unless it is the rule."""
    signal, log_scale, log_alive = state
    log_dead = width * jnp.log(_inactive(prior, signal[0], log_scale[0, 0]))
    rare = log_dead <= math.log(0.5)

    def draw(carry):
        key, draw_key = jax.random.split(carry[0])
        return key, _pre_activations(prior, width, signal, log_scale, draw_key), True

    def draw_again(carry):
        _, h, drawn = carry
        return ~drawn | (rare & ~jnp.any(h > 0))

    _, h, _ = jax.lax.while_loop(draw_again, draw, (key, jnp.zeros((1, width)), False))
    log_survival = jnp.log1p(-jnp.exp(jnp.where(rare, log_dead, -1)))
    log_alive += jnp.where(rare, log_survival, jnp.where(jnp.any(h > 0), 0, -jnp.inf))
    return (*_normalized(jax.nn.relu(h), log_scale), log_alive), None


def _inactive(prior, signal, log_scale):
    """P(h <= 0) of a neuron: given its special weight B and where it stands, h is Gaussian."""
    fan_in = signal.size
    nodes, masses = (jnp.asarray(x, signal.dtype) for x in gauss_rule(prior.special_weight))
    others = _sum_of_others(signal**2) - prior.anticorrelation / fan_in * _sum_of_others(signal) ** 2
    variance = prior.weight_var / fan_in * others + prior.bias_var * jnp.exp(-2 * log_scale)
    deviation = jnp.sqrt(jnp.maximum(variance, 0))
    mean = nodes[:, None] * signal
    certain = jnp.where(mean > 0, 0.0, 1.0)
    inactive = jnp.where(deviation > 0, ndtr(-mean / nonzero(deviation)), certain)
    return jnp.mean(masses @ inactive)


def _sum_of_others(x):
    """For each entry the sum of the others, formed without subtracting it from all."""
    before = jnp.cumsum(jnp.roll(x, 1).at[0].set(0))
    after = jnp.cumsum(jnp.roll(x[::-1], 1).at[0].set(0))[::-1]
    return before + after
