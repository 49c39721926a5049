r"""The curve on which free probability makes the spectrum of a deep Jacobian real.

With S-transforms S(m) of d^2 and of W W^T, the squared singular values x of L layers obey
x = (1 + m)/m [S_D(m) S_W(m)]^-L, where m = E lambda/(x - lambda) has an imaginary part
-+ pi times their density per unit of log x. Instead of m the unknown here is the point y at
which m = psi(y) = E y d^2/(1 - y d^2): no function is then inverted, and with

    v = E 1/(1 - y d^2) = 1 + m,    u = E d^2/(1 - y d^2) = m/y,    e = -s_1

(e = 1 for Gaussian and 0 for orthogonal weights)

    log x = (L - 1) log(u/v) + e L log v - log y + L log sigma_w^2.

With k = 1/(1 - y d^2) all that spreads the spectrum is a variance (Lagrange's identity):
Im(u v*) = r sin(theta) [E|k|^2 E d^4|k|^2 - (E d^2|k|^2)^2] >= 0, y = r exp(i theta). Expectations are sums
over the bent line of ``spectra.contour``, on which they are smooth however near the real axis
the curve runs; where all slopes are nearly equal, u/v = 1 - E (1 - d^2)k / v keeps every digit of the spread.

On a ray y = exp(s + i theta) the imaginary part of this divided by theta falls strictly from
theta = 0 to pi, where it is -1: u/v and v are exponentials of functions
with a positive spectral measure on t > 0, and r sin(theta)/theta / |t - y|^2 falls. So every s
has exactly one theta in [0, pi) at which x is real, whatever phi, L and e: a scalar
root with a bracket, no branch to be chosen. theta = 0 lies outside the spectrum; x falls as
s grows. At large L theta comes within pi/L of pi: tan(theta/2) is the variable, in which
neither end loses digits.

The probability of squared singular values above x is then a formula,

    pi P = arg v + L [B - (1 - e) arg v - e Im m],    B = -E arg(1 - y d^2).

Sources: THEORY section 11; Pennington, Schoenholz & Ganguli, arXiv:1802.09979; Belinschi &
Bercovici, Math. Z. 248 (2004); the parametrisation by y and the survival function are derived here.
"""

import functools
import operator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from meanfield.numerics.pytrees import register_dataclass
from meanfield.numerics.roots import falling_root, nonzero
from meanfield.spectra.contour import BentLaw
from meanfield.spectra.slopes import SlopeLaw

_AGREED = 1e-8  # over the depth: what nodes on the real line may differ by from those on the bent one


@register_dataclass
@dataclass(frozen=True, eq=False)
class Product:
    """What a product of independent layers is made of; scalars beside the laws.

    slopes, bent: the law of squared slopes at real nodes, and along the bent line (None where
        nothing of the curve lies so near the axis).
    depth: L, a real number of at least 1. exponent: e above.
    """

    slopes: SlopeLaw
    bent: BentLaw | None
    depth: Array
    exponent: Array

    @property
    def longest(self) -> float:
        """The largest s that squares of exp(s) do not overflow at."""
        return 300.0 if jnp.finfo(self.slopes.square.dtype).bits >= 64 else 40.0

    # --- on the real axis -------------------------------------------------------

    def real_slope(self, s, past_atom=False):
        """lim (imaginary part of log x)/theta as theta -> 0, at real y = exp(s) outside the spectrum.

        past_atom: s is looked for between a pole of v and its zero, beyond which this returns 1.
        """
        sums = Sums(self, jnp.expm1(s)[None] + 0j)
        return jnp.where(past_atom & (sums.v.real[0] >= 0), 1.0, sums.rate.real[0])

    def gap_slope(self, s):
        """``real_slope``, below 0 in gaps of the spectrum, where x > 0 on the branch of the curve; else 1."""
        sums = Sums(self, jnp.expm1(s)[None] + 0j)
        v, ratio = sums.v.real[0], sums.ratio.real[0]
        on_branch = ((self.depth == 1) | (ratio > 0)) & ((self.exponent == 0) | (v > 0))
        return jnp.where(on_branch, sums.rate.real[0], 1.0)

    def real_log(self, s):
        """log x at real y = exp(s) outside the spectrum, less L log(sigma_w^2 largest d^2)."""
        sums = Sums(self, jnp.expm1(s)[None] + 0j)
        u, v = jnp.log(jnp.abs(sums.u[0])), jnp.log(jnp.abs(sums.v[0]))
        return (self.depth - 1) * (u - v) + self.exponent * self.depth * v - s

    # --- on the curve -----------------------------------------------------------

    def half_angle(self, s, start=None):
        """log tan(theta/2) of the point on the curve at each s, shape (points,), from guesses if given.

        Differentiable by the implicit function theorem.
        """
        lowest, highest = -30.0, 30.0
        start = jnp.zeros_like(s) if start is None else jnp.clip(start, lowest + 1, highest - 1)
        return falling_root(lambda w: self.at(s, w).log_excess, start, lowest, highest)

    def at(self, s, w) -> "CurvePoint":
        """The sums over the law at y = exp(s + i theta), w = log tan(theta/2); shape (points,)."""
        return CurvePoint(self, s, w)


class _Nodes:
    """Sums over the nodes of one law at points y = 1 + ``beyond``, shape (points,)."""

    def __init__(self, value, weight, beyond):
        self.value, self.weight = value, weight
        short = 1 - value
        self.gap = short - value * beyond[:, None]
        size = abs2(self.gap)
        self.k = jnp.conj(self.gap) / jnp.where(size == 0, jnp.finfo(size.dtype).tiny ** 0.25, size)
        parts = jnp.stack([weight, weight * value, weight * short], axis=1)
        self.v, self.u, self.lost = jnp.moveaxis(self.k @ parts.astype(self.k.dtype), 1, 0)

    @functools.cached_property
    def _centred(self):
        size = abs2(self.k)
        centre = (size @ (self.weight * self.value)) / (size @ self.weight)
        off = self.value - centre[:, None]
        weight = self.weight * self.k**2
        return centre, *(jnp.sum(weight * off**n, axis=-1) for n in (0, 1, 2))

    @property
    def first(self):
        """Sum of t k^2."""
        centre, m0, m1, _ = self._centred
        return m1 + centre * m0

    @property
    def spread(self):
        """Variance of t under k^2, times its sum squared, over v."""
        _, m0, m1, m2 = self._centred
        return m0 / self.v * m2 - m1 / self.v * m1

    @property
    def turn(self):
        """-E arg(1 - y t)."""
        log = 0.5 * jnp.log(abs2(self.gap)) + 1j * arg(self.gap)
        return -jnp.imag(log @ self.weight.astype(log.dtype))


class Sums:
    """v and u at points y = 1 + ``beyond``, shape (points,), and what follows from them there.

    From nodes on the real line, to every digit, where those resolve the integrals; else from the bent line.
    """

    def __init__(self, product: Product, beyond):
        law, bent = product.slopes, product.bent
        self.product, self.y = product, 1 + beyond
        self.nodes = [_Nodes(law.square, law.weight, beyond)]
        self.resolved = jnp.asarray(True)
        names = ("v", "u", "lost")
        if bent is not None:
            self.nodes.append(_Nodes(bent.value, bent.weight, beyond))
            double = jnp.finfo(self.y.dtype).bits >= 64
            tolerance = _AGREED * jnp.maximum(1 / product.depth, 0.03) if double else 1e-4
            self.resolved = functools.reduce(jnp.logical_and, (self._apart(n) <= tolerance for n in names))
        self.v, self.u, self.lost = (self.pick(operator.attrgetter(name)) for name in names)

    def _apart(self, name):
        one, other = (jax.lax.stop_gradient(getattr(n, name)) for n in self.nodes)
        # Near an atom its pole is most of the sums, and the rest is what matters.
        size = jnp.minimum(jnp.abs(one), 1.0)
        return jnp.abs(one - other) / nonzero(size)

    def pick(self, quantity):
        """By the nodes that serve at each point."""
        return jnp.where(self.resolved, quantity(self.nodes[0]), quantity(self.nodes[-1]))

    @property
    def ratio(self):
        """u/v, by whichever of its two expressions cancels less."""
        return jnp.where(abs2(self.lost) < abs2(self.u), 1 - self.lost / self.v, self.u / self.v)

    @property
    def rate(self):
        """d log x / d log y."""
        p = self.product
        first, spread = (self.pick(operator.attrgetter(name)) for name in ("first", "spread"))
        slope = (p.depth - 1) * spread / self.u + p.exponent * p.depth * first / self.v
        return self.y * slope - 1


class CurvePoint:
    """What the sums say at y = exp(s + i theta), w = log tan(theta/2); everything of shape (points,)."""

    def __init__(self, product: Product, s, w):
        self.product, self.s = product, s
        tangent = jnp.exp(w)
        self.theta = 2 * jnp.arctan(tangent)
        # exp(i theta) - 1 = i sin(theta) - 2 sin^2(theta/2), in which neither end loses digits.
        turned = (1j * tangent - tangent**2) * 2 / (1 + tangent**2)
        self.sums = Sums(product, jnp.expm1(s) + jnp.exp(s) * turned)
        self.v, self.ratio = self.sums.v, self.sums.ratio

    @property
    def log_excess(self):
        """log of [(L - 1) arg(u/v) + e L arg v]/theta: zero on the curve, falling in theta."""
        p = self.product
        turned = (p.depth - 1) * arg(self.ratio) + p.exponent * p.depth * arg(self.v)
        tiny = jnp.finfo(self.theta.dtype).tiny
        return jnp.log(jnp.maximum(turned, tiny) / self.theta)

    @property
    def log_x(self):
        """log of the squared singular value, less L log(sigma_w^2 largest d^2)."""
        p = self.product
        half = (p.depth - 1) * jnp.log(abs2(self.ratio)) + p.exponent * p.depth * jnp.log(abs2(self.v))
        return half / 2 - self.s

    @property
    def density(self):
        """Probability per unit of log x."""
        return jnp.maximum(self.v.imag, 0.0) / jnp.pi

    @property
    def survival(self):
        """Probability of larger values."""
        p, turn = self.product, self.sums.pick(operator.attrgetter("turn"))
        lost = (1 - p.exponent) * arg(self.v) + p.exponent * self.v.imag
        return (arg(self.v) + p.depth * (turn - lost)) / jnp.pi

    @property
    def stretch(self):
        """-d log x / ds along the curve."""
        slope = self.sums.rate
        # log x stays real: d theta = -Im/Re ds. Where it falls no more, that is rounding.
        return -abs2(slope) / jnp.where(slope.real < 0, slope.real, -jnp.inf)


def arg(z):
    return jnp.arctan2(z.imag, z.real)


def abs2(z):
    return z.real**2 + z.imag**2
