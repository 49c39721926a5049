r"""The law of an activation's squared slopes, d^2 = phi'(sqrt(q) z)^2 with z standard normal.

Every spectrum is a function of this law alone. It is held as a discrete one: the nodes
and weights of a fixed quadrature, graded towards kinks and origin as for the moments.
Where phi is straight between two kinks the nodes share one value, and the atom that the
law has there is exact. Squares are kept relative to the largest, so that no power of them
overflows however deep the network.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meanfield.dual.quadrature import _tail, graded_nodes
from meanfield.fixed_points.concrete import solve_concrete
from meanfield.fixed_points.variance import variance_fixed_point
from meanfield.layers import Dense
from meanfield.numerics.broadcasting import pointwise
from meanfield.numerics.compiling import compiled
from meanfield.numerics.memo import Memo
from meanfield.numerics.pytrees import rebuilt, register_dataclass, replaced
from meanfield.numerics.roots import halved, nonzero
from meanfield.priors import PARAMETERS, NormalPrior
from meanfield.status import Status

_COUNTS = (96, 64)  # of nodes near and far, on each side of a kink, in double precision
_FEW = (48, 32)
_FAR = 1e15
_SEARCHED, _MOST_SILENT, _SAME = 20.0, 16, 1e-6
_FLAT = 1e-12  # a squared slope below it, at vanishing variance, is the limit 0


@register_dataclass
@dataclass(frozen=True, eq=False)
class SlopeLaw:
    """Squared slopes ``exp(log_scale) square`` with probabilities ``weight``; shape (nodes,).

    square: relative to the largest, which is 1. largest: that value; log_scale: its
    logarithm. unbounded: whether
    slopes beyond every bound occur, the largest node being only the last that matters.
    """

    square: Float[Array, " nodes"]
    weight: Float[Array, " nodes"]
    largest: Float[Array, ""]
    log_scale: Float[Array, ""]
    unbounded: Array

    @classmethod
    def of(cls, layer, q) -> "SlopeLaw":
        """The law at variance q > 0. Slopes that round to zero count as zero."""
        if layer.dual.pieces:
            pieces = jnp.stack([jnp.asarray(x, q.dtype) for x in layer.dual.pieces])
            square, weight = pieces**2, jnp.full(2, 0.5, q.dtype)
            unbounded = jnp.asarray(False)
        else:
            u, weight = slope_rule(layer.activation, q)
            square = slope(layer.activation, u) ** 2
            far = slope(layer.activation, jnp.asarray([-_FAR, _FAR], q.dtype)) ** 2
            unbounded = jnp.max(far) > 2 * jnp.max(square)
        largest = jnp.max(square)
        some = largest > 0
        safe = jnp.where(some, largest, 1.0)
        log_scale = jnp.where(some, jnp.log(safe), -jnp.inf)
        return cls(square / safe, weight / jnp.sum(weight), safe, log_scale, unbounded)

    def above_least(self) -> "SlopeLaw":
        """The law in which squares below ``least`` of the largest are zero."""
        square = jnp.where(self.square < self.least, 0.0, self.square)
        return SlopeLaw(square, self.weight, self.largest, self.log_scale, self.unbounded)

    @property
    def least(self) -> float:
        """Of the largest: squares below that are zero to a Jacobian, whose sums must not overflow."""
        return 1e-125 if jnp.finfo(self.square.dtype).bits >= 64 else 1e-16

    @property
    def zero(self):
        """P(d = 0)."""
        return jnp.sum(jnp.where(self.square == 0, self.weight, 0.0))

    @property
    def top(self):
        """Probability of the largest value."""
        return jnp.sum(jnp.where(self.square == 1, self.weight, 0.0))

    @property
    def mean(self):
        """E d^2, relative to the largest value."""
        return jnp.sum(self.weight * self.square)

    @property
    def centred(self):
        """d^2 - E d^2, relative to the largest value."""
        return self.square - self.mean

    @property
    def relative_variance(self):
        """Var d^2 / (E d^2)^2."""
        return jnp.sum(self.weight * self.centred**2) / nonzero(self.mean) ** 2

    @property
    def log_mean(self):
        """log E d^2; -inf where every slope is 0."""
        some = self.mean > 0
        return jnp.where(some, jnp.log(jnp.where(some, self.mean, 1.0)) + self.log_scale, -jnp.inf)


def slope_rule(activation, q):
    """Nodes sqrt(q) z and Gaussian weights for integrals over slopes."""
    root = jnp.sqrt(q)
    tail = _tail(q.dtype)
    kinks = jnp.asarray(activation.landmarks, q.dtype) / root
    scale = jnp.minimum(1.0, activation.scale / root)
    counts = _COUNTS if jnp.finfo(q.dtype).bits >= 64 else _FEW
    z, weight = graded_nodes(kinks, scale, -tail, tail, counts)
    return root * z, weight


def _tanh_slope(u):
    return 4 * jax.nn.sigmoid(2 * u) * jax.nn.sigmoid(-2 * u)


def _sigmoid_slope(u):
    return jax.nn.sigmoid(u) * jax.nn.sigmoid(-u)


def _gelu_tanh_slope(u):
    """phi = u sigmoid(2 g(u)) with g = sqrt(2/pi) (u + 0.044715 u^3)."""
    twice = np.sqrt(8 / np.pi) * u * (1 + 0.044715 * u**2)
    rate = np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * u**2)
    return jax.nn.sigmoid(twice) * (1 + u * rate * jax.nn.sigmoid(-twice))


_SATURATING = {jnp.tanh: _tanh_slope, jax.nn.sigmoid: _sigmoid_slope, jax.nn.gelu: _gelu_tanh_slope}


def slope(activation, u):
    """phi'(u); to relative accuracy also where a known function saturates and 1 - tanh^2 would cancel."""
    if activation.program in _SATURATING:
        return _SATURATING[activation.program](u)
    return jax.jvp(activation, (u,), (jnp.ones_like(u),))[1]


_slope = compiled(0)(slope)


def silent_points(activation) -> tuple[float, ...]:
    """Where phi' passes through zero, of an activation without parameters; none if there are many."""
    if activation.params or activation.traced:
        return ()
    return _SILENT_POINTS(activation.key, lambda: _silent_points(activation))


_SILENT_POINTS: Memo[tuple[float, ...]] = Memo(256)


def _silent_points(activation):
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        sign_at = lambda u: np.sign(np.asarray(_slope(activation, u)))
        u = np.linspace(-_SEARCHED, _SEARCHED, 4096)  # without the origin
        sign = sign_at(u)
        at = np.flatnonzero(sign[1:] * sign[:-1] < 0)
        low, high = u[at], u[at + 1]
        for _ in range(60 if at.size else 0):
            low, high = halved(lambda u: sign_at(u) == sign[at], low, high, np)
    smooth = [x for x in low if all(abs(x - k) > _SAME for k in activation.kinks)]
    known = np.array([*activation.landmarks, np.inf])
    nearest = [known[np.argmin(np.abs(known - x))] for x in smooth]
    silent = [float(k if abs(x - k) < _SAME else x) for x, k in zip(smooth, nearest, strict=True)]
    return tuple(silent) if len(silent) <= _MOST_SILENT else ()


def like_gaussian(layer) -> Dense:
    """The layer whose signals are the same, so that both laws of weights share what is compiled."""
    prior = layer.prior
    leaves = {name: getattr(prior, name) for name in PARAMETERS}
    return replaced(layer, prior=rebuilt(NormalPrior, **leaves))


def stationary_points(layer, q0):
    """(q*, the variance at which to take slopes, status) from starts q0; arrays.

    At an unbounded or vanishing variance slopes are those far from the origin, or at it.
    """
    point = solve_concrete(layer, q0, 0.0)
    if point is not None and np.isin(point.status, _SAID_BY_THE_VARIANCE).all():
        found = _with_stand_in(np.asarray(point.q), np.asarray(point.status), np)
        return tuple(map(jax.device_put, found))
    return pointwise(_stationary_point, layer, q0)


_SAID_BY_THE_VARIANCE = (Status.CONVERGED, Status.UNBOUNDED, Status.VANISHING, Status.INVALID)


def _stationary_point(layer, q0):
    valid = layer.is_valid() & jnp.isfinite(q0) & (q0 >= 0)
    layer, q0 = layer.guarded(valid), jnp.where(valid, q0, 1.0)
    q, status = variance_fixed_point(layer, q0)
    return _with_stand_in(jnp.where(valid, q, jnp.nan), jnp.where(valid, status, Status.INVALID))


def _with_stand_in(q, status, xp=jnp):
    """(q*, the variance that stands for it where it is 0 or infinite, status)."""
    ends = {Status.UNBOUNDED: (xp.inf, 1e20), Status.VANISHING: (0.0, 1e-20)}
    value, at = q, xp.where(status == Status.INVALID, xp.ones_like(q), q)
    for code, (end, stand_in) in ends.items():
        here = status == code
        value = xp.where(here, xp.full_like(q, end), value)
        at = xp.where(here, xp.full_like(q, stand_in), at)
    return value, at, status.astype(xp.int32)


def slopes_at(layer, at, status):
    """(law of the squared slopes, status) at a stationary point; scalars.

    The law is NaN where slopes grow without bound, or phi jumps; that is INACCURATE.
    """
    law = SlopeLaw.of(layer, at)
    flat = (status == Status.VANISHING) & (law.log_scale < jnp.log(_FLAT))
    scale = jnp.where(flat, -jnp.inf, law.log_scale)
    undefined = layer.activation.has_jump() | (law.unbounded & (status == Status.UNBOUNDED))
    scale = jnp.where(undefined, jnp.nan, scale)
    usable = (status == Status.CONVERGED) | (status == Status.UNSTABLE)
    status = jnp.where(usable & undefined, Status.INACCURATE, status)
    return SlopeLaw(law.square, law.weight, law.largest, scale, law.unbounded), status
