r"""What every layer offers a solver: a map on the statistics of a pair of signals."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meanfield.dual.choice import warn_where_unresolved
from meanfield.layers.limits import LimitMap
from meanfield.layers.pairs import over_pairs, slopes_over_pairs
from meanfield.layers.parts import Part
from meanfield.layers.windows import halves
from meanfield.numerics.angles import solve_angle, solve_angle_apart

Scalar = Float[Array, ""]


class Layer(Part, ABC):
    r"""A map on the statistics of a pair of signals, from a layer's input to the next one's.

    Two signals of equal variance q, an angle theta apart (c = cos theta), differ by
    delta = E (x_1 - x_2)^2 / 2 = 2 q sin^2(theta/2). A layer takes them to

        q' = Q(q),    delta' = pair_gain(q, theta) delta,

    with a gain that is finite at theta = 0: nothing cancels however near c comes to 1. Where equal signals
    part (not ``keeps_one``) it is infinite there, and ``gap``, ``tangent`` and ``slope_at_one`` say what
    happens.
    All arguments and results are scalars (``vmap`` for more). A layer is a pytree; its
    parameters are the leaves.

    Three methods make a layer: ``variance_map``, ``pair_gain`` and ``covariance_map``. The others follow
    from them, and are there to be overridden by what a kind of layer knows better.
    """

    mixes: ClassVar[Any] = True
    """Whether what comes out is independent of what went in, as behind fresh weights."""
    stands_alone: ClassVar[bool] = False
    """Whether its signals are not Gaussian, so that no other layer can stand before or behind."""
    keeps_angle: ClassVar[Any] = False
    """Whether C(c) = c for every c, whatever the parameters."""

    # --- what makes a layer -------------------------------------------------------------

    @abstractmethod
    def variance_map(self, q: Scalar) -> Scalar:
        """Q(q), the variance one layer on; q > 0."""

    @abstractmethod
    def pair_gain(self, q: Scalar, theta: Scalar) -> Scalar:
        """delta'/delta of two signals of variance q at an angle 0 <= theta <= pi/2."""

    @abstractmethod
    def covariance_map(self, q1: Scalar, q2: Scalar, c: Scalar) -> Scalar:
        """Covariance one layer on of two signals of variances q1, q2 > 0 and correlation -1 <= c <= 1."""

    # --- what follows ---------------------------------------------------------------------

    def pair_gain_at(self, q: Scalar) -> Callable[[Scalar], Scalar]:
        """The gain as a function of theta > 0 alone, with what depends on q done once."""
        return lambda theta: self.pair_gain(q, theta)

    def tangent(self, q: Scalar) -> Scalar:
        """chi_perp: the gain at theta = 0, growth of the squared norm of a transverse perturbation."""
        return self.pair_gain(q, jnp.zeros_like(q))

    def gap(self, q: Scalar) -> Scalar:
        """delta' of equal signals of variance q, which noise of their own parts; else 0."""
        return jnp.zeros_like(q)

    def slope_at_one(self, q: Scalar) -> Scalar:
        """d delta'/d delta at theta = 0: C'(1) times Q(q)/q; chi_perp where equal signals stay equal."""
        return self.tangent(q)

    def slope(self, q: Scalar, theta: Scalar) -> Scalar:
        """d delta'/d delta at theta > 0: C'(c) times Q(q)/q."""
        gain, rate = jax.jvp(self.pair_gain_at(q), (theta,), (jnp.ones_like(theta),))
        return gain + jnp.tan(theta / 2) * rate

    def separation_map(self, q: Scalar, one_minus_c: Scalar) -> Scalar:
        """delta' of two signals of variance q > 0 at correlation -1 <= c <= 1."""
        obtuse, together = one_minus_c > 1, one_minus_c == 0
        theta = 2 * jnp.arcsin(jnp.sqrt(jnp.where(obtuse | together, 0.5, one_minus_c) / 2))
        gain = jnp.where(together, self.tangent(q), self.pair_gain(q, theta))
        c = jnp.where(obtuse, 1 - one_minus_c, -0.5)
        apart = self.variance_map(q) - self.covariance_map(q, q, c)
        return jnp.where(obtuse, apart, gain * q * one_minus_c)

    def variance_from_silence(self) -> Scalar:
        """Q(0)."""
        return self.variance_map(jnp.zeros((), self.dtype()))

    def position_map(self, covariance: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""Covariances between all positions of images one layer on, from those of this one.

        covariance: of pre-activations of one signal, shape (\*image, \*image), symmetric, with positive
            variances; of several signals, shape (signals, \*image, signals, \*image).

        Differentiable. Raises ValueError for other shapes, a window larger than the image, and kinds of
        layers that have no such map. A layer that does not mix positions maps every pair by itself.
        """
        half, flat = self._places(covariance)
        found = over_pairs(self.covariance_map, flat, self.points_at_once)
        own = jax.vmap(self.variance_map)(jnp.diagonal(flat))
        return jnp.where(jnp.eye(len(own), dtype=bool), own, found).reshape(half + half)

    def position_slopes(self, covariance: Float[Array, "..."]) -> Callable:
        """The linear map from covariances of perturbations to those one layer on, at these of the signals.

        Its transpose takes covariances of gradients back. Arguments and errors as for ``position_map``.
        """
        half, flat = self._places(covariance)
        slopes = slopes_over_pairs(self.covariance_map, self.tangent, flat, self.points_at_once)
        slopes = slopes.reshape(half + half)
        return lambda tangents: slopes * tangents

    def _places(self, covariance, axes: int | None = None):
        """The shape of one half of covariances, and all of them as a matrix; axes: of an image, None any."""
        if self.no_positions:
            raise ValueError(self.no_positions)
        covariance = jnp.asarray(covariance)
        half, size = halves(covariance, axes)
        return half, covariance.reshape(size, size)

    def mode_rates(self, q: Scalar, theta: Scalar | None, image_size: tuple[int, ...]) -> tuple[Any, Any]:
        """(dQ/dq, d delta'/d delta) of every Fourier mode of an image; theta None: at c = 1.

        A number where all modes are alike, which they are where positions do not mix.
        """
        radial = jax.jvp(self.variance_map, (q,), (jnp.ones_like(q),))[1]
        return radial, self.slope_at_one(q) if theta is None else self.slope(q, theta)

    def opposite_gap(self, q: Scalar) -> Scalar:
        """1 - C(-1): 2 where opposite signals stay opposite (odd maps), 0 where they become equal."""
        return 1 - self.covariance_map(q, q, -jnp.ones_like(q)) / self.variance_map(q)

    def fixed_angle(self, q: Scalar, scale: Scalar, chi_1: Scalar) -> Scalar:
        """theta* in (0, pi/2] with pair_gain(q, theta*) scale = 1, or 0 if c = 1 is fixed and attracts."""
        gain = self.pair_gain_at(q)
        scaled = lambda theta: scale * gain(theta)
        if self.keeps_one:
            return solve_angle(scaled, chi_1)
        return solve_angle_apart(scaled, chi_1, self.gap(q))

    # --- what is special ------------------------------------------------------------------

    def is_identity(self) -> Array:
        """Whether C(c) = c for every c."""
        return jnp.asarray(self.keeps_angle)

    def asymptote(self, at_zero) -> "tuple[Layer, Array, Array] | None":
        """(layer, known, smooth) seen by signals of vanishing variance where ``at_zero``, else of unbounded.

        That layer is homogeneous: Q(q) = growth q, and a gain that does not depend on q. known: whether
        there is one; smooth: whether derivatives have the limit too. None where a kind of layer has none.
        """
        return None

    def is_negligible(self) -> Array:
        """Whether a homogeneous layer leaves nothing, as bounded activations do of unbounded signals."""
        one = jnp.ones((), self.dtype())
        return self.variance_map(one) <= jnp.sqrt(jnp.finfo(one.dtype).tiny)

    def limit(self, at_zero) -> LimitMap:
        """Growth and correlation map at vanishing variance where ``at_zero``, else at unbounded."""
        ends = self.asymptote(at_zero)
        if ends is None:
            return LimitMap.unknown(jnp.zeros((), self.dtype()))
        return LimitMap.of_homogeneous(*ends)

    def saturated(self) -> "tuple[Layer, Array] | None":
        """(layer, known) that unbounded signals see where it bounds them.

        Its Q(q), and q times its gain, do not depend on q. None where a kind of layer never bounds signals.
        """
        return None

    def drift(self) -> "tuple[Layer, Array] | None":
        """(layer, known): what is added to unbounded signals, where that is all that happens to them."""
        return None

    def within_batch(self) -> "Layer":
        """This layer behind a ``BatchNorm``. Raises ValueError where a kind of layer has no such map."""
        raise ValueError(
            f"{type(self).__name__} cannot stand behind BatchNorm: put an activation and its weights there, "
            "as in Chain(BatchNorm(), 'relu', prior)"
        )

    # --- growth at many variances, for a solver that looks for all fixed points ------------

    def growth_rows(self, q: Float[Array, " n"]) -> Any:
        """What the growth at each of many variances is made of: arrays whose first axis counts them.

        As much as possible of what no parameter enters, which is then shared by the priors of a diagram.
        """
        growth = lambda log_q: self.variance_map(jnp.exp(log_q)) / jnp.exp(log_q)
        return jax.vmap(lambda x: jax.jvp(growth, (x,), (jnp.ones_like(x),)))(jnp.log(q))

    def growth_from(self, row) -> tuple[Scalar, Scalar]:
        """Q(q)/q and its slope in log q, from one row of ``growth_rows`` (or from all of them)."""
        return row

    @property
    def is_sum_of_moments(self) -> bool:
        """Whether Q is a sum of Gaussian moments of one phi at the input: it then has a ``growth_size``."""
        return False

    def growth_size(self, rows) -> tuple[Array, Array]:
        """Moduli of the terms of Q(q)/q, from ``growth_rows``: those with moments, and the others.

        Where ``is_sum_of_moments``.
        """
        raise NotImplementedError

    def growth_uncertainty(self, rows) -> Array:
        """By how much Q(q)/q may be wrong where ``growth_rows`` may, by these. If ``is_sum_of_moments``."""
        raise NotImplementedError

    def least_ratio(self, rows) -> Array:
        """A bound r(q), from ``growth_rows``: Q(s)/s is at least r(q) (q/s)^(3/2) for every s above q.

        A Gaussian's density falls by no more than the root of q/s anywhere. Where ``is_sum_of_moments``.
        """
        raise NotImplementedError

    def moment_errors(self, q) -> Array:
        """Relative errors of Var phi, and of E phi beside its root; shape (2, n). For adaptive moments."""
        raise NotImplementedError

    def slope_error(self, q) -> Scalar:
        """Relative error of E phi'^2, likewise."""
        raise NotImplementedError

    # --- parameters -----------------------------------------------------------------------

    def error(self, q: Scalar) -> Scalar:
        """Estimated relative error of the maps at variance q."""
        return jnp.zeros_like(q)

    def growth_error(self, q: Scalar) -> Scalar:
        """Estimated relative error of Q(q) alone."""
        return self.error(q)

    @property
    def traced(self) -> bool:
        """Whether the layer closes over a value that is being traced."""
        return False

    def moments(self) -> list[tuple[Any, Any]]:
        """(activation, its moments) wherever the layer has an activation, in the order of the data."""
        return []

    def look_at(self, q) -> None:
        """Warn where the moments of a function of the user's are not resolved at input variances q."""
        for activation, dual in self.moments():
            if not activation.traced and not isinstance(q, jax.core.Tracer):
                warn_where_unresolved(dual, q)

    def with_moments(self, duals: Iterator) -> Self:
        """This layer with other moments (tables), taken from ``duals`` in the same order.

        Beside a table that stands alone, any activation will do.
        """
        return self

    def variances_met(self, q: Scalar) -> list[Scalar]:
        """The variance at each of these activations if q is that of the layer's input."""
        return []

    @property
    def has_section(self) -> bool:
        """Whether the layer has a ``section`` where its moments are tables."""
        return False

    @property
    def is_tabulated(self) -> bool:
        """Whether all moments are looked up in tables."""
        duals = [dual for _, dual in self.moments()]
        return bool(duals) and all(dual.is_table for dual in duals)

    def near(self, q: Scalar) -> Any:
        """This layer's ``variance_map`` for variances near q, with what is looked up looked up once."""
        return self

    def section(self, q: Scalar, gain: Scalar) -> Any:
        """The gain at variance q about the angle where it takes a value (``dual.tabulated.AngleSection``)."""
        raise NotImplementedError

    def exact(self) -> Self:
        """This layer with the sources of its tables in place of them."""
        return self

    @property
    def points_at_once(self) -> int | None:
        """How many points to treat together, where memory bounds that."""
        return None


def fewest(*limits: int | None) -> int | None:
    """The smallest limit, if there is any."""
    return min((n for n in limits if n is not None), default=None)
