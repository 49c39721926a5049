r"""Singular values of the input-output Jacobian of a deep network of infinite width.

J = W^L D^L ... W^1 D^1 at the stationary variance q*, with D = diag(phi'(h)). The
anti-correlation of weights is of rank one a layer: it enters through q* and moves no bulk
(for negative ``anticorrelation`` one singular value lies outside, THEORY section 5).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield.layers import as_dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import implicit_root
from meanfield.spectra.contour import BentLaw
from meanfield.spectra.marks import marks
from meanfield.spectra.one_layer import one_orthogonal_layer
from meanfield.spectra.panels import panel_rule
from meanfield.spectra.resolvent import Product
from meanfield.spectra.slopes import like_gaussian, slopes_at, stationary_points
from meanfield.status import Status
from meanfield.support import validation

_COARSE = 256
_REFINEMENTS = 2
_PANELS, _MORE, _MANY = 40, 2, 1000  # of the law, on each side of a kink
_LOWEST = 1e-6  # phase, over pi, to which panels narrow towards a corner
_FEWEST = 4  # panels between two marks
_ON_AXIS = -25.0  # log tan(theta/2) of what lies outside the spectrum
_LITTLE, _IMPORTANCE = 3e-4, 0.25  # nodes thin out as this power of what is left, or tails take them all
_LEFT = 1e-6  # probability, at most, of what lies beyond an edge
_EVENLY = 0.3  # share of nodes that are spread evenly


@register_dataclass
@dataclass(frozen=True, eq=False)
class JacobianSpectrum:
    r"""The law of the singular values s of a depth-L Jacobian; arrays of shape (..., points) or (...).

    Deep networks spread over hundreds of decades: everything is told in natural logarithms.

    log_singular_value: nodes, log s, ascending, denser towards the edges. density: of log s
        there. mass: probability that each node stands for, so that sums of mass times a
        function are expectations; with zero and atom they add up to 1. cdf: probability of
        values up to the node, zero included, from a formula of its own.
    zero: probability of s = 0, as which slopes count that are less than 1e-62 (in single precision 1e-8)
        of the largest, unless phi' merely passes through zero there. atom: of one s > 0, at log_atom
        (orthogonal weights, where phi is straight so often that some directions meet nothing else in
        any layer).
    log_largest: log of the largest singular value; infinite where slopes are unbounded.
    log_mean: log E s^2 = L log chi_perp. relative_variance: of s^2, Var s^2/(E s^2)^2 =
        L (mu_2/mu_1^2 - 1 - s_1).
    q: variance q* at which slopes are taken. status: integers of ``Status``; at an
        unbounded or vanishing variance the numbers are those of its limit. INACCURATE where
        the masses' total, or E s^2 or E s^4 of them beside the closed forms, is out by more than
        1e-6 (in single precision: where the total is, by 1e-3).

    Source: THEORY section 11; Pennington, Schoenholz & Ganguli, arXiv:1802.09979.
    """

    log_singular_value: Float[Array, "... points"]
    density: Float[Array, "... points"]
    mass: Float[Array, "... points"]
    cdf: Float[Array, "... points"]
    zero: Float[Array, "..."]
    atom: Float[Array, "..."]
    log_atom: Float[Array, "..."]
    log_largest: Float[Array, "..."]
    log_mean: Float[Array, "..."]
    relative_variance: Float[Array, "..."]
    q: Float[Array, "..."]
    status: Int[Array, "..."]

    @property
    def singular_value(self) -> Float[Array, "... points"]:
        """s at the nodes; 0 where that underflows."""
        return jnp.exp(self.log_singular_value)

    @property
    def singular_value_density(self) -> Float[Array, "... points"]:
        """Density of s itself at the nodes."""
        return self.density * jnp.exp(-self.log_singular_value)

    @property
    def squared_density(self) -> Float[Array, "... points"]:
        """Density of s^2 at the nodes s^2."""
        return self.density / 2 * jnp.exp(-2 * self.log_singular_value)

    @property
    def mean(self) -> Float[Array, "..."]:
        """E s^2 = chi_perp^L."""
        return jnp.exp(self.log_mean)

    @property
    def variance(self) -> Float[Array, "..."]:
        """Var s^2."""
        return jnp.exp(2 * self.log_mean) * self.relative_variance

    @property
    def total(self) -> Float[Array, "..."]:
        """Probability that nodes and atoms hold; 1 up to the error of the integral."""
        return jnp.sum(self.mass, axis=-1) + self.zero + self.atom

    def relative_moment(self, order: int) -> Float[Array, "..."]:
        """E s^(2 order)/(E s^2)^order, from the nodes."""
        power = lambda log_s: jnp.exp(order * (2 * log_s - self.log_mean[..., None]))  # noqa: E731
        moment = jnp.sum(self.mass * power(self.log_singular_value), axis=-1)
        some = self.atom > 0
        at_atom = power(jnp.where(some, self.log_atom, 0.0)[..., None])[..., 0]
        return moment + jnp.where(some, self.atom * at_atom, 0.0)

    def plot(self, measured=None):
        """Draw it, over measured singular values if given; see ``plotting.plot_spectrum``."""
        from meanfield.plotting import plot_spectrum

        return plot_spectrum(self, measured)


def jacobian_spectrum(activation, prior=None, depth=1, *, points=1000, q0=1.0) -> JacobianSpectrum:
    """The singular values of the Jacobian of ``depth`` layers at q*, at infinite width.

    activation, prior: as for ``fixed_point``; a ``NormalPrior`` or an ``OrthogonalPrior``, whose
        leaves broadcast with q0, the variance to start from.
    depth: number of layers L, from 1 to 10^4 and beyond. points: of the density.

    No step size, no starting guess and no branch is chosen anywhere (see
    ``spectra.resolvent``), so that no depth is special. Works under jit, vmap and
    grad, in float32 and float64; derivatives at a node take its parameter on the
    curve as given. Raises TypeError or ValueError.
    """
    layer = as_dense(activation, prior)
    depth = validation.count("depth", depth)
    points = validation.count("points", points, low=64)
    q0 = validation.real("q0", q0, low=0.0)
    spectral_exponent = layer.prior.spectral_exponent
    single = depth == 1 and spectral_exponent == 0
    corner = depth == 2 and spectral_exponent == 0
    layer = like_gaussian(layer)
    point = stationary_points(layer, q0)
    # The curve of one Gaussian layer is all near the real axis, that of a great many nowhere.
    panels = _PANELS * (_MORE if depth == 1 else 1) if depth < _MANY else 0
    return pointwise(
        _spectrum,
        layer,
        *point,
        float(depth),
        spectral_exponent,
        static=(points, single, panels, corner),
        at_once=2,
        optimization=2,
    )


def _spectrum(
    layer, q, at, status, depth, spectral_exponent, points, single, panels, corner
) -> JacobianSpectrum:
    valid = layer.is_valid() & (status != Status.INVALID)
    layer = layer.guarded(valid)
    law, status = slopes_at(layer, at, status)
    law = law.above_least()
    log_scale = jnp.log(layer.prior.weight_var) + law.log_scale
    if single:
        fields = one_orthogonal_layer(layer, law, at, points)
    else:
        bent = BentLaw.of(layer, law, at, panels) if panels else None
        fields = _many_layers(Product(law, bent, depth, -spectral_exponent), points, _kinks_of(layer), corner)
    fields["zero"] = jnp.where(jnp.isneginf(log_scale), 1.0, fields["zero"])
    top = depth * log_scale / 2
    for name in ("log_singular_value", "log_largest", "log_atom"):
        fields[name] = fields[name] + top
    fields["mass"] = jnp.where(jnp.isneginf(log_scale), 0.0, fields["mass"])
    spread = law.relative_variance - spectral_exponent
    result = JacobianSpectrum(
        **fields,
        log_mean=depth * (jnp.log(layer.prior.weight_var) + law.log_mean),
        relative_variance=depth * spread,
        q=q,
        status=status,
    )
    if jnp.finfo(q.dtype).bits >= 64:
        second = result.relative_moment(2) / (1 + result.relative_variance)
        misses = jnp.stack([result.total, result.relative_moment(1), second]) - 1
        accurate = jnp.all(jnp.abs(misses) <= 1e-6)
    else:
        accurate = jnp.abs(result.total - 1) <= 1e-3
    usable = (status == Status.CONVERGED) | (status == Status.UNSTABLE) | (status == Status.MARGINAL)
    status = jnp.where(usable & ~accurate, Status.INACCURATE, status)
    result = jax.tree.map(lambda x: jnp.where(valid, x, jnp.nan), result)
    status = jnp.where(valid, status, Status.INVALID).astype(jnp.int32)
    return JacobianSpectrum(**{**vars(result), "status": status})


def _many_layers(product: Product, points, kinks, corner) -> dict:
    """Nodes along the curve: Gauss-Legendre panels, narrow where the curve bends or the density varies.

    Between two marks the variable is a phase in which square-root edges at both ends are smooth.
    """
    frozen = jax.lax.stop_gradient(product)
    zero = (product.bent or product.slopes).zero
    begin = top_edge(product)
    first = jax.lax.stop_gradient(begin)
    panel, *rule = panel_rule(points)
    within, weight = (jnp.asarray(x, first.dtype) for x in rule)
    ends = marks(frozen, first, _end(frozen, first, zero), kinks)
    segment, breaks, guess = _panels(frozen, ends, int(panel[-1]) + 1, corner, zero)
    low, high = ends[segment][panel], ends[segment + 1][panel]
    width = (breaks[1] - breaks[0])[panel]
    phase = breaks[0][panel] + width * within
    s = low + (high - low) * jnp.sin(phase / 2) ** 2
    step = (high - low) * jnp.sin(phase) / 2 * width * weight
    curve = product.at(s, product.half_angle(s, guess(s)))
    atom, log_atom = top_atom(product)
    edge = product.real_log(begin)
    largest = jnp.where(atom > 0, 0.0, edge)
    return dict(
        log_singular_value=jax.lax.cummax(curve.log_x[::-1]) / 2,  # rounding at an edge
        density=2 * curve.density[::-1],
        mass=(curve.density * curve.stretch * step)[::-1],
        cdf=1 - curve.survival[::-1],
        zero=zero,
        atom=atom,
        log_atom=log_atom,
        log_largest=jnp.where(product.slopes.unbounded, jnp.inf, largest / 2),
    )


def _panels(product: Product, ends, panels: int, corner: bool, zero):
    """(segment of each panel, its first and last phase, a guess of log tan(theta/2) at any s).

    Each panel holds as much as any other of the length of the curve of (s, theta, log density), and more
    where little probability is left; no panel lies in a gap of the spectrum.

    corner: whether to narrow panels towards marks by decades. Two orthogonal layers of a phi that is straight
        on half the line run into the pole there as the square root of the distance, until
        the few other slopes that equal that one round the corner off.
    """
    segments = ends.size - 1
    low, high = ends[:-1, None], ends[1:, None]
    coarse = _COARSE if segments == 1 else max(_COARSE // 4, 3 * _COARSE // 2 // segments)
    even = jnp.linspace(0.0, 1.0, coarse + 2, dtype=ends.dtype)
    tiny = jnp.finfo(ends.dtype).tiny

    def refined(phase, guess):
        """Phases at equal lengths of the curve, from its points at others; those lengths; its s and w."""
        s = low + (high - low) * jnp.sin(phase[:, 1:-1] / 2) ** 2
        w = product.half_angle(s.ravel(), jnp.interp(s.ravel(), *guess))
        curve = product.at(s.ravel(), w)
        coordinates = (s.ravel(), curve.theta, jnp.log(jnp.maximum(curve.density, tiny)) / 2)
        length = sum(jnp.diff(c.reshape(s.shape)) ** 2 for c in coordinates) ** 0.5
        length = jnp.minimum(length, 2.0)  # what lies outside the spectrum needs no nodes
        left = jnp.clip(1 - zero - curve.survival.reshape(s.shape)[:, :-1], _LITTLE, 1.0)
        length = length * left**_IMPORTANCE
        within_gap = w.reshape(s.shape)[:, coarse // 2] < _ON_AXIS
        total = jnp.where(within_gap | (high - low <= tiny)[:, 0], 0.0, jnp.sum(length, axis=1))
        length = length / jnp.where(total > 0, total, 1.0)[:, None]
        length = length + _EVENLY * jnp.diff(_rung(phase[:, 1:-1]) if corner else phase[:, 1:-1] / jnp.pi)
        position = jnp.cumsum(jnp.pad(length, ((0, 0), (1, 0))), axis=1)
        phases = phase[:, 1:-1].at[:, 0].set(0.0).at[:, -1].set(jnp.pi)
        moved = jax.vmap(lambda x, at: jnp.interp(even * x[-1], x, at))(position, phases)
        return moved, total, (s.ravel(), w)

    start = jnp.broadcast_to(_at_rung(even) if corner else jnp.pi * even, (segments, even.size))
    nowhere = jnp.linspace(ends[0], ends[-1], segments * coarse)
    phase, length, guess = jax.lax.fori_loop(
        0,
        _REFINEMENTS if segments == 1 else 2 * _REFINEMENTS,
        lambda _, state: refined(state[0], state[2]),
        (start, jnp.zeros(segments, ends.dtype), (nowhere, 0 * nowhere)),
    )

    some = length > 0
    least = min(_FEWEST, max(1, panels // (2 * segments)))
    share = length / jnp.sum(length) * (panels - least * jnp.sum(some)) + jnp.where(some, least, 0)
    last = jnp.round(jnp.cumsum(share)).astype(int).at[-1].set(panels)
    number = jnp.arange(panels)
    segment = jnp.minimum(jnp.searchsorted(last, number, side="right"), segments - 1)
    before = jnp.concatenate([jnp.zeros(1, last.dtype), last])[segment]
    count = jnp.maximum(last[segment] - before, 1)
    place = lambda n: jax.vmap(lambda x, i: jnp.interp(x, even, phase[i]))((n - before) / count, segment)  # noqa: E731
    return segment, (place(number), place(number + 1)), lambda s: jnp.interp(s, *guess)


def _rung(phase):
    """From 0 to 1 as the phase goes from 0 to pi, evenly in its logarithm near both ends."""
    near = jnp.minimum(phase, jnp.pi - phase) / jnp.pi
    rung = jnp.log1p(2 * near / _LOWEST) / jnp.log1p(1 / _LOWEST) / 2
    return jnp.where(2 * phase < jnp.pi, rung, 1 - rung)


def _at_rung(rung):
    """The phase at which ``_rung`` is that."""
    near = _LOWEST / 2 * jnp.expm1(2 * jnp.minimum(rung, 1 - rung) * jnp.log1p(1 / _LOWEST))
    return jnp.pi * jnp.where(rung < 0.5, near, 1 - near)


def _kinks_of(layer) -> int:
    return 1 if layer.dual.pieces else len(layer.activation.kinks)


def top_atom(product: Product):
    """(probability, log) of the value that directions have which meet the largest slope in every layer.

    Projections on random subspaces of dimension p have 1 - L (1 - p) in common.
    """
    law = product.slopes
    shared = 1 - product.depth * (1 - law.top)
    some = (product.exponent == 0) & (shared > 16 * jnp.finfo(shared.dtype).eps)
    return jnp.where(some, shared, 0.0), jnp.where(some, 0.0, -jnp.inf)


def top_edge(product: Product):
    """s at the largest value of the continuous spectrum: where real y leaves off to be a solution.

    Differentiable. Below s = 0 unless an atom lies there, which leaves the real axis free beyond it.
    """
    law = product.slopes
    some = top_atom(product)[0] > 0
    second = jnp.max(jnp.where((law.square < 1) & (law.square > 0), law.square, 0.0))
    ceiling = jnp.where(second > 0, -jnp.log(jnp.where(second > 0, second, 1.0)), product.longest)
    floor = jnp.where(some, 0.0, -jnp.log(2 * product.depth + 1))
    slope = lambda s: product.real_slope(s, some)  # noqa: E731
    return _crossing(slope, floor, jnp.where(some, ceiling, 0.0), rising=True)


def _end(product: Product, begin, zero):
    """s beyond which next to nothing is left: the lower edge, if there is one, or a far quantile."""
    law = product.slopes
    negligible = 1e-9 if jnp.finfo(begin.dtype).bits >= 64 else 1e-5
    # Slopes bounded away from 0 under orthogonal weights: the mirror image of the top edge. Slopes
    # that pass through 0 have a smallest node, and a pole there, but the curve goes on beyond.
    least = jnp.min(jnp.where(law.square > 0, law.square, jnp.inf))
    floor = -jnp.log(least)
    floor = jnp.where((zero == 0) & (floor < product.longest / 2), floor, product.longest / 2)
    edge = _crossing(product.real_slope, floor, floor + jnp.log(2 * product.depth + 1), rising=False)

    def left(s):
        """Probability of smaller values other than 0; 0 where the curve never leaves the axis again."""
        w = product.half_angle(s)
        within = jnp.cumsum((w > _ON_AXIS)[::-1])[::-1] > 0
        return jnp.where(within, 1 - zero - product.at(s, w).survival, 0.0)

    def narrowed(steps):
        """Two neighbouring steps between which what is left falls below that; what is left at the edge."""
        found = left(jnp.append(edge, begin + steps))
        at_edge, little = found[0], found[1:] < negligible
        at = jnp.where(jnp.any(little), jnp.argmax(little), steps.size - 1)
        return steps[jnp.maximum(at - 1, 0)], steps[at], at_edge

    def step(i, ends):
        near, far, _ = ends
        evenly = near + (far - near) * even
        return narrowed(jnp.where(i == 0, outwards, evenly))

    outwards = jnp.geomspace(1e-6, product.longest, 64).astype(begin.dtype)
    even = jnp.linspace(0, 1, outwards.size, dtype=begin.dtype)
    _, far, at_edge = jax.lax.fori_loop(0, 4, step, 3 * (jnp.zeros_like(begin),))
    end = begin + far
    bounded = (product.exponent == 0) & (zero == 0) & (edge > begin) & (at_edge < _LEFT)
    return jnp.where(bounded, jnp.minimum(end, edge), end)


def _crossing(fn, low, high, *, rising):
    """Where fn passes 0 between low and high, by bisection; differentiable."""

    def solve(f, start):
        def step(_, ends):
            low, high = ends
            middle = (low + high) / 2
            beyond = (f(middle) > 0) == rising
            return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

        low_, high_ = jax.lax.fori_loop(
            0, 64, step, (jax.lax.stop_gradient(low), jax.lax.stop_gradient(high))
        )
        # The side outside the spectrum, where fn is a number.
        return low_ if rising else high_

    return implicit_root(fn, low, solve)
