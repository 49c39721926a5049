r"""Gaussian moments of any activation by panel quadrature.

One rule serves every activation, variance and correlation. The line is cut into
cells, one around each *landmark* (a kink of phi, or the origin), and every cell is
integrated outwards from its landmark by Gauss-Legendre nodes in
``w = asinh(distance / scale)``. Near the landmark the nodes lie on the activation's
own scale, far from it they spread geometrically to the Gaussian's tail: the same
few nodes serve variances from 1e-30 to 1e30, and no panel contains a kink.

Where phi has kinks the nodes move with them, as smooth functions of q and theta; a smooth phi
is derived at fixed nodes. So derivatives of the rule, of every order and through kinks and
jumps, are as accurate as the rule itself.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.activations.activation import Activation
from meanfield.dual.base import Dual, Scalar
from meanfield.dual.slopes import meeting_of_jumps, with_slope
from meanfield.numerics.compiling import compiled, traced_once
from meanfield.numerics.pytrees import register_dataclass

Nodes = Float[Array, " n"]


@functools.cache
def gauss_legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(n)
    return (1 + x) / 2, w / 2


def _tail(dtype) -> float:
    """Standard deviations beyond which the Gaussian is below the rounding error."""
    return 9.0 if jnp.finfo(dtype).bits >= 64 else 6.5


def graded_nodes(
    landmarks: Float[Array, " k"], scale: Scalar, low: float, high: float, counts: tuple[int, int]
) -> tuple[Nodes, Nodes]:
    """Nodes and Gaussian weights on (low, high), graded towards the landmarks.

    landmarks: shape (k,), in any order. counts: nodes within one standard deviation
    of a landmark, and beyond, on each side. Returns two arrays of shape
    (2 k sum(counts),); the weights include the standard normal density.
    """
    landmarks = jnp.clip(landmarks, low, high)
    before: Any = low  # ends of the cells
    after: Any = high
    if landmarks.size == 2:  # the common case; sorting and joining compile slowly
        first, middle = np.array([True, False]), jnp.sum(landmarks) / 2
        # Not by min and max, whose derivative asks whether numbers are equal that XLA may compute twice.
        landmarks = jnp.where(landmarks[0] <= landmarks[1], landmarks, landmarks[::-1])
        before, after = jnp.where(first, low, middle), jnp.where(first, middle, high)
    elif landmarks.size > 2:
        landmarks = jnp.sort(landmarks)
        middle = (landmarks[1:] + landmarks[:-1]) / 2
        before = jnp.pad(middle, (1, 0), constant_values=low)
        after = jnp.pad(middle, (0, 1), constant_values=high)
    sides = np.repeat([-1, 1], landmarks.size)[:, None]
    start = jnp.tile(landmarks, 2)[:, None]
    on_both_sides = lambda x: jnp.tile(x, 2)[:, None] if landmarks.size > 1 else x
    size = jnp.where(sides < 0, start - on_both_sides(before), on_both_sides(after) - start)
    (x, w), (x_far, w_far) = ((jnp.asarray(a, landmarks.dtype) for a in gauss_legendre(n)) for n in counts)
    near = jnp.minimum(size, 1.0)
    reach = jnp.arcsinh(near / scale)
    growth = jnp.exp(reach * x)
    offset = jnp.concatenate([scale * (growth - 1 / growth) / 2, near + (size - near) * x_far], axis=1)
    weight = jnp.concatenate([reach * w * scale * (growth + 1 / growth) / 2, (size - near) * w_far], axis=1)
    t = start + sides * offset
    weight = weight * jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    return t.ravel(), weight.ravel()


def _counts(dtype, factor: float) -> tuple[int, int]:
    near, far = (40, 28) if jnp.finfo(dtype).bits >= 64 else (20, 14)
    return round(near * factor), round(far * factor)


def nodes_at(q: Scalar, landmarks, scale: float, refinement: float = 1, fixed=False) -> tuple[Nodes, Nodes]:
    """Nodes u and weights of a centred Gaussian of variance q, graded towards the landmarks.

    fixed: derivatives are those at fixed u / sqrt(q).
    """
    root = jnp.sqrt(q)
    tail = _tail(root.dtype)
    laid = graded_nodes(
        jnp.divide(np.asarray(landmarks, root.dtype), root),
        jnp.minimum(1.0, scale / root),
        -tail,
        tail,
        _counts(root.dtype, refinement),
    )
    t, w = jax.lax.stop_gradient(laid) if fixed else laid
    return root * t, w


@compiled(0, static_argnums=(1, 2, 3))
def _nodes_at(q, landmarks, scale, refinement):
    return jax.vmap(lambda q: nodes_at(q, landmarks, scale, refinement))(q)


def fitted_slope_excess(q: Scalar, u: Nodes, w: Nodes, value: Nodes, slope: Nodes) -> Scalar:
    """``Dual.slope_excess`` from phi - phi(0) and phi' at the nodes of a rule that is split at 0.

    On either side of 0 a straight line through 0 adds nothing to the difference, by partial
    integration: once the one that fits best is taken out, little cancels.
    """
    right = u > 0
    left_fit, right_fit = (2 * jnp.sum(jnp.where(side, w * slope, 0.0)) for side in (~right, right))
    line = jax.lax.stop_gradient(jnp.where(right, right_fit, left_fit))
    return q * jnp.sum(w * (slope - line) ** 2) - jnp.sum(w * (value - line * u) ** 2)


@register_dataclass
@dataclass(frozen=True, eq=False)
class QuadratureDual(Dual):
    """Gaussian moments of ``activation`` by quadrature.

    ``refinement`` multiplies the number of nodes.
    """

    activation: Activation
    refinement: float = dataclasses.field(default=1, metadata={"static": True})

    is_tabulable = True
    is_closed_form = False
    is_surveyable = True
    points_at_once = 256

    def _counts(self, dtype, more: float = 1) -> tuple[int, int]:
        return _counts(dtype, self.refinement * more)

    # --- one variable ---------------------------------------------------------

    def _rule(self, q: Scalar, more: float = 1, landmarks=None) -> tuple[Nodes, Nodes]:
        landmarks = landmarks or self.activation.landmarks
        return nodes_at(q, landmarks, self.activation.scale, self.refinement * more, self._is_smooth)

    @property
    def _is_smooth(self) -> bool:
        """Whether no kink of phi asks the nodes to move when q does."""
        return not (self.activation.kinks or self.activation.traced)

    def _nodes(self, landmarks, scale, low, high) -> tuple[Nodes, Nodes]:
        laid = graded_nodes(landmarks, scale, low, high, self._counts(landmarks.dtype))
        return jax.lax.stop_gradient(laid) if self._is_smooth else laid

    def nodes(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights of the rule at variances of shape (n,), for a look from outside."""
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            laid = _nodes_at(np.asarray(q), self.activation.landmarks, self.activation.scale, self.refinement)
        return np.asarray(laid[0]), np.asarray(laid[1])

    @property
    def traced(self):
        return self.activation.traced

    @traced_once
    def _moments(self, q: Scalar) -> tuple[Scalar, Scalar]:
        """Mean and variance together, the mean from phi(0) on: nothing cancels when q is small."""
        return self._moments_by(q, 1)

    def _moments_by(self, q, more: float):
        u, w = self._rule(q, more)
        value = self.activation(u) - self.activation(jnp.zeros_like(q))
        shift = jnp.sum(w * value)
        return shift, jnp.sum(w * (value - shift) ** 2)

    def mean_shift(self, q):
        return self._moments(q)[0]

    def mean(self, q):
        return self.activation(jnp.zeros_like(q)) + self.mean_shift(q)

    def variance(self, q):
        return self._moments(q)[1]

    @traced_once
    def slope_moment(self, q):
        u, w = self._rule(q)
        _, slope = jax.jvp(self.activation, (u,), (jnp.ones_like(u),))
        smooth = jnp.sum(w * slope**2)
        return jnp.where(self.activation.has_jump(), jnp.inf, smooth)

    @traced_once
    def slope_excess(self, q):
        u, w = self._rule(q, landmarks=sorted({*self.activation.landmarks, 0.0}))
        value, slope = jax.jvp(self.activation, (u,), (jnp.ones_like(u),))
        return fitted_slope_excess(q, u, w, value - self.activation(jnp.zeros_like(q)), slope)

    @traced_once
    def reflected_covariance(self, q):
        # The kinks of phi(-u) are landmarks too.
        kinks = self.activation.landmarks
        u, w = self._rule(q, landmarks=sorted({*kinks, *(-k for k in kinks)}))
        mean = self.mean(q)
        return jnp.sum(w * (self.activation(u) - mean) * (self.activation(-u) - mean))

    @traced_once
    def error(self, q):
        variance = self.variance(q)
        finer = self._moments_by(q, 1.4)[1]
        return jnp.abs(finer - variance) / jnp.maximum(jnp.abs(finer), jnp.finfo(q.dtype).tiny)

    # --- two variables --------------------------------------------------------

    @traced_once
    def chord(self, q, theta):
        # u_{1,2} = sqrt(q) (a t +- b o), even in o once summed over t.
        a, b = jnp.cos(theta / 2), jnp.sin(theta / 2)
        root = jnp.sqrt(q)
        tail = _tail(root.dtype)
        scale = self.activation.scale / root
        kinks = np.asarray(self.activation.landmarks)
        gaps = np.unique(np.abs(kinks[:, None] - kinks[None, :]))  # where two kink lines cross
        o, w_o = self._nodes(
            jnp.asarray(gaps, root.dtype) / (2 * b * root), jnp.minimum(1.0, scale / b), 0.0, tail
        )
        empty = sum(self._counts(root.dtype))  # the cell to the left of o = 0
        o, w_o = o[empty:], w_o[empty:]

        def inner(o):
            lines = jnp.asarray(kinks, root.dtype) / root
            landmarks = (lines + np.array([[-1], [1]]) * b * o).ravel() / a
            t, w = self._nodes(landmarks, jnp.minimum(1.0, scale / a), -tail, tail)
            difference = self.activation(root * (a * t + b * o)) - self.activation(root * (a * t - b * o))
            return jnp.sum(w * difference**2)

        return 2 * jnp.sum(w_o * jax.vmap(inner)(o)) / (4 * q * b**2)

    def covariance(self, q1, q2, c):
        return _covariance((self._without_closure(q1), q1, q2), 1 - c)

    def separation(self, q, one_minus_c):
        return _separation((self._without_closure(q), q), one_minus_c)

    def _without_closure(self, like):
        """The same, but traced values that phi closes over are parameters: derivatives go through those."""
        if not self.activation.traced:
            return self
        return dataclasses.replace(self, activation=self.activation.opened(like))

    def pair_mean(self, fn, q1, q2, x):
        """E fn(u1, u2) at correlation 1 - x, for an fn whose kinks lie where those of phi do."""
        # Rotate by the half-angle; the inner variable takes the larger part, with
        # u2 -> -u2 where the correlation is negative.
        gap = jnp.where(x > 1, 2 - x, x)  # 1 - |c|
        big = jnp.sqrt((2 - gap) / 2)
        small = jnp.sqrt(jnp.maximum(gap, jnp.finfo(big.dtype).eps ** 2) / 2)
        sign = jnp.where(x > 1, -1.0, 1.0).astype(big.dtype)
        root1, root2 = jnp.sqrt(q1), jnp.sqrt(q2)
        tail = _tail(big.dtype)
        scale = self.activation.scale / jnp.maximum(root1, root2)
        kinks = jnp.asarray(self.activation.landmarks, big.dtype)
        lines1, lines2 = kinks / root1, sign * kinks / root2
        crossings = ((lines1[:, None] - lines2[None, :]) / (2 * small)).ravel()
        o, w_o = self._nodes(crossings, jnp.minimum(1.0, scale / small), -tail, tail)

        def inner(o):
            landmarks = jnp.concatenate([lines1 - small * o, lines2 + small * o]) / big
            t, w = self._nodes(landmarks, jnp.minimum(1.0, scale / big), -tail, tail)
            return jnp.sum(w * fn(root1 * (big * t + small * o), root2 * sign * (big * t - small * o)))

        return jnp.sum(w_o * jax.vmap(inner)(o))

    def mean_beside(self, fn, q, edges, x):
        """E fn(u2) where u1 / sqrt(q1) is at each of ``edges``, at correlation 1 - x; q: variance of u2."""
        root = jnp.sqrt(q)
        # Never 0, where derivatives over x would be lost.
        spread = jnp.sqrt(x * (2 - x) + jnp.finfo(root.dtype).eps ** (2 / 3))
        kinks = jnp.asarray(self.activation.landmarks, root.dtype) / root
        scale = jnp.minimum(1.0, self.activation.scale / (root * spread))
        tail = _tail(root.dtype)

        def at(edge):
            centre = (1 - x) * edge
            t, w = self._nodes((kinks - centre) / spread, scale, -tail, tail)
            return jnp.sum(w * fn(root * (centre + spread * t)))

        return jax.vmap(at)(edges)


def _covariance_at(z, x):
    dual, q1, q2 = z
    mean1, mean2 = dual.mean(q1), dual.mean(q2)
    phi = dual.activation
    return dual.pair_mean(lambda u1, u2: (phi(u1) - mean1) * (phi(u2) - mean2), q1, q2, x)


def _separation_at(z, x):
    dual, q = z
    phi, slope = dual.activation, _derivative(dual.activation, 1)
    # Differences of neighbours are lost in rounding. There the mean over x of E phi'(u1) phi'(u2), at the
    # point where one that changes as sqrt(x) takes it, does for all.
    near = (x * jnp.maximum(1, q) < jnp.finfo(x.dtype).eps ** (2 / 3)) & ~phi.has_jump()

    def integrand(u1, u2):
        return jnp.where(near, q * x * slope(u1) * slope(u2), (phi(u1) - phi(u2)) ** 2 / 2)

    return dual.pair_mean(integrand, q, q, jnp.where(near, 4 * x / 9, x))


def _derivative(fn, order):
    for _ in range(order):
        fn = functools.partial(_slope_of, fn)
    return fn


def _slope_of(fn, u):
    return jax.jvp(fn, (u,), (jnp.ones_like(u),))[1]


@functools.cache
def _product(order):
    """d^n/dx^n of the covariance but for what jumps add: (-1)^n (q1 q2)^(n/2) E phi^(n)(u1) phi^(n)(u2)."""

    def value(z, x):
        dual, q1, q2 = z
        fn = _derivative(dual.activation, order)
        mean = dual.pair_mean(lambda u1, u2: fn(u1) * fn(u2), q1, q2, x)
        return (-jnp.sqrt(q1 * q2)) ** order * mean

    return with_slope(value, lambda z, x: _slope_of_product(order, z, x))


def _slope_of_product(order, z, x):
    """d/dx of it: the next one, and what jumps of phi^(n) add (as distributions have derivatives)."""
    smooth = _product(order + 1)(z, x)
    dual, q1, q2 = z
    if not dual.activation.kinks:
        return smooth
    kinks = jnp.asarray(dual.activation.kinks, smooth.dtype)
    a, b = kinks / jnp.sqrt(q1), kinks / jnp.sqrt(q2)
    jumps = _jumps(dual.activation, _derivative(dual.activation, order), kinks)
    beside = functools.partial(dual.mean_beside, _derivative(dual.activation, order + 1))
    one = jnp.sqrt(q2) * jnp.sum(jumps * _bell(a) * beside(q2, a, x))
    other = jnp.sqrt(q1) * jnp.sum(jumps * _bell(b) * beside(q1, b, x))
    meeting = meeting_of_jumps(a, b, jumps[:, None] * jumps, x)
    return smooth + (-1) ** (order + 1) * jnp.sqrt(q1 * q2) ** order * (one + other + meeting)


def _bell(t):
    return jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _jumps(activation, fn, at):
    """fn(k+) - fn(k-) at the kinks, exactly 0 where fn is continuous."""
    eps = jnp.finfo(at.dtype).eps
    step = eps**0.5 * jnp.maximum(activation.scale, jnp.abs(at))
    rise = lambda h: fn(at + h) - fn(at - h)
    size = sum(jnp.abs(fn(at + h)) for h in (-activation.scale, -step, step, activation.scale))
    jump = 2 * rise(step) - rise(2 * step)
    return jnp.where(jnp.abs(jump) <= eps**0.6 * size, 0.0, jump)


_covariance = with_slope(_covariance_at, lambda z, x: _slope_of_product(0, z, x))
_separation = with_slope(_separation_at, lambda z, x: -_slope_of_product(0, (z[0], z[1], z[1]), x))
