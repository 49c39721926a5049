"""Population dynamics: pairs of signals and tangents under an asymmetric prior, by sampling.

A particle carries the pre-activations of one neuron under two inputs, and a tangent. Its
next layer is h' = B phi(h) + Gaussian part, whose covariance is that of the whole
population's activations. Particles meet through these averages only.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.asymmetric.density.layer import AsymmetricLayer
from meanfield.maps import Trajectory
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import nonzero
from meanfield.support import validation

PARTICLES = 1 << 18
_GROUPS = 64
_LARGEST_GROUP = 1 << 20
_FEWEST = 1000
_AT_ONCE = 1 << 17  # particles treated together: few enough to stay in the cache


@register_dataclass
@dataclass(frozen=True, eq=False)
class PopulationDynamics(Trajectory):
    """Statistics by layer; shape (depth + 1, ...), entry 0 the start.

    q, q2: second moments E h^2 of the pre-activations under both inputs. c: uncentred
    correlation E h1 h2 / sqrt(q q2); one_minus_c: 1 - c, to full relative accuracy.
    mean, inactive, activity: E h, P(h <= 0) and E phi(h)^2 of the first input.
    both_inactive: P(h1 <= 0, h2 <= 0). growth: of the squared norm of a transverse
    perturbation, from the layer before (1 in entry 0).

    standard_error: the same quantities' standard errors (None inside itself). They
    come from the spread between independent groups of particles; where the law has a
    heavy tail, the largest single contribution to a second moment is added.
    """

    mean: Float[Array, "layers ..."]
    inactive: Float[Array, "layers ..."]
    both_inactive: Float[Array, "layers ..."]
    activity: Float[Array, "layers ..."]
    growth: Float[Array, "layers ..."]
    standard_error: Any = None

    @property
    def gain(self) -> Float[Array, "layers ..."]:
        """E phi(h)^2 in each layer over that of the layer before; shape (depth, ...)."""
        return self.activity[1:] / self.activity[:-1]


def population_dynamics(
    activation, prior=None, *, q0=1.0, c0=0.5, depth=50, q2=None, particles=PARTICLES, seed=0
) -> PopulationDynamics:
    """Statistics, by layer, of a pair of signals and of a transverse tangent of the first, sampled.

    activation, prior: as for ``density_evolution``. q0, c0: variance and correlation of the
    Gaussian pre-activations at the start; q2: the second signal's variance if it is another.
    All broadcast with the prior; every prior sees the same random numbers.
    particles: size of the population, at least 1000; memory does not grow with it.
    seed: an integer; the same seed gives the same numbers.

    Averages of the next layer are Rao-Blackwellised: taken over its weights exactly,
    given this layer's particles. Their bias, of order groups/particles, is far below
    the standard error. Raises TypeError or ValueError.
    Source: THEORY section 8.
    """
    layer = AsymmetricLayer.of(activation, prior)
    depth = validation.count("depth", depth, low=0)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    q2 = q0 if q2 is None else validation.real("q2", q2, low=0.0, low_open=True)
    groups, size = divided(validation.count("particles", particles, low=_FEWEST))
    key = jax.random.key(validation.count("seed", seed, low=0))
    result = pointwise(
        _population,
        layer,
        q0,
        q2,
        c0,
        shared=(key,),
        static=(depth, groups, size),
        at_once=groups_at_once(size),
        optimization=2,
    )
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), result)


def divided(particles: int) -> tuple[int, int]:
    """Number of groups and their size: enough groups for an error bar, large enough to be unbiased."""
    groups = max(min(_GROUPS, int(particles**0.5) // 4), -(-particles // _LARGEST_GROUP))
    return groups, -(-particles // groups)


def groups_at_once(size: int) -> int:
    """How many groups of this size to treat together."""
    return max(1, _AT_ONCE // size)


def _population(layer, q0, q2, c0, key, depth, groups, size) -> PopulationDynamics:
    valid = layer.is_valid() & (q0 > 0) & (q2 > 0) & (jnp.abs(c0) <= 1)
    layer = layer.guarded(valid)
    q0, q2, c0 = (jnp.where(valid, x, safe) for x, safe in ((q0, 1.0), (q2, 1.0), (c0, 0.5)))
    keys = jax.random.split(key, groups)
    one_group = lambda key: group_statistics(layer, (q0, q2, c0), key, depth, size)
    statistics, largest = jax.lax.map(one_group, keys, batch_size=groups_at_once(size))
    mean = jax.tree.map(lambda x: jnp.mean(x, axis=0), statistics)
    error = jax.tree.map(lambda x: jnp.std(x, axis=0, ddof=1) / groups**0.5, statistics)
    # The mean of a heavy-tailed law is uncertain by about its largest term.
    share = jnp.max(largest, axis=0) / (groups * size)
    tail = {
        name: jnp.hypot(getattr(error, name), share * getattr(mean, scale))
        for name, scale in (("q", "q"), ("q2", "q2"), ("activity", "activity"))
    }
    tail |= {
        name: jnp.hypot(getattr(error, name), share * jnp.abs(mean.one_minus_c))
        for name in ("c", "one_minus_c")
    }
    blank = lambda tree: jax.tree.map(lambda x: jnp.where(valid, x, jnp.nan), tree)
    error = blank(dataclasses.replace(error, **tail))
    return dataclasses.replace(blank(mean), standard_error=error)


@register_dataclass
@dataclass(frozen=True, eq=False)
class _Gaussian:
    """Covariance of the Gaussian parts of h1 and of h1 - h2, and the tangent's variance."""

    first: jax.Array
    cross: jax.Array
    difference: jax.Array
    tangent: jax.Array

    @property
    def second(self):
        """Variance of the Gaussian part of h2."""
        return self.first - 2 * self.cross + self.difference

    def sample(self, key, size):
        """Draws of the three; what is not used is not drawn."""
        keys = jax.random.split(key, 3)
        z = [jax.random.normal(k, (size,), self.first.dtype) for k in keys]
        s = jnp.sqrt(self.first)
        slope = self.cross / nonzero(s)
        rest = jnp.sqrt(jnp.maximum(self.difference - slope**2, 0.0))
        return s * z[0], slope * z[0] + rest * z[1], jnp.sqrt(self.tangent) * z[2]


def group_statistics(layer, start, key, depth, size):
    """One independent population: statistics (depth + 1,), and the largest h^2 / q of each layer."""
    q0, q2, c0 = start
    cross = q0 - c0 * jnp.sqrt(q0 * q2)
    gap = (jnp.sqrt(q0) - jnp.sqrt(q2)) ** 2 + 2 * (1 - c0) * jnp.sqrt(q0 * q2)
    noise = _Gaussian(q0, cross, gap, jnp.ones_like(q0))
    zeros = jnp.zeros((3, size), q0.dtype)
    moments = dict(q=q0, q2=q2, gap=gap, mean=jnp.zeros_like(q0), growth=jnp.ones_like(q0))

    def one_layer(state, index):
        special, noise, moments = state
        observed, *after = _layer(layer, jax.random.fold_in(key, index), size, special, noise, moments)
        return tuple(after), observed

    state = (zeros, noise, moments)
    _, observed = jax.lax.scan(one_layer, state, jnp.arange(depth + 1))
    return observed


def _layer(layer, key, size, special, noise, moments):
    """Draw a layer's particles; observe; give the special and the Gaussian part of the next."""
    prior, law = layer.prior, layer.prior.special_weight
    noise_key, special_key = jax.random.split(key)
    h, gap, tangent = (a + b for a, b in zip(special, noise.sample(noise_key, size), strict=True))
    phi, slope = jax.jvp(layer.activation, (h,), (jnp.ones_like(h),))
    phi_gap = phi - layer.activation(h - gap)
    sent = slope * tangent

    mean, activity = jnp.mean(phi), jnp.mean(phi**2)
    mean_gap, gap_square, product = jnp.mean(phi_gap), jnp.mean(phi_gap**2), jnp.mean(phi * phi_gap)
    sent_square = jnp.mean(sent**2)
    second = activity - 2 * product + gap_square  # E phi(h2)^2
    covariance = lambda both, a, b: prior.weight_var * (both - prior.anticorrelation * a * b)
    after = _Gaussian(
        first=covariance(activity, mean, mean) + prior.bias_var,
        cross=covariance(product, mean, mean_gap),
        difference=covariance(gap_square, mean_gap, mean_gap),
        tangent=jnp.ones_like(mean),
    )
    square = law.moment(2)
    growth = (square + prior.weight_var) * sent_square
    per_tangent = 1 / jnp.sqrt(nonzero(growth))
    after = dataclasses.replace(after, tangent=prior.weight_var * sent_square * per_tangent**2)
    b = law.sample(special_key, (size,), h.dtype)
    next_special = jnp.stack([b * phi, b * phi_gap, b * sent * per_tangent])

    observed = _observed(moments, activity, special[0] / jnp.sqrt(noise.first), h, h - gap)
    next_moments = dict(
        q=square * activity + after.first,
        q2=square * second + after.second,
        gap=square * gap_square + after.difference,
        mean=law.moment(1) * mean,
        growth=growth,
    )
    return (observed, jnp.max(h**2) / moments["q"]), next_special, after, next_moments


def _observed(moments, activity, special, h, h2) -> PopulationDynamics:
    """Statistics of a layer. special: that part of h1, over the size of the Gaussian one."""
    q, q2 = moments["q"], moments["q2"]
    sizes = ((q - q2) / (jnp.sqrt(q) + jnp.sqrt(q2))) ** 2
    one_minus_c = jnp.maximum(moments["gap"] - sizes, 0.0) / (2 * jnp.sqrt(q * q2))
    return PopulationDynamics(
        q=q,
        q2=q2,
        c=1 - one_minus_c,
        one_minus_c=one_minus_c,
        mean=moments["mean"],
        inactive=jnp.mean(jax.scipy.special.ndtr(-special)),
        both_inactive=jnp.mean((h <= 0) & (h2 <= 0), dtype=h.dtype),
        activity=activity,
        growth=moments["growth"],
    )


def pair_layer(layer, noise_var, gap, key, size, special):
    """One layer of a pair at given variances of the Gaussian parts of h1 and h1 - h2.

    Returns the special parts of the next layer's h1 and h1 - h2, and E (phi1 - phi2)^2.
    """
    noise_key, special_key = jax.random.split(key)
    zero = jnp.zeros_like(gap)
    h, difference, _ = _Gaussian(noise_var, gap / 2, gap, zero).sample(noise_key, size)
    h, difference = h + special[0], difference + special[1]
    phi = layer.activation(h)
    phi_gap = phi - layer.activation(h - difference)
    b = layer.prior.special_weight.sample(special_key, (size,), h.dtype)
    return jnp.stack([b * phi, b * phi_gap]), jnp.mean(phi_gap**2)
