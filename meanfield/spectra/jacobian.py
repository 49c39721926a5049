r"""Singular values of the input-output Jacobian of a deep network of infinite width.

J = W^L D^L ... W^1 D^1 at the stationary variance q*, with D = diag(phi'(h)). The
anti-correlation of weights is of rank one a layer: it enters through q* and moves no bulk
(for negative ``anticorrelation`` one singular value lies outside, THEORY section 5).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from meanfield.fixed_points.result import masked
from meanfield.layers import as_dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.legendre import panel_rule
from meanfield.numerics.pytrees import register_dataclass, replaced
from meanfield.numerics.roots import nonzero, root_between
from meanfield.spectra.contour import BentLaw
from meanfield.spectra.marks import marks
from meanfield.spectra.one_layer import one_orthogonal_layer
from meanfield.spectra.panels import on_axis, panels_along
from meanfield.spectra.resolvent import Product
from meanfield.spectra.slopes import like_gaussian, slopes_at, stationary_points
from meanfield.status import Status
from meanfield.support import validation

_PANELS, _MORE, _MANY = 40, 2, 1000  # of the law, on each side of a kink
_LEFT = 1e-6  # probability, at most, of what lies beyond an edge


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
        power = lambda log_s: jnp.exp(order * (2 * log_s - self.log_mean[..., None]))
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
    curve as given. Raises TypeError or ValueError. Source: THEORY section 11.
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
    if single:
        fields = one_orthogonal_layer(layer, law, at, points)
    else:
        bent = BentLaw.of(layer, law, at, panels) if panels else None
        fields = _many_layers(Product(law, bent, depth, -spectral_exponent), points, _kinks_of(layer), corner)
    log_weight_var = jnp.log(layer.prior.weight_var)
    result = JacobianSpectrum(
        **_scaled(fields, log_weight_var + law.log_scale, depth),
        log_mean=depth * (log_weight_var + law.log_mean),
        relative_variance=depth * (law.relative_variance - spectral_exponent),
        q=q,
        status=status,
    )
    usable = (status == Status.CONVERGED) | (status == Status.UNSTABLE) | (status == Status.MARGINAL)
    status = jnp.where(usable & ~_is_accurate(result), Status.INACCURATE, status)
    return masked(replaced(result, status=status), valid)


def _scaled(fields: dict, log_scale, depth) -> dict:
    """The spectrum of slopes of size exp(log_scale / 2) from that of slopes up to 1; all at 0 if they are."""
    scaled = {name: fields[name] + depth * log_scale / 2 for name in _LOGARITHMS}
    silent = jnp.isneginf(log_scale)
    zero, mass = jnp.where(silent, 1.0, fields["zero"]), jnp.where(silent, 0.0, fields["mass"])
    return fields | scaled | {"zero": zero, "mass": mass}


_LOGARITHMS = ("log_singular_value", "log_largest", "log_atom")


def _is_accurate(spectrum: JacobianSpectrum):
    """Whether the masses add up to 1, and in double precision give both moments that are known."""
    if jnp.finfo(spectrum.q.dtype).bits < 64:
        return jnp.abs(spectrum.total - 1) <= 1e-3
    second = spectrum.relative_moment(2) / (1 + spectrum.relative_variance)
    misses = jnp.stack([spectrum.total, spectrum.relative_moment(1), second]) - 1
    return jnp.all(jnp.abs(misses) <= 1e-6)


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
    segment, breaks, guess = panels_along(frozen, ends, int(panel[-1]) + 1, corner, zero)
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
    ceiling = jnp.where(second > 0, -jnp.log(nonzero(second)), product.longest)
    floor = jnp.where(some, 0.0, -jnp.log(2 * product.depth + 1))
    return root_between(lambda s: product.real_slope(s, some), floor, jnp.where(some, ceiling, 0.0))


def _end(product: Product, begin, zero):
    """s beyond which next to nothing is left: the lower edge, if there is one, or a far quantile."""
    law = product.slopes
    negligible = 1e-9 if jnp.finfo(begin.dtype).bits >= 64 else 1e-5
    # Slopes bounded away from 0 under orthogonal weights: the mirror image of the top edge. Slopes
    # that pass through 0 have a smallest node, and a pole there, but the curve goes on beyond.
    least = jnp.min(jnp.where(law.square > 0, law.square, jnp.inf))
    floor = -jnp.log(least)
    floor = jnp.where((zero == 0) & (floor < product.longest / 2), floor, product.longest / 2)
    edge = root_between(product.real_slope, floor + jnp.log(2 * product.depth + 1), floor)

    def left(s):
        """Probability of smaller values other than 0; 0 where the curve never leaves the axis again."""
        w = product.half_angle(s)
        within = jnp.cumsum(~on_axis(w)[::-1])[::-1] > 0
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
