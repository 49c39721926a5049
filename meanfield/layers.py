"""A layer: the map from the statistics of a pair of signals to those one layer on."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from meanfield.activation import Activation
from meanfield.activations import as_activation
from meanfield.dual import Dual, LinearPieces, QuadraticPieces, QuadratureDual, dual_of
from meanfield.dual.tabulated_activation import TabulatedActivation
from meanfield.priors import AsymmetricPrior, NormalPrior, OrthogonalPrior
from meanfield.pytrees import register_dataclass


@register_dataclass
@dataclass(frozen=True, eq=False)
class DenseLayer:
    """Fully connected layer of infinite width: ``h' = W phi(h) + b`` with W, b from ``prior``.

    Everything a solver asks of a layer is a method here, on scalars.
    ``dual`` holds the Gaussian moments of ``activation``.
    """

    activation: Activation
    prior: Any
    dual: Dual

    @classmethod
    def of(cls, activation, prior=None) -> "DenseLayer":
        """A layer from one, or from an activation (object, name or callable) and a prior.

        Raises TypeError or ValueError naming the argument that is neither.
        """
        if isinstance(activation, DenseLayer):
            if prior is not None:
                raise TypeError("prior must be left out where a layer is given: the layer has its own")
            return activation
        activation = as_activation(activation)
        if isinstance(prior, AsymmetricPrior):
            raise TypeError(
                "prior must be a meanfield.NormalPrior or OrthogonalPrior here: this needs Gaussian "
                "pre-activations, and those of an AsymmetricPrior are not; use density_evolution, "
                "population_dynamics, propagate, fixed_point or phase_diagram"
            )
        if not isinstance(prior, NormalPrior | OrthogonalPrior):
            raise TypeError(
                f"prior must be a meanfield.NormalPrior, OrthogonalPrior or AsymmetricPrior, got {prior!r}"
            )
        if isinstance(activation, TabulatedActivation):
            activation = activation.plain
        return cls(activation, prior, dual_of(activation))

    def is_valid(self):
        """Where all parameters are inside their domain."""
        finite = [jnp.all(jnp.isfinite(p)) for p in self.activation.params]
        return self.prior.is_valid() & jnp.all(jnp.array([True, *finite]))

    def guarded(self, valid) -> "DenseLayer":
        """This layer where ``valid``, and elsewhere one on which every solver is safe."""
        prior = jax.tree.map(lambda x, safe: jnp.where(valid, x, safe), self.prior, self.prior.harmless())
        activation, dual = self.activation, self.dual
        if activation.params:
            activation, dual = jax.tree.map(_finite, (activation, dual))
        return DenseLayer(activation, prior, dual)

    def dtype(self):
        """Floating-point type of the layer's parameters."""
        return jnp.result_type(float, *jax.tree.leaves((self.prior, self.activation.params)))

    @property
    def points_at_once(self) -> int | None:
        """How many points to treat together: a quadrature holds all its nodes for each."""
        return 256 if isinstance(self.dual, QuadratureDual) else None

    # --- the maps (THEORY section 3) --------------------------------------------

    def variance_map(self, q):
        """Q(q) = sigma_w^2 [v - kappa m^2] + sigma_b^2."""
        return self.prior.propagate_moments(self.dual.variance(q), self.dual.mean(q) ** 2)

    def covariance_map(self, q1, q2, c):
        """Q_12 at two variances and a correlation."""
        return self.prior.propagate_moments(
            self.dual.covariance(q1, q2, c), self.dual.mean(q1) * self.dual.mean(q2)
        )

    def chord(self, q, theta):
        """(1 - C(c)) / (1 - c) times Q(q) / q, with c = cos theta in [0, 1)."""
        return self.prior.weight_var * self.dual.chord(q, theta)

    def transverse_slope(self, q):
        """chi_perp = sigma_w^2 E phi'^2; the chord's limit at theta = 0."""
        return self.prior.weight_var * self.dual.slope_moment(q)

    def slope_excess(self, q):
        """q chi_perp - Q(q), which is (chi_1 - 1) Q(q), with nothing lost where the two are close."""
        origin, shift = self.activation(jnp.zeros_like(q)), self.dual.mean_shift(q)
        kappa = self.prior.anticorrelation
        means = kappa * shift**2 - (1 - kappa) * origin * (origin + 2 * shift)
        return self.prior.weight_var * (self.dual.slope_excess(q) + means) - self.prior.bias_var

    def correlation_slope(self, q, theta):
        """C'(c) times Q(q) / q = sigma_w^2 E phi'(u1) phi'(u2)."""
        return self.prior.weight_var * self.dual.slope_covariance(q, theta)

    def fixed_angle(self, q, scale, chi_1):
        """theta* in (0, pi/2] with chord(q, theta*) scale = 1, or 0 where chi_1 <= 1."""
        if isinstance(self.dual, LinearPieces):
            chaotic = chi_1 > 1 + 4 * jnp.finfo(chi_1.dtype).eps
            weight = jnp.where(chaotic, self.prior.weight_var * scale, 1.0)
            return jnp.where(chaotic, self.dual.angle_at_chord(1 / weight), 0.0)
        chord, weight = self.dual.chord_at(q), self.prior.weight_var * scale
        return solve_angle(lambda theta: weight * chord(theta), chi_1)

    def opposite_gap(self, q):
        """1 - C(-1), from E (phi(u) - phi(-u))^2: 2 for odd maps, 0 for even ones."""
        reflected = self.prior.propagate_moments(self.dual.reflected_covariance(q), self.dual.mean(q) ** 2)
        return 1 - reflected / self.variance_map(q)

    def is_identity(self):
        """Where C(c) = c in every layer: phi linear, without bias."""
        if not isinstance(self.dual, LinearPieces):
            return jnp.asarray(False)
        straight = jnp.asarray(self.dual.left == self.dual.right)
        return straight & (self.prior.bias_var == 0)

    # --- far from every scale of the activation (THEORY section 4) -------------

    def limit(self, at_zero) -> "LimitMap":
        """The layer seen by signals of vanishing variance where ``at_zero``, else of unbounded."""
        ends = [end(self.activation, self.dtype()) for end in (pieces_at_zero, pieces_at_infinity)]
        pieces = jax.tree.map(lambda zero, far: jnp.where(at_zero, zero, far), *ends)
        return LimitMap.of(self, pieces, (ends[0].degree == 2) | (ends[1].degree == 2))


def _finite(x):
    """x where it is finite; indices of tables stay as they are."""
    inexact = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jnp.where(jnp.isfinite(x), x, 0.5) if inexact else x


@register_dataclass
@dataclass(frozen=True, eq=False)
class Pieces:
    """phi(x) ~ left, right times x (degree 1) or x^2 (degree 2) on either side of 0.

    Degree 3 stands for a smooth x^3, whose limit depends on no parameter.

    ``degree`` is a traced integer, 0 if phi is none of these. ``smooth`` tells whether phi' has the
    limit too (x + sin(x) has not): without it only the growth of the variance is known.
    """

    left: jax.Array
    right: jax.Array
    degree: jax.Array
    smooth: jax.Array


def pieces_at_zero(phi: Activation, dtype) -> Pieces:
    """What phi looks like to vanishing signals."""
    tiny = jnp.asarray([-1e-30, 1e-30], dtype)
    ones = jnp.ones_like(tiny)
    slope_of = lambda x: jax.jvp(phi, (x,), (ones,))[1]  # noqa: E731
    bend_of = lambda x: jax.jvp(slope_of, (x,), (ones,))  # noqa: E731
    (slope, curvature), (_, third) = jax.jvp(bend_of, (tiny,), (ones,))
    flat = jnp.all(jnp.abs(slope) < 1e-20)
    straight = jnp.all(jnp.abs(curvature) < 1e-20)
    cubic = (third[0] == third[1]) & (third[0] != 0)
    degree = jnp.where(~flat, 1, jnp.where(~straight, 2, jnp.where(cubic, 3, 0)))
    left, right = jnp.where(flat, curvature / 2, slope)
    return Pieces(left, right, degree, degree > 0)


def pieces_at_infinity(phi: Activation, dtype) -> Pieces:
    """What phi looks like to unbounded signals."""
    far = jnp.asarray([-1e15, 1e15], dtype)
    value, slope = jax.jvp(phi, (far,), (jnp.ones_like(far),))
    # Of a bounded part only the secant is free; the ratio to x keeps a lower term, which tells x log x.
    secant = (phi(2 * far) - value) / far
    least = 1e-3 * jnp.max(jnp.abs(secant)) + 1e-5
    linear = jnp.all(jnp.abs(value / far - secant) <= least)
    square = slope / (2 * far)
    quadratic = jnp.all(jnp.abs(value / far**2 - square) <= 1e-3 * jnp.max(jnp.abs(square)))
    degree = jnp.where(linear, 1, jnp.where(quadratic, 2, 0))
    left, right = jnp.where(linear, secant, square)
    return Pieces(left, right, degree, ~linear | jnp.all(jnp.abs(slope - secant) <= least))


@register_dataclass
@dataclass(frozen=True, eq=False)
class LimitMap:
    """Growth of the variance and correlation map where phi is homogeneous.

    growth: lim Q(q)/q. chi_perp: transverse growth. chi_1: C'(1) = chi_perp/growth.
    theta: angle of the correlation's fixed point, 0 if that is c = 1.
    chi_c: C'(c*). frozen: the map is the identity, so that c* is undetermined.
    known: False if phi has no homogeneous limit (all of the above are NaN then).
    """

    growth: jax.Array
    chi_perp: jax.Array
    chi_1: jax.Array
    theta: jax.Array
    chi_c: jax.Array
    frozen: jax.Array
    known: jax.Array

    @classmethod
    def of(cls, layer: DenseLayer, pieces: Pieces, may_be_quadratic) -> "LimitMap":
        linear = _linear_limit(layer, pieces)
        # Solving for an angle costs more than all the rest, and few activations need it.
        quadratic = jax.lax.cond(may_be_quadratic, lambda: _quadratic_limit(layer, pieces), lambda: linear)
        cubic = _cubic_limit(pieces)
        pick = lambda a, b, c: jnp.select([pieces.degree == 2, pieces.degree == 3], [b, c], a)  # noqa: E731
        return jax.tree.map(pick, linear, quadratic, cubic)


def _linear_limit(layer, pieces):
    usable = (pieces.degree == 1) & (pieces.left**2 + pieces.right**2 > 0)
    bent = usable & (pieces.left != pieces.right)
    safe = LinearPieces(jnp.where(bent, pieces.left, 0.0), jnp.where(bent, pieces.right, 1.0))
    one = jnp.ones_like(pieces.left)
    kappa, weight_var = layer.prior.anticorrelation, layer.prior.weight_var
    per_weight = jnp.where(bent, safe.variance(one) + (1 - kappa) * safe.mean(one) ** 2, pieces.right**2)
    slope = jnp.where(bent, safe.slope_moment(one), pieces.right**2)
    # chi_1 = slope / per_weight > 1 exactly if kappa > 0.
    theta = jnp.where(bent & (slope > per_weight), safe.angle_at_chord(per_weight), 0.0)
    chi_c = safe.slope_covariance(one, theta) / per_weight
    ratio = slope / jnp.where(per_weight == 0, 1, per_weight)
    smooth = usable & pieces.smooth
    blank = lambda x: jnp.where(smooth, x, jnp.nan)  # noqa: E731
    return LimitMap(
        growth=jnp.where(usable, weight_var * per_weight, jnp.nan),
        chi_perp=blank(weight_var * slope),
        chi_1=blank(ratio),
        theta=theta,
        chi_c=jnp.where(bent & smooth, chi_c, jnp.nan),
        frozen=usable & ~bent,
        known=smooth,
    )


def _quadratic_limit(layer, pieces):
    usable = (pieces.degree == 2) & (pieces.left**2 + pieces.right**2 > 0)
    safe = QuadraticPieces(jnp.where(usable, pieces.left, 0.0), jnp.where(usable, pieces.right, 1.0))
    one = jnp.ones_like(pieces.left)
    per_weight = safe.variance(one) + (1 - layer.prior.anticorrelation) * safe.mean(one) ** 2
    slope = safe.slope_moment(one)
    theta = solve_angle(lambda t: safe.chord(one, t) / per_weight, slope / per_weight)
    chi_c = safe.slope_covariance(one, jnp.where(theta > 0, theta, 1.0)) / per_weight
    return LimitMap(
        growth=jnp.full_like(one, jnp.nan),  # 0 or infinite: superlinear
        chi_perp=jnp.full_like(one, jnp.nan),
        chi_1=jnp.where(usable, slope / per_weight, jnp.nan),
        theta=theta,
        chi_c=jnp.where(theta > 0, chi_c, slope / per_weight),
        frozen=jnp.zeros(one.shape, bool),
        known=usable,
    )


def _cubic_limit(pieces):
    """phi ~ x^3: C(c) = (9 c + 6 c^3) / 15, whatever the prior."""
    like = jnp.zeros_like(pieces.left)
    return LimitMap(
        growth=like + jnp.nan,
        chi_perp=like + jnp.nan,
        chi_1=like + 27 / 15,
        theta=like + np.pi / 2,
        chi_c=like + 9 / 15,
        frozen=like > 0,
        known=like == 0,
    )


def solve_angle(chord, chi_1):
    """theta in (0, pi/2] with chord(theta) = 1, or 0 if chi_1 = chord(0) <= 1.

    ``chord`` falls monotonically (its map is convex in c, THEORY section 4), and to
    leading order as chi_1 - B theta^p with p = 2 for smooth and 1 for kinked
    activations. Newton's method is applied to that law, whose exponent it finds by
    itself: it converges as fast near the edge of chaos as far from it. Differentiable
    by the implicit function theorem.
    """
    chi_1 = jnp.asarray(chi_1)
    eps = jnp.finfo(chi_1.dtype).eps
    chaotic = chi_1 > 1 + 16 * eps
    start = jnp.full_like(chi_1, np.pi / 2)

    def gap(theta):
        return jnp.where(chaotic, chord(theta) - 1, 1.0 - theta)

    def step(state):
        theta, low, high, _, count = state
        value, slope = jax.jvp(gap, (theta,), (jnp.ones_like(theta),))
        low, high = jnp.where(value > 0, theta, low), jnp.where(value > 0, high, theta)
        top = jnp.where(chaotic, chi_1 - 1, 1.0)
        share = jnp.maximum(1 - value / top, eps)
        power = jnp.clip(-theta * slope / (share * top), 1e-3, 4.0)
        # A jump makes chi_1 infinite: plain Newton then. (The logarithm keeps the digits of a small step
        # where the power is small.)
        log_share = jnp.log1p(-jnp.minimum(value / top, 1 - eps))
        law = jnp.maximum(theta * jnp.exp(-log_share / power), theta / 8)
        new = jnp.where(jnp.isfinite(law), law, theta - value / slope)
        inside = (new >= low) & (new <= high)
        new = jnp.where(inside, new, (low + high) / 2)
        # At the rounding error of the chord further steps only jitter, and its sign means nothing.
        new = jnp.where(jnp.abs(value) <= 4 * eps, theta, new)
        change = jnp.abs(new - theta)
        return new, low, high, change, count + 1

    def unfinished(state):
        theta, _, _, change, count = state
        return jnp.any(change > 4 * eps * theta) & (count < 40)

    def solve(_, start):
        # The first step takes theta from pi/2, where the value may be 0 already.
        state = (start, jnp.zeros_like(start), start, jnp.full_like(start, jnp.inf), 0)
        return jax.lax.while_loop(unfinished, step, state)[0]

    theta = jax.lax.custom_root(gap, start, solve, lambda g, y: y / _nonzero(g(jnp.ones_like(y))))
    return jnp.where(chaotic, theta, 0.0)


def _nonzero(x):
    return jnp.where(x == 0, 1.0, x)
