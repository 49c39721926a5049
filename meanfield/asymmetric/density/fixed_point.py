"""Fixed points under an asymmetric prior: the law that deep layers approach."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.activations.activation import Activation
from meanfield.activations.asymptotes import Asymptote, asymptote_at_infinity, asymptote_at_zero
from meanfield.asymmetric.density.evolution import noise_after
from meanfield.asymmetric.density.families import (
    Family,
    family_by_growth,
    family_by_noise,
    family_of_pieces,
    pieces_activation,
)
from meanfield.asymmetric.density.grid import STEP, kernel_of
from meanfield.asymmetric.density.layer import AsymmetricLayer
from meanfield.asymmetric.density.pairs import settled_pair
from meanfield.asymmetric.density.stationary import growth_rate
from meanfield.dual import dual_of
from meanfield.fixed_points.result import FixedPoint, masked, phase_of
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.compiling import compiled
from meanfield.numerics.memo import Memo
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.numerics.roots import root_between
from meanfield.status import Phase, Status
from meanfield.support import validation

PARTICLES = 1 << 16
_START_LAYERS = 32
_GRID = 1 << 12
_FAR = 40.0  # octaves that the search goes beyond a family's panels
_INACCURATE = 1e-7


_ACCURACY = 1e-8  # of what is deterministic


@register_dataclass
@dataclass(frozen=True, eq=False)
class AsymmetricFixedPoint(FixedPoint):
    r"""Where two signals end up under an asymmetric prior; all leaves of one shape.

    As ``FixedPoint``, where q is the second moment E h^2, c the uncentred correlation
    E h1 h2 / q, chi_q the growth of a small change of the law (or the gain of an
    unbounded or vanishing signal), chi_perp that of a transverse perturbation's
    squared norm, and chi_1 = chi_perp over the growth of q. These are deterministic,
    good to 1e-8.

    Where chi_1 > 1, c and chi_c are sampled: c_error and chi_c_error are their standard
    errors (0 where c = 1, infinite where 1 - c is too small to be told from 0).

    mean: E h. noise_var: variance of the Gaussian part of h. inactive: P(h <= 0). For
    an unbounded or vanishing signal mean is E h / sqrt(E h^2) and noise_var the Gaussian
    part's share of q. Where every q is a fixed point (MARGINAL), q is the one reached
    from q0 once the law has its shape.
    """

    mean: Float[Array, "..."]
    noise_var: Float[Array, "..."]
    inactive: Float[Array, "..."]
    chi_c_error: Float[Array, "..."]

    __repr__ = FixedPoint.__repr__


def asymmetric_fixed_point(
    activation, prior=None, *, q0=1.0, c0=0.0, particles=PARTICLES, seed=0
) -> AsymmetricFixedPoint:
    """The law that signals of variance q0 and correlation c0 approach under an asymmetric prior.

    activation, prior: as for ``density_evolution``; prior, q0 and c0 broadcast.
    particles: size of the population that samples c where chi_1 > 1; seed: of its numbers.

    Raises TypeError or ValueError for arguments wrong before tracing.
    Source: THEORY section 8; the method is that of ``meanfield.density.stationary``.
    """
    layer = AsymmetricLayer.of(activation, prior)
    q0 = validation.real("q0", q0, low=0.0, low_open=True)
    c0 = validation.real("c0", c0, low=-1.0, high=1.0)
    particles = validation.count("particles", particles, low=1000)
    key = jax.random.key(validation.count("seed", seed, low=0))
    point = settled_fixed_point(activation, prior, q0=q0, c0=c0)
    if not validation.is_traced(point) and not np.any(parting(layer.activation, point, c0)):
        return point
    shared = families_of(layer), key
    return pointwise(
        _with_pairs, layer, point, c0, shared=shared, static=(particles,), at_once=1, optimization=2
    )


def settled_fixed_point(activation, prior, *, q0, c0) -> AsymmetricFixedPoint:
    """All that is deterministic in a fixed point; c and chi_c are NaN where they would be sampled."""
    layer = AsymmetricLayer.of(activation, prior)
    shared = families_of(layer), kernel_of(layer.prior.special_weight, STEP)
    return pointwise(_settled_law, layer, q0, c0, shared=shared, optimization=2)


def deterministic_points(activation, prior, q0: float, c0: float):
    """(``settled_fixed_point``, whether it may depend on more layers of the start), for many priors.

    The noise after one layer decides which fixed point is approached.
    """
    layer = AsymmetricLayer.of(activation, prior)
    dual = dual_of(layer.activation)
    moments = (dual.variance(jnp.asarray(q0)), dual.mean(jnp.asarray(q0)) ** 2)
    start = layer.prior.propagate_moments(*moments)
    return pointwise(
        _deterministic_point,
        layer,
        start,
        q0,
        c0,
        shared=(families_of(layer),),
        at_once=_GRID,
        optimization=2,
    )


@register_dataclass
@dataclass(frozen=True, eq=False)
class Families:
    """The laws that a layer's signals can settle in: at a noise level, or shrinking, or growing."""

    settled: Family
    shrinking: Family
    growing: Family
    zero: Asymptote
    infinity: Asymptote


def families_of(layer: AsymmetricLayer) -> Families:
    """The families of a layer, in float64 and kept for the process if nothing is traced."""
    activation = layer.activation
    kernel = kernel_of(layer.prior.special_weight, STEP)
    if activation.traced or validation.is_traced(activation):
        return _families(kernel, activation, family_by_noise, family_of_pieces, family_by_growth)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        builders = (_kept(build, layer.prior.special_weight) for build in _BUILDERS)
        return _families(kernel, activation, *builders)


def _families(kernel, activation, by_noise, of_pieces, by_growth) -> Families:
    dtype = jnp.result_type(float, *activation.params)
    pieces = dual_of(activation).pieces
    settled = of_pieces(kernel, *pieces) if pieces is not None else by_noise(kernel, activation)
    # What a traced function computes belongs to its trace, where nothing may be kept.
    asymptotes = _asymptotes.__wrapped__ if activation.traced else _asymptotes
    zero, infinity = asymptotes(activation, jnp.zeros((), dtype))
    shrinking, growing = (by_growth(kernel, *_slopes(pieces)) for pieces in (zero, infinity))
    return Families(settled, shrinking, growing, zero, infinity)


def _slopes(pieces: Asymptote):
    """Slopes on which a family can be built, whatever phi is."""
    usable = pieces.degree == 1
    return jnp.where(usable, pieces.left, 0.0), jnp.where(usable, pieces.right, 1.0)


_kept_families: Memo = Memo(32)
_BUILDERS = tuple(compiled(2)(build) for build in (family_by_noise, family_of_pieces, family_by_growth))


@compiled(0)
def _asymptotes(activation, like):
    return asymptote_at_zero(activation, like.dtype), asymptote_at_infinity(activation, like.dtype)


def _kept(build, law):
    """``build`` for the kernel of ``law``, with its results kept for the process."""

    def kept(*arguments):
        leaves, structure = jax.tree.flatten(arguments)
        numbers = tuple(np.asarray(x).tobytes() for x in leaves if np.ndim(x) == 0)
        key = (build, law, structure, numbers)  # the kernel's tables follow from the law
        return _kept_families(key, lambda: jax.tree.map(np.asarray, build(*arguments)))

    return kept


def _settled_law(layer, q0, c0, families, kernel) -> AsymmetricFixedPoint:
    valid = layer.is_valid() & jnp.isfinite(q0) & (q0 > 0) & (jnp.abs(c0) <= 1)
    layer = layer.guarded(valid)
    q0, c0 = jnp.where(valid, q0, 1.0), jnp.where(valid, c0, 0.0)
    noise, q_start = noise_after(layer, q0, kernel, _START_LAYERS)
    return _settled_from(layer, families, jnp.log2(noise), q_start, c0, valid)[0]


def _deterministic_point(layer, noise_var, q0, c0, families):
    valid = layer.is_valid()
    return _settled_from(layer.guarded(valid), families, jnp.log2(noise_var) / 2, q0, c0, valid)


def _settled_from(layer, families, start, q_start, c0, valid):
    """All that is deterministic, from log2 of the noise after some layers; c is NaN where sampled."""
    families = jax.tree.map(lambda x: jnp.asarray(x).astype(start.dtype), families)
    t, direction, several = _search(layer, families, start)
    point = _at_noise(layer, families, t, direction, q_start)
    undefined = jnp.isnan(point.chi_1) | _is_frozen(families, point) | parting(layer.activation, point, c0)
    blank = lambda x: jnp.where(undefined, jnp.nan, x)
    opposed = (c0 == -1) & _is_reflected(layer.activation, -1.0) & (layer.prior.bias_var == 0)
    gap = blank(jnp.where(opposed, 2.0, 0.0))
    zero = blank(jnp.zeros_like(gap))
    fields = dict(c=1 - gap, one_minus_c=gap, chi_c=blank(point.chi_1), c_error=zero, chi_c_error=zero)
    return masked(dataclasses.replace(point, **fields), valid), several & valid


def parting(activation, point: AsymmetricFixedPoint, c0):
    """Where nearby signals part, so that their correlation is below 1 and must be sampled.

    Equal signals stay so, and opposite ones if phi is even, or if it is odd and there is no bias.
    """
    reflected = _is_reflected(activation, 1.0) | _is_reflected(activation, -1.0)
    return (point.phase == Phase.CHAOTIC) & (c0 != 1) & ~((c0 == -1) & reflected)


def _is_reflected(activation, sign):
    """Whether phi(-x) = sign phi(x)."""
    x = jnp.asarray([0.1, 0.7, 1.3, 4.0])
    return jnp.all(activation(-x) == sign * activation(x))


def _is_frozen(families, point):
    """Where a decaying or growing signal sees a linear phi, which leaves c as it was."""
    pieces = _far_pieces(families, point.status == Status.UNBOUNDED)
    return ~_is_finite(point) & (pieces.left == pieces.right)


def _is_finite(point):
    return (point.status != Status.UNBOUNDED) & (point.status != Status.VANISHING)


def _far_pieces(families, up) -> Asymptote:
    """phi far out (``up``), or at 0."""
    return jax.tree.map(lambda a, b: jnp.where(up, a, b), families.infinity, families.zero)


def _search(layer: AsymmetricLayer, families: Families, start):
    """(t, direction, several): log2 of the noise of the fixed point approached from ``start``.

    direction is 0 for a finite one, 1 and -1 where the signal grows or decays for ever,
    and 2 where every noise level is a fixed point. several: whether there are others.
    """
    prior, family = layer.prior, families.settled
    dtype = start.dtype

    def growth(t, spend):
        return jnp.log(prior.weight_var * jnp.exp(spend) + prior.bias_var * 4.0**-t)

    at = lambda t: growth(t, family.spend(t, prior.anticorrelation))
    nodes, spend = family.nodes.ravel(), family.spend_at_nodes(prior.anticorrelation).ravel()
    far = jnp.linspace(0, _FAR, 81, dtype=dtype)[1:]
    outer = [nodes[0] - far[::-1], nodes[-1] + far]
    t = jnp.concatenate([outer[0], nodes, outer[1]])
    low, high = (growth(x, jax.vmap(lambda y: family.spend(y, prior.anticorrelation))(x)) for x in outer)
    values = jnp.concatenate([low, growth(nodes, spend), high])

    start = jnp.clip(jnp.nan_to_num(start, nan=0.0, posinf=1e3, neginf=-1e3), t[0], t[-1])
    rising = at(start) > 0
    # The next zero that the noise level moves to: from growth above 1 to below, upwards.
    falls = (values[:-1] > 0) & (values[1:] <= 0)
    index = jnp.arange(falls.shape[0])
    above, below = falls & (t[1:] > start), falls & (t[:-1] <= start)
    first = jnp.where(rising, jnp.argmax(above), jnp.max(jnp.where(below, index, 0)))
    found = jnp.where(rising, jnp.any(above), jnp.any(below))

    safe = jnp.where(found, first, 0)
    root = root_between(at, t[safe + 1], t[safe])
    level = jnp.finfo(dtype).eps ** 0.5
    marginal = (prior.bias_var == 0) & jnp.all(jnp.abs(values) <= level)
    direction = jnp.where(marginal, 2, jnp.where(found, 0, jnp.where(rising, 1, -1)))
    ends = jnp.stack([values[0] <= 0, values[-1] > 0])  # decaying, growing for ever
    several = marginal | (jnp.sum(falls) + jnp.sum(ends) > 1)
    return jnp.where(direction == 0, root, start), direction, several


def _limiting_growth(layer: AsymmetricLayer, family: Family):
    """log2 g of the law that an unbounded or vanishing signal keeps, s' = s/g."""
    log_weight = jnp.log(layer.prior.weight_var)
    excess = lambda u: log_weight + family.spend(u, layer.prior.anticorrelation)
    return root_between(excess, family.nodes[0, 0] - _FAR, family.nodes[-1, -1] + 1.0)


def _at_noise(layer, families: Families, t, direction, q_start) -> AsymmetricFixedPoint:
    """Everything deterministic at the fixed point that ``_search`` found."""
    finite, up = (direction == 0) | (direction == 2), direction == 1
    here, law = _settled_at(layer.prior, families.settled, jnp.where(finite, t, 0.0), direction == 2, q_start)
    there, far_law, resolved = _far_off(layer, families, up)
    known = _far_pieces(families, up).degree == 1
    settle = lambda here, there: jnp.where(finite, here, jnp.where(known, there, jnp.nan))

    response = jnp.where(finite, law.slope_response, far_law.slope_response)
    chi_perp = growth_rate(layer.prior.weight_var, response)
    chi_1 = settle(chi_perp, chi_perp / there["chi_q"])
    tolerance = max(_INACCURATE, float(jnp.finfo(t.dtype).eps) ** 0.5)
    inaccurate = jnp.where(finite, law.error > tolerance, known & ((far_law.error > tolerance) | ~resolved))
    status = jnp.select(
        [inaccurate, direction == 2, up, direction == -1, jnp.abs(here["chi_q"]) > 1],
        [Status.INACCURATE, Status.MARGINAL, Status.UNBOUNDED, Status.VANISHING, Status.UNSTABLE],
        Status.CONVERGED,
    )
    fields = {name: settle(here[name], value) for name, value in there.items()}
    q = jnp.where(finite, here["q"], jnp.where(up, jnp.inf, 0.0))
    blank = jnp.full_like(q, jnp.nan)
    sampled = dict.fromkeys(("c", "one_minus_c", "chi_c", "c_error", "chi_c_error"), blank)
    return AsymmetricFixedPoint(
        q=q,
        **fields,
        **sampled,
        chi_1=chi_1,
        chi_perp=settle(chi_perp, chi_perp),
        status=status,
        phase=phase_of(chi_1, status),
        q_error=jnp.where(finite, _ACCURACY * q, 0.0),
    )


def _settled_at(prior, family: Family, t, marginal, q_start):
    """(fields at the noise 2^t, the law there). marginal: any noise will do, and q_start tells which."""
    law, _, _ = family.at(t)
    width = prior.special_weight.moment(2) * law.activity + 1  # q in units of the noise
    noise_var = jnp.where(marginal, q_start / width, 4.0**t)
    response = law.activity_response - 2 * prior.anticorrelation * law.mean * law.mean_response
    fields = dict(
        q=jnp.where(marginal, q_start, 4.0**t * width),
        chi_q=jnp.where(marginal, 1.0, growth_rate(prior.weight_var, response)),
        mean=jnp.sqrt(noise_var) * prior.special_weight.moment(1) * law.mean,
        noise_var=noise_var,
        inactive=law.inactive,
    )
    return fields, law


def _far_off(layer: AsymmetricLayer, families: Families, up):
    """(fields but q of a signal that grows (``up``) or decays for ever, law, whether that is resolved)."""
    special = layer.prior.special_weight
    family = jax.tree.map(lambda a, b: jnp.where(up, a, b), families.growing, families.shrinking)
    u = _limiting_growth(layer, family)
    law, _, _ = family.at(u)
    width = special.moment(2) * law.activity + 1
    fields = dict(
        chi_q=4.0**-u,
        mean=special.moment(1) * law.mean / jnp.sqrt(width),
        noise_var=1 / width,
        inactive=law.inactive,
    )
    return fields, law, u <= family.nodes[-1, -1]


def _with_pairs(layer, point, c0, families, key, particles: int) -> AsymmetricFixedPoint:
    """c and chi_c sampled where signals part."""
    families = jax.tree.map(lambda x: jnp.asarray(x).astype(point.q.dtype), families)
    sample = parting(layer.activation, point, c0) & jnp.isfinite(point.chi_1) & ~_is_frozen(families, point)
    finite, pieces = _is_finite(point), _far_pieces(families, point.status == Status.UNBOUNDED)
    # A growing or decaying signal is followed in units of its own size.
    scale = 1 / jnp.sqrt(jnp.where(finite | ~sample, 1.0, point.chi_q))
    activation = _settled_activation(layer.activation, finite, scale * pieces.left, scale * pieces.right)
    prior = layer.guarded(sample).prior
    prior = replaced(prior, bias_var=jnp.where(finite, prior.bias_var, 0.0))
    settled = AsymmetricLayer(activation, prior)
    q = jnp.where(finite & sample, point.q, 1.0)
    noise_var = jnp.where(sample, point.noise_var, 1.0)  # in units of q where the signal has no size

    def sampled(_):
        gap, gap_error, chi_c, chi_c_error, inside = settled_pair(settled, noise_var, q, particles, key)
        gap_error = jnp.where(inside, gap_error, jnp.inf)  # too close to c = 1 for so few particles
        fields = dict(c=1 - gap, one_minus_c=gap, chi_c=chi_c, c_error=gap_error, chi_c_error=chi_c_error)
        return fields, inside

    def known(_):
        names = ("c", "one_minus_c", "chi_c", "c_error", "chi_c_error")
        return {name: getattr(point, name) for name in names}, jnp.asarray(True)

    fields, inside = jax.lax.cond(sample, sampled, known, None)
    unsolved = (point.status == Status.CONVERGED) & ~inside
    fields |= {"status": jnp.where(unsolved, Status.MAX_STEPS, point.status)}
    return masked(dataclasses.replace(point, **fields), True)


def _settled_activation(activation: Activation, finite, left, right) -> Activation:
    """phi where the signal settles, and its rescaled pieces where it grows or decays for ever."""
    pieces = pieces_activation(left, right)

    def blended(x, finite, left, right, *params):
        return jnp.where(finite, activation.program(x, *params), pieces.program(x, left, right))

    return Activation._built_in("settled", blended, (), (finite, left, right, *activation.params))
