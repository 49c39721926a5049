"""The Gaussian moments of an activation: what every source of them must offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


class Dual(ABC):
    r"""Moments of ``phi`` under a Gaussian, at one variance or one pair.

    ``u`` is a centred Gaussian of variance ``q``, ``(u1, u2)`` a centred pair with
    variances ``q1, q2`` and correlation ``c = cos(theta)``. All arguments are
    scalars (``vmap`` for more) and all results are pure functions of them.

    The second moments are centred and the pair at equal variances is given by its
    *chord*: in these forms nothing cancels, whatever the mean of ``phi`` and
    however close ``c`` comes to 1 (THEORY section 2).
    """

    closed_angle: ClassVar[bool] = False
    """Whether ``angle_at_chord`` inverts the chord in closed form."""
    is_tabulable: ClassVar[bool] = False
    """Whether a table serves many points faster."""
    is_table: ClassVar[bool] = False
    is_closed_form: ClassVar[bool] = True
    """Whether the moments are elementary functions: compiled at once, and right to rounding."""
    is_surveyable: ClassVar[bool] = False
    """Whether ``AdaptiveDual`` serves a few points of its activation, and is as accurate as can be."""
    asymptotes: Any = None
    """What phi looks like to vanishing and to unbounded signals, of a table that knows."""
    may_be_quadratic: bool = True
    """Whether it may look like x^2 to them."""
    points_at_once: ClassVar[int | None] = None
    """How many points to treat together: a quadrature holds all its nodes for each."""

    @abstractmethod
    def mean(self, q: Scalar) -> Scalar:
        """m(q) = E phi(u)."""

    def mean_shift(self, q: Scalar) -> Scalar:
        """m(q) - phi(0), accurate at small q too where ``phi(0)`` is not 0."""
        return self.mean(q)

    @abstractmethod
    def variance(self, q: Scalar) -> Scalar:
        """E phi(u)^2 - m(q)^2."""

    def line_rates(self, q: Float[Array, " n"]) -> tuple[tuple, tuple]:
        """((variance, m^2), their derivatives over q) at many variances."""

        def moments(q):
            return self.variance(q), self.mean(q) ** 2

        return jax.vmap(lambda q: jax.jvp(moments, (q,), (jnp.ones_like(q),)))(q)

    @abstractmethod
    def covariance(self, q1: Scalar, q2: Scalar, c: Scalar) -> Scalar:
        """E phi(u1) phi(u2) - m(q1) m(q2)."""

    @abstractmethod
    def separation(self, q: Scalar, one_minus_c: Scalar) -> Scalar:
        """E (phi(u1) - phi(u2))^2 / 2 at equal variances: what the pair's distance becomes.

        Proportional to ``one_minus_c`` near 0, and accurate relative to it. This and ``covariance``
        have their first and second derivatives at c = 1 and -1 too: infinite ones are infinite.
        """

    @abstractmethod
    def slope_moment(self, q: Scalar) -> Scalar:
        """E phi'(u)^2; infinite where phi jumps."""

    def slope_excess(self, q: Scalar) -> Scalar:
        """q E phi'(u)^2 - E (phi(u) - phi(0))^2, which is 0 for the ReLU family.

        What decides where chi_1 = 1. Sources in which the two terms nearly cancel
        override it with a form in which they do not.
        """
        return q * self.slope_moment(q) - self.variance(q) - self.mean_shift(q) ** 2

    @abstractmethod
    def chord(self, q: Scalar, theta: Scalar) -> Scalar:
        """E (phi(u1) - phi(u2))^2 / (4 q sin^2(theta/2)), for 0 < theta <= pi/2.

        The slope of the chord from ``c`` to 1 of the correlation map, up to the
        weight variance. It falls from ``slope_moment(q)`` at ``theta = 0``.
        """

    def chord_at(self, q: Scalar) -> Callable[[Scalar], Scalar]:
        """The chord as a function of theta alone, with what depends on q done once."""
        return lambda theta: self.chord(q, theta)

    def slope_covariance(self, q: Scalar, theta: Scalar) -> Scalar:
        """E phi'(u1) phi'(u2) at equal variances, for 0 < theta <= pi/2.

        From the chord A(theta): A + tan(theta/2) A'(theta), which holds for
        activations with jumps too.
        """
        chord, slope = jax.jvp(lambda t: self.chord(q, t), (theta,), (jnp.ones_like(theta),))
        return chord + jnp.tan(theta / 2) * slope

    def reflected_covariance(self, q: Scalar) -> Scalar:
        """E phi(u) phi(-u) - m(q)^2: the covariance at c = -1."""
        return self.covariance(q, q, -jnp.ones_like(q))

    def exact(self) -> "Dual":
        """The source of moments that a table was made from; else the dual itself."""
        return self

    @property
    def pieces(self) -> tuple[Any, Any] | None:
        """(left, right) slopes if phi is straight on either side of 0; else None."""
        return None

    def angle_at_chord(self, chord: Scalar) -> Scalar:
        """theta in [0, pi/2] at which the chord takes a value, where ``closed_angle``."""
        raise NotImplementedError

    def near(self, q: Scalar) -> Any:
        """Mean and variance at variances near q, of a table."""
        raise NotImplementedError

    def section(self, q: Scalar) -> Any:
        """The chord at variance q as a function of the angle, of a table (``tables.lookup.Section``)."""
        raise NotImplementedError

    def angle_section(self, q: Scalar, chord: Scalar) -> Any:
        """The chord at variance q about the angle at which it takes a value, of a table."""
        raise NotImplementedError

    def is_straight(self) -> Array:
        """Whether phi is linear."""
        return jnp.asarray(False)

    def error(self, q: Scalar) -> Scalar:
        """Estimated relative error of the moments at ``q``; 0 for closed forms."""
        return jnp.zeros_like(q)

    def line_error(self, q: Scalar) -> Scalar:
        """Estimated relative error of the mean and variance alone."""
        return self.error(q)
